"""A call that is cancelled ends in the worker too: soon, without a trace, and without touching anybody else's."""

import asyncio
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import ray

from lora.config import LoraConfig, ModelConfig
from lora.types import Adapter
from rollout.config import RolloutConfig, SamplingConfig
from rollout.environment import worker_environment
from rollout.pool.engine_pool import EnginePool
from rollout.ray.engine import AdapterStore, EngineActor, RayEngine
from rollout.torch.engine import TorchEngine
from rollout.types import Completion, Engine, Place

LORA = LoraConfig(rank=1)
LONG = SamplingConfig(group_size=4, max_tokens=50)
PROMPTS = [[5 + i % 20, 9, *[3 + i % 7] * (1 + i % 4)] for i in range(16)]
SEEDS = list(range(100, 116))


class HeldActor(EngineActor):
    """A worker whose engine goes as far as it is let, and that says what is under way in it."""

    async def start(self, *arguments: Any) -> None:
        await super().start(*arguments)
        self.steps = threading.Semaphore(0)
        """Steps that vLLM may take."""
        self.pause = 0.0
        """Seconds that the torch engine takes more for a step."""
        self.ended = dict[str, int]()
        """Sampling requests of each run that vLLM brought to their end."""
        engine: Any = self._engine
        if isinstance(engine, TorchEngine):
            engine._model.register_forward_pre_hook(lambda *_: time.sleep(self.pause))
            return
        thread = engine._thread
        step, deliver = thread._engine.step, thread._deliver

        def held() -> Any:
            self.steps.acquire()
            return step()

        def noted(output: Any) -> None:
            call, _ = thread._open[output.request_id]
            if output.finished and call.samples:
                self.ended[call.adapter.run] = self.ended.get(call.adapter.run, 0) + 1
            deliver(output)

        thread._engine.step, thread._deliver = held, noted

    async def allow(self, steps: int) -> None:
        self.steps.release(steps)

    async def let_in(self) -> None:
        """Allow a step if calls wait for its end, and no other: those that are under way must not come to theirs."""
        engine: Any = self._engine
        self.steps.acquire(blocking=False)
        if engine._thread._inbox.qsize():
            self.steps.release()

    async def forbid(self) -> None:
        while self.steps.acquire(blocking=False):
            pass

    async def slow(self, seconds: float) -> None:
        self.pause = seconds

    async def progress(self) -> int:
        return self._engine.progress()

    async def under_way(self) -> tuple[Counter[str], Counter[str], dict[str, int]]:
        """Requests of each run that vLLM was given, those of them that nobody wants any more, and those that ended."""
        engine: Any = self._engine
        calls = [call for call, _ in list(engine._thread._open.values())]
        unwanted = Counter(call.adapter.run for call in calls if call.unwanted)
        return Counter(call.adapter.run for call in calls), unwanted, self.ended

    async def left(self) -> tuple[int, set[str]]:
        """Return what vLLM holds while idle: the number of unfinished requests, and adapters by name."""
        engine: Any = self._engine
        vllm, adapters = engine._thread._engine, engine._thread._adapters
        assert {loaded.request.lora_int_id for loaded in adapters._loaded.values()} == set(vllm.list_loras())
        directories = {loaded.directory for loaded in adapters._loaded.values()}
        assert {path for path in engine._home.path.iterdir() if path.is_dir()} == directories
        assert all(loaded.users == 0 for loaded in adapters._loaded.values())
        scheduled = vllm.engine_core.engine_core.scheduler.get_num_unfinished_requests()
        return scheduled + vllm.get_num_unfinished_requests(), set(adapters._loaded)


