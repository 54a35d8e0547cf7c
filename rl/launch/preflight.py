"""Tries before a run begins that the grader can read the answers, and that a reward of the user's own works."""

import logging
from collections.abc import Sequence

from rewards.config import RewardConfig
from rewards.grading.preflight import preflight
from rewards.math_answer import check_answers
from rewards.types import Problem
from rl.config import RunConfig, replaced
from rl.learner.reward_model import check_reward_model, open_pool

log = logging.getLogger(__name__)


def check_readable(problems: Sequence[Problem]) -> None:
    """See that the default grader can read most answers, and log which it cannot.

    Raises:
        ValueError: it cannot read more than half of them.
    """
    unreadable = check_answers(problems)
    if len(unreadable) > len(problems) / 2:
        problem_id, reason = unreadable[0]
        raise ValueError(
            f"the grader cannot read {len(unreadable)} of {len(problems)} answers, such as problem {problem_id}: "
            f"{reason}; name the column with the final answer, or a reward function of your own"
        )
    for problem_id, reason in unreadable[:5]:
        log.warning("the answer of problem %s is matched by its spelling alone: %s", problem_id, reason)


async def try_rewards(config: RunConfig, problems: Sequence[Problem], *, teaches: bool = True) -> str:
    """Return what the rewards of all sources made of a few trial completions. Raises as `try_reward` does."""
    by_reward: dict[str, tuple[RewardConfig, list[Problem]]] = {}
    for problem in problems:
        reward = config.reward_of(problem.source)
        by_reward.setdefault(repr(reward), (reward, []))[1].append(problem)
    reports = [
        await try_reward(reward, tried, teaches=teaches, on_ray=config.on_ray) for reward, tried in by_reward.values()
    ]
    return "\n".join(filter(None, reports))


async def try_reward(
    reward: RewardConfig, problems: Sequence[Problem], *, teaches: bool = True, on_ray: bool = False
) -> str:
    """Return what a reward of the user's own made of a few trial completions; nothing of the default one.

    Where the run is `on_ray`, a reward model is to be loaded there and not here, so that the others are tried alone.

    Raises:
        ValueError: it does not work, or is constant, which matters only if it ``teaches``.
    """
    if on_ray:
        reward = _without_models(reward)
    if reward.is_default:
        return ""
    grader = open_pool(reward)
    try:
        return await preflight(grader, problems[:4], teaches=teaches)
    finally:
        await grader.close()


def _without_models(reward: RewardConfig) -> RewardConfig:
    """Return a reward without its reward models, which are looked at. Raises ValueError if one is not there."""
    for term in reward.terms:
        if term.reward_model is not None:
            check_reward_model(term)
    return replaced(reward, terms=tuple(term for term in reward.terms if term.reward_model is None))
