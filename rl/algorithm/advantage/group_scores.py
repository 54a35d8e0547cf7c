"""The logprobs of groups' completions under other weights than those that sampled them."""

from collections.abc import Sequence

from rl.types import Group, Learner, Under

Scores = Sequence[Sequence[Sequence[float]]]
"""A logprob for every token of every completion of every group."""


async def score_groups(groups: Sequence[Group], learner: Learner, under: Under) -> Scores:
    """Return what the learner scores each completion's tokens, in nats at temperature 1.

    An episode that ended before the policy wrote anything has no tokens, and is not asked about.
    """
    written = [(group, completion) for group in groups for completion in group.completions if completion.token_ids]
    sequences = [[*group.prompt, *completion.token_ids] for group, completion in written]
    scores = iter(await learner.score(sequences, under=under) if sequences else [])
    return [
        [list(next(scores)[-len(c.token_ids) :]) if c.token_ids else [] for c in group.completions] for group in groups
    ]
