"""One reward a completion out of what was computed in a grading process and what was asked for elsewhere."""

from collections.abc import Mapping, Sequence

from rewards.functions.scores import RewardFunctionError, Score, Weighted, combine
from rewards.grading.messages import Graded, Item
from rewards.grading.panel import Verdict
from rewards.types import Outcome, Reward


def merge(terms: Sequence[Weighted], item: Item, computed: Graded, asked: Mapping[int, Sequence[Verdict]]) -> Graded:
    """Add the verdicts, by the terms' places, to the scores of the other terms. What was lost stays lost."""
    if not asked or not computed.scores:
        return computed
    rows = [_row(terms, computed.scores[i], asked, i) for i in range(len(item.texts))]
    failures = [score for row in rows for score in row if isinstance(score, RewardFunctionError)]
    failure = (failures[0].kind, str(failures[0])) if failures else None
    return Graded(tuple(_reward(terms, row) for row in rows), computed.seconds, failure)


def _row(
    terms: Sequence[Weighted], scores: Sequence[Score], asked: Mapping[int, Sequence[Verdict]], at: int
) -> list[Verdict]:
    """Return one completion's scores in the order of the terms."""
    rest = iter(scores)
    return [asked[place][at] if place in asked else next(rest) for place in range(len(terms))]


def _reward(terms: Sequence[Weighted], row: Sequence[Verdict]) -> Reward:
    scores = [score for score in row if not isinstance(score, RewardFunctionError)]
    return combine(terms, scores) if len(scores) == len(row) else Reward(0.0, Outcome.CRASHED)
