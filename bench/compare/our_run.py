"""A real run of ours that takes one step at a time: Ray actors, vLLM, grading processes, learner, files and curves."""

import asyncio
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from lora.types import Adapter
from rl.algorithm.evaluation.held_out import Evaluation
from rl.cluster.components import open_components
from rl.cluster.connect import connect, disconnect
from rl.launch.sinks import make_sinks
from rl.launch.train_recipe import PreparedTrain as Prepared
from rl.monitoring.progress import LogLines
from rl.run.directory import RunDirectory
from rl.run.journal import FileJournal
from rl.run.sinks import Sinks
from rl.train import Components, train
from rl.types import Group, Learner


@dataclass(frozen=True, slots=True)
class Step:
    """One step: all of its seconds, and what its metrics say."""

    seconds: float
    metrics: dict[str, float]


class Turns(FileJournal):
    """Holds the loop between two steps until the next one is asked for. All else is as in any run."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._go: asyncio.Queue[None] = asyncio.Queue()
        self._done: asyncio.Queue[Step] = asyncio.Queue()
        self._metrics: dict[str, float] = {}
        self._start = 0.0
        self.accuracy: float | None = None
        """Of the policy that was evaluated last."""

    async def take(self) -> Step:
        """Let the loop do one step."""
        self._go.put_nowait(None)
        return await self._done.get()

    def release(self) -> None:
        """Let the loop end, all its steps being done."""
        self._go.put_nowait(None)

    async def on_eval(self, step: int, adapter: Adapter, evaluation: Evaluation, learner: Learner) -> None:
        await super().on_eval(step, adapter, evaluation, learner)
        self.accuracy = evaluation.accuracy

    async def restore(self, learner: Learner) -> int:
        step = await super().restore(learner)
        await self._wait()
        return step

    def on_step(self, step: int, metrics: dict[str, float], groups: Sequence[Group]) -> None:
        super().on_step(step, metrics, groups)
        self._metrics = metrics

    async def checkpoint(
        self, step: int, adapter: Adapter, learner: Learner, unlearned: Sequence[int] = (), drawn: object = None
    ) -> None:
        await super().checkpoint(step, adapter, learner, unlearned)
        self._done.put_nowait(Step(time.perf_counter() - self._start, self._metrics))
        await self._wait()

    async def _wait(self) -> None:
        await self._go.get()
        self._start = time.perf_counter()


@dataclass(slots=True)
class OurRun:
    """A run that stands ready."""

    prepared: Prepared
    parts: Components
    turns: Turns
    loop: "asyncio.Task[Adapter]"

    async def step(self) -> Step:
        """Do the next step. Raises whatever ends the run."""
        asked = asyncio.create_task(self.turns.take())
        await asyncio.wait([asked, self.loop], return_when=asyncio.FIRST_COMPLETED)
        if not asked.done():
            asked.cancel()
            self.loop.result()
        return await asked

    async def finish(self) -> float:
        """Accuracy of the last policy on the held-out problems, when every step is done."""
        self.turns.release()
        await self.loop
        assert self.turns.accuracy is not None
        return self.turns.accuracy


@asynccontextmanager
async def open_run(prepared: Prepared) -> AsyncGenerator[OurRun]:
    """Start it on a cluster of its own, which is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="speed-") as scratch:
        if prepared.config.runtime == "ray":
            await asyncio.to_thread(connect)
        try:
            directory = RunDirectory.create(Path(scratch) / "run", prepared.config)
            async with open_components(prepared.config, "run", prepared.encode) as parts:
                display = LogLines(Console(stderr=True), prepared.config.num_steps)
                sinks = Sinks([display, *make_sinks(prepared.config, directory, 0)])
                turns = Turns(directory, sinks, resume=False)
                loop = asyncio.create_task(train(prepared.config, prepared.problems, parts, turns))
                try:
                    yield OurRun(prepared, parts, turns, loop)
                finally:
                    loop.cancel()
                    with suppress(asyncio.CancelledError):
                        await loop
                    sinks.close("stopped")
        finally:
            disconnect()
