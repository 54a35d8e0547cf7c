"""On-policy distillation: what the student wrote, judged token by token by a teacher.

The student samples, and a token's advantage is the negated reverse KL of that one token, log p_teacher - log p_student,
with no regard to the tokens after it (Thinking Machines, "On-Policy Distillation", 2025).
"""

from collections.abc import Sequence

import numpy as np

from rl.algorithm.advantage.group_scores import score_groups
from rl.algorithm.batch.counted import is_counted
from rl.algorithm.batch.packing import Advantage
from rl.algorithm.metrics import Stopwatch
from rl.config import RunConfig
from rl.types import Group, Learner
from rollout.types import Completion

LogRatios = Sequence[Sequence[Sequence[float]]]
"""log p_teacher - log p_student of every token of every completion of every group; 0 where it did not write it."""


async def teacher_log_ratios(
    groups: Sequence[Group], config: RunConfig, learner: Learner, watch: Stopwatch
) -> LogRatios | None:
    """Return how much likelier the teacher finds each token than the policy that sampled it; None without a teacher."""
    if not config.teacher.on:
        return None
    with watch.phase("teacher"):
        is_base = config.teacher.adapter is None and config.teacher.own_model(config.model) is None
        scores_P_G = await score_groups(groups, learner, "base" if is_base else "teacher")
    return [
        [_log_ratios(*pair) for pair in zip(group.completions, scores, strict=True)]
        for group, scores in zip(groups, scores_P_G, strict=True)
    ]


def with_teacher(
    groups: Sequence[Group], advantages_P_G: Sequence[Sequence[Advantage]], ratios_P_G: LogRatios, config: RunConfig
) -> list[list[Advantage]]:
    """Return the advantages of a step with a teacher: its own, added to those of rewards if these are to count."""
    return [_of_group(*each, config) for each in zip(groups, advantages_P_G, ratios_P_G, strict=True)]


def teacher_metrics(groups: Sequence[Group], ratios_P_G: LogRatios | None) -> dict[str, float]:
    """Return the reverse KL, student to teacher, in nats a token that the student wrote; nothing without a teacher."""
    if ratios_P_G is None:
        return {}
    total = sum(sum(tokens) for group in ratios_P_G for tokens in group)
    count = sum(completion.num_sampled for group in groups for completion in group.completions)
    return {"teacher/reverse_kl": -total / max(1, count)}


def _of_group(
    group: Group, values: Sequence[Advantage], ratios_G: Sequence[Sequence[float]], config: RunConfig
) -> list[Advantage]:
    graded = zip(group.completions, group.rewards, strict=True)
    counts = [is_counted(completion, reward, config.learner.truncated) for completion, reward in graded]
    triples = zip(values, ratios_G, counts, strict=True)
    return [_token_advantages(value, ratios, config) if counted else 0.0 for value, ratios, counted in triples]


def _log_ratios(completion: Completion, scores: Sequence[float]) -> list[float]:
    ratios = np.array(scores) - np.array(completion.logprobs)
    return (ratios if completion.loss_mask is None else ratios * np.array(completion.loss_mask)).tolist()


def _token_advantages(value: Advantage, ratios: Sequence[float], config: RunConfig) -> list[float]:
    taught = config.teacher.coef * np.array(ratios)
    return (taught + np.asarray(value) if config.teacher.rewards else taught).tolist()