@asynccontextmanager
async def worker(model: ModelConfig, engine: str, adapters: int = 3) -> AsyncGenerator[tuple[EnginePool, Any]]:
    """A pool of one worker, and the actor behind it."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the actor cannot import a test
    config = RolloutConfig.model_validate({"engine": engine, "adapters_in_flight": adapters})
    environment = worker_environment(config, threads=1, on_gpu=False)
    actor: Any = ray.remote(HeldActor)
    handle = actor.options(runtime_env={"env_vars": environment}, max_concurrency=64, num_cpus=0).remote()
    remote = RayEngine(handle, AdapterStore(), stall_timeout=60)

    async def start(_: int) -> Engine:
        raise AssertionError("a worker that is told to stop is not dead")

    pool = EnginePool([remote], start, max_restarts=3)
    try:
        await handle.start.remote(model, LORA, config, 0, "cpu", 1)
        yield pool, handle
    finally:
        await pool.close()


def tokens(groups: Sequence[Sequence[Completion]]) -> list[list[tuple[int, ...]]]:
    return [[completion.token_ids for completion in group] for group in groups]


def by_place(groups: Sequence[Sequence[tuple[int, ...]]]) -> dict[Place, tuple[int, ...]]:
    return {(index, place): ids for index, group in enumerate(groups) for place, ids in enumerate(group)}


async def streamed(engine: Engine, adapter: Adapter) -> dict[Place, tuple[int, ...]]:
    """Return the tokens of what comes completion by completion."""
    stream = engine.stream_completions(PROMPTS, adapter, LONG, seeds=SEEDS)
    return {place: completion.token_ids async for place, completion in stream}


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await true():
            await asyncio.sleep(0.02)


async def cancelled(*calls: "asyncio.Task[Any]") -> None:
    for call in calls:
        assert not call.done()
        call.cancel()
    assert all(isinstance(end, asyncio.CancelledError) for end in await asyncio.gather(*calls, return_exceptions=True))


@pytest.mark.usefixtures("ray_cluster")
async def test_vllm_aborts_what_is_cancelled_and_nothing_else(
    tiny_model: ModelConfig, make_adapter: Callable[..., Adapter]
) -> None:
    """A run's completions, at once and as they end, its next version's, which wait for them, scores, and a call that is
    cancelled on its way; beside them another run's completions. In the end a stream of parts whose reader goes away."""
    old, new, newest = (make_adapter(tiny_model, LORA, run="mine", version=i, seed=i) for i in (1, 2, 3))
    other = make_adapter(tiny_model, LORA, run="other", seed=3)
    async with worker(tiny_model, "vllm") as (pool, handle):

        def sample(adapter: Adapter) -> "asyncio.Task[Any]":
            return asyncio.create_task(pool.sample(PROMPTS, adapter, LONG, seeds=SEEDS))

        def stream(adapter: Adapter) -> "asyncio.Task[Any]":
            return asyncio.create_task(streamed(pool, adapter))

        async def all_are_begun() -> bool:
            await handle.let_in.remote()  # the engine looks for calls between two steps
            begun, _, ended = await handle.under_way.remote()
            counts = {run: begun[run] + ended[run] - before[run] for run in ("mine", "other")}
            return counts == {"mine": (1 + LONG.group_size) * len(PROMPTS), "other": len(PROMPTS)}

        async def all_are_unwanted() -> bool:
            begun, unwanted, _ = await handle.under_way.remote()
            return unwanted["mine"] == begun["mine"]  # none, where a slow engine still had steps to take

        await handle.allow.remote(10_000)
        expected = {adapter.name: tokens(await sample(adapter)) for adapter in (old, new, other)}
        await handle.forbid.remote()
        _, _, before = await handle.under_way.remote()
        dropped, kept = [sample(old), stream(old), sample(new), stream(new)], sample(other)
        await until(all_are_begun)
        late = [sample(newest), asyncio.create_task(pool.score([[3, 4, 5], [6, 7]], old))]
        await asyncio.sleep(0)
        await cancelled(*dropped, *late)
        await until(all_are_unwanted)
        await handle.allow.remote(10_000)
        assert tokens(await kept) == expected[other.name]
        _, _, ended = await handle.under_way.remote()
        assert ended["other"] - before["other"] == len(PROMPTS)
        whole = 2 * (1 + LONG.group_size) * len(PROMPTS)
        assert ended["mine"] - before["mine"] < whole / 4, "some may just have ended"
        assert (await handle.left.remote())[0] == 0
        for adapter in (old, new):
            assert tokens(await sample(adapter)) == expected[adapter.name]
        assert await stream(new) == by_place(expected[new.name])
        assert await handle.left.remote() == (0, {other.name, new.name})

        async def nothing_is_under_way() -> bool:
            begun, _, _ = await handle.under_way.remote()
            return not begun

        await handle.forbid.remote()
        _, _, before = await handle.under_way.remote()
        parts = pool.stream_parts(PROMPTS[0], new, LONG, seed=1)
        reading = asyncio.ensure_future(anext(parts))
        await handle.allow.remote(2)
        assert len((await reading).token_ids) < LONG.max_tokens
        await parts.aclose()
        await until(all_are_unwanted)
        await handle.allow.remote(1)
        await until(nothing_is_under_way)
        _, _, ended = await handle.under_way.remote()
        assert ended == before, "it was aborted, and not written to its end"
        assert (await handle.left.remote())[0] == 0
        assert len(pool.replicas()) == 1


