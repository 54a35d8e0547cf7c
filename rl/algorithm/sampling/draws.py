"""The problems that a run's steps get, each with its prompt and its seed; and what a checkpoint keeps of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rewards.types import Outcome, Problem
from rl.algorithm.sampling.groups import Question
from rl.algorithm.sampling.prefetch import Rollout
from rl.algorithm.sampling.replay import Replay
from rl.algorithm.sampling.seeds import group_seeds, seed_offset, seeds_used
from rl.config import RunConfig
from rl.data import PassRatePools, ProblemStream
from rl.types import Group

SEEDS = "seeds"
REPLAY = "replay"


class Draws:
    """Gives questions by their numbers in the endless row of problems.

    Without pass-rate pools that is a pure function of the number and the seed. With them it depends on what was
    observed so far, which `state` returns.
    """

    def __init__(
        self,
        config: RunConfig,
        train_problems: Sequence[Problem],
        first: int = 0,
        unlearned: Sequence[int] = (),
        state: Mapping[str, Any] | None = None,
    ) -> None:
        """Go on from step `first` with `unlearned` groups in flight, and a checkpoint's `state` if there is one."""
        weight = config.curriculum.no_signal_weight
        self._config = config
        self._stream = ProblemStream.of(train_problems, config.sources, config.seed)
        self._pools = None if weight == 1 else PassRatePools(weight, config.seed)
        self._offset = seed_offset(config, first, unlearned, (state or {}).get(SEEDS, 0))
        self._replay = Replay(config.curriculum.replay_problems, (state or {}).get(REPLAY))
        if self._pools is not None:
            self._pools.load_state(state or {})

    def questions(self, numbers: Sequence[int], encode: Callable[[Problem], list[int]]) -> list[Question]:
        """Return the questions of these numbers, in their order."""
        problems = self._stream.draw(numbers, self._pools)
        prompts, seeds = [encode(problem) for problem in problems], group_seeds(self._config, numbers, self._offset)
        return [Question(*each) for each in zip(numbers, problems, prompts, seeds, strict=True)]

    def replayed(self, rollout: Rollout) -> Rollout:
        """Return a step's rollout with the kept successes that are to be learned from again."""
        if not self._config.curriculum.replay_problems:
            return rollout
        return replace(rollout, replayed=self._replay.fill(rollout.groups))

    def observe(self, rollout: Rollout) -> dict[str, float]:
        """Take in how a step's groups did; return the metrics of the pools and of what is replayed."""
        self._replay.observe(rollout.groups)
        metrics = {} if rollout.replayed is None else self._replay.metrics(rollout.groups, rollout.replayed)
        return metrics | self._observe_rates(rollout.groups)

    def _observe_rates(self, groups: Sequence[Group]) -> dict[str, float]:
        if self._pools is None:
            return {}
        for group in groups:
            right = [reward.outcome is Outcome.CORRECT for reward in group.rewards if reward.is_valid]
            if right:
                self._pools.observe(group.problem, sum(right) / len(right))
        return self._pools.metrics()

    def state(self, step: int, unlearned: Sequence[int]) -> dict[str, Any]:
        """Return what later draws depend on, the steps before `step` being done."""
        pools = {} if self._pools is None else self._pools.state()
        kept = self._replay.state()
        replay = {REPLAY: kept} if kept else {}
        return {SEEDS: seeds_used(self._config, step, unlearned, self._offset), **pools, **replay}
