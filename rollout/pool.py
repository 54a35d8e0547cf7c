"""Several engines as one: spread the prompts, hand a dead worker's to the others, keep the order."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from lora.types import Adapter
from rollout.actor import EngineDied
from rollout.config import SamplingConfig
from rollout.types import Completion, Engine

log = logging.getLogger(__name__)


class EnginePool(Engine):
    """Every prompt is answered exactly once, whichever workers die meanwhile; a dead one is started again."""

    def __init__(
        self, engines: Sequence[Engine], start: Callable[[], Awaitable[Engine]] | None = None, max_restarts: int = 0
    ) -> None:
        assert engines
        self._engines = list(engines)
        self._start = start
        self._restarts_left = max_restarts

    async def sample(
        self, prompts: Sequence[Sequence[int]], adapter: Adapter, sampling: SamplingConfig, *, seeds: Sequence[int]
    ) -> list[list[Completion]]:
        answered: dict[int, list[Completion]] = {}
        while missing := [i for i in range(len(prompts)) if i not in answered]:
            shares = [missing[worker :: len(self._engines)] for worker in range(len(self._engines))]
            results = await asyncio.gather(
                *(
                    engine.sample([prompts[i] for i in share], adapter, sampling, seeds=[seeds[i] for i in share])
                    for engine, share in zip(self._engines, shares, strict=True)
                    if share
                ),
                return_exceptions=True,
            )
            busy = [(engine, share) for engine, share in zip(self._engines, shares, strict=True) if share]
            for (engine, share), result in zip(busy, results, strict=True):
                if isinstance(result, EngineDied):
                    await self._replace(engine, result)
                elif isinstance(result, BaseException):
                    raise result
                else:
                    answered.update(zip(share, result, strict=True))
        return [answered[i] for i in range(len(prompts))]

    async def score(self, sequences: Sequence[Sequence[int]], adapter: Adapter) -> list[list[float]]:
        while True:
            engine = self._engines[0]
            try:
                return await engine.score(sequences, adapter)
            except EngineDied as died:
                await self._replace(engine, died)

    def replicas(self) -> Sequence[Engine]:
        return list(self._engines)

    async def close(self) -> None:
        await asyncio.gather(*(engine.close() for engine in self._engines))

    async def _replace(self, dead: Engine, died: EngineDied) -> None:
        """Start a new worker in the dead one's place; without restarts left, go on with the others.

        Raises:
            EngineDied: it was the last one.
        """
        log.warning("%s", died)
        self._engines.remove(dead)
        if self._start is not None and self._restarts_left > 0:
            self._restarts_left -= 1
            self._engines.append(await self._start())
            log.warning("started a new rollout worker; %d restarts left", self._restarts_left)
        if not self._engines:
            raise EngineDied(
                "every rollout worker died, and rollout.max_restarts is used up; look at the workers' logs, then resume"
            ) from died