@pytest.mark.usefixtures("ray_cluster")
async def test_the_torch_engine_stops_and_starts_as_if_nothing_had_been(
    tiny_model: ModelConfig, make_adapter: Callable[..., Adapter]
) -> None:
    mine, other = (make_adapter(tiny_model, LORA, run=run, seed=seed) for run, seed in (("mine", 1), ("other", 2)))
    here = TorchEngine(tiny_model, LORA)
    expected = tokens(await here.sample(PROMPTS[:4], other, LONG, seeds=SEEDS[:4]))
    positions = here.progress()
    async with worker(tiny_model, "torch") as (pool, handle):

        async def is_at_work() -> bool:
            return await handle.progress.remote() > 2

        await handle.slow.remote(0.05)
        first = asyncio.create_task(pool.sample(PROMPTS, mine, LONG, seeds=SEEDS))
        waiting = [asyncio.create_task(streamed(pool, mine)) for _ in range(2)]
        kept = asyncio.create_task(pool.sample(PROMPTS[:4], other, LONG, seeds=SEEDS[:4]))
        await until(is_at_work)
        await cancelled(first, *waiting)
        await handle.slow.remote(0)
        assert tokens(await kept) == expected
        assert await handle.progress.remote() < positions + 4 * 49, "the first alone has so many positions"
        expected = tokens(await here.sample(PROMPTS, mine, LONG, seeds=SEEDS))
        assert tokens(await pool.sample(PROMPTS, mine, LONG, seeds=SEEDS)) == expected
        assert await streamed(pool, mine) == by_place(expected)
        assert len(pool.replicas()) == 1


async def test_the_torch_engine_hears_of_it_in_this_process(
    tiny_model: ModelConfig, make_adapter: Callable[..., Adapter]
) -> None:
    mine, other = (make_adapter(tiny_model, LORA, run=run, seed=seed) for run, seed in (("mine", 1), ("other", 2)))
    engine = TorchEngine(tiny_model, LORA)
    expected = [tokens(await engine.sample(PROMPTS, adapter, LONG, seeds=SEEDS)) for adapter in (mine, other)]
    before = engine.progress()
    first = asyncio.create_task(engine.sample(PROMPTS, mine, LONG, seeds=SEEDS))
    second = asyncio.create_task(engine.sample(PROMPTS, other, LONG, seeds=SEEDS))
    scores = asyncio.create_task(engine.score(PROMPTS, mine))
    third = asyncio.create_task(streamed(engine, mine))
    parts = engine.stream_parts(PROMPTS[0], mine, LONG, seed=SEEDS[0])
    reading = asyncio.create_task(anext(parts))
    while engine.progress() < before + 3:
        await asyncio.sleep(0)
    await cancelled(first, scores, third, reading)
    await parts.aclose()
    assert engine.progress() - before < 10
    assert tokens(await second) == expected[1]
    before = engine.progress()
    parts = engine.stream_parts(PROMPTS[0], mine, LONG, seed=SEEDS[0])
    begun = await anext(parts)
    assert (begun.index, begun.token_ids) == (0, expected[0][0][0][:1])
    await parts.aclose()
    assert engine.progress() - before < 10, "its reader went away"
    assert await streamed(engine, mine) == by_place(expected[0])
