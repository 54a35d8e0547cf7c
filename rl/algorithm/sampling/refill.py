"""Problems that teach nothing are replaced within their step: DAPO's dynamic sampling (Yu et al. 2025, eq. 11).

A step has as many draws set aside for it as it may make rounds, used or not. So the problems and the seeds of a round
follow from the step, the round and how many are missing, and a run that is resumed draws the same ones.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

from rl.algorithm.advantage.overlong import group_advantages
from rl.algorithm.sampling.prefetch import Rollout
from rl.config import AdvantageKind, RunConfig
from rl.types import Group

Begin = Callable[[Sequence[int]], Awaitable[Rollout]]
"""Samples and grades the groups of these numbers, in their order."""


def round_numbers(config: RunConfig, step: int, refill: int, count: int) -> range:
    """Return the numbers of the problems of a step's round; `refill` 0 is what the step draws first."""
    first = (step * (1 + config.curriculum.refill_rounds) + refill) * config.problems_per_step
    return range(first, first + count)


async def sample_rounds(config: RunConfig, step: int, begin: Begin) -> Rollout:
    """Return all that a step draws: a round, and others in the place of groups without a signal."""
    groups, seconds, sought = list[Group](), Counter[str](), config.problems_per_step
    for refill in range(1 + config.curriculum.refill_rounds):
        rollout = await begin(round_numbers(config, step, refill, sought))
        groups += rollout.groups
        seconds.update(rollout.seconds)
        sought -= sum(has_signal(group, config) for group in rollout.groups)
        if not sought:
            break
    return Rollout(groups, dict(seconds))


def has_signal(group: Group, config: RunConfig) -> bool:
    """Return True if a completion was graded better than another, and one of these is to be learned from.

    A penalty of long completions is no grade: DAPO's criterion is that some are right and some are not.
    """
    return any(group_advantages(group, config, _comparison(config), penalised=False))


def group_comparisons(group: Group, config: RunConfig) -> list[float]:
    """Return the group's advantages; where those compare nothing, those over its mean."""
    return group_advantages(group, config, _comparison(config))


def _comparison(config: RunConfig) -> AdvantageKind:
    return "mean" if config.learner.advantage == "none" else config.learner.advantage


def learned_groups(groups: Sequence[Group], config: RunConfig) -> list[Group]:
    """Return those of a step's groups that it learns from: with refilling, those that have a signal."""
    return [group for group in groups if has_signal(group, config)] if config.curriculum.refill_rounds else [*groups]


def refill_metrics(groups: Sequence[Group], config: RunConfig) -> dict[str, float]:
    """Return the numbers of groups that a step drew, kept, and drew in the place of others, if it may."""
    if not config.curriculum.refill_rounds:
        return {}
    kept = len(learned_groups(groups, config))
    refilled = len(groups) - config.problems_per_step
    return {"rollout/drawn": float(len(groups)), "rollout/kept": float(kept), "rollout/refilled": float(refilled)}
