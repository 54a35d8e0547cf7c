"""The score in a judge's answer: the number in its last line, and nowhere else."""

import re

_MARKS = str.maketrans("", "", "*`#$")
_NUMBER = r"-?\d{1,9}(?:\.\d{1,9})?"
_LAST_LINE = re.compile(
    rf'[{{("]*(?:(?:final\s+)?(?:score|verdict|rating|grade)["\s]*[:=]\s*)?({_NUMBER})(?:\s*/\s*({_NUMBER}))?[")}}.]*',
    re.IGNORECASE,
)


def read_verdict(answer: str, scale: tuple[float, float]) -> float | None:
    """Return the reward of a judge's answer, 0 to 1; None if it states no score in the scale.

    Its last line must be a number, perhaps after ``Score:`` and before ``/ 10``: a judge quotes what it judges, so a
    score in any other line may be the policy's.
    """
    lines = [line.strip() for line in answer.translate(_MARKS).splitlines() if line.strip()]
    match = _LAST_LINE.fullmatch(lines[-1]) if lines else None
    if match is None:
        return None
    low, high = scale
    score, most = float(match[1]), match[2]
    if not low <= score <= high or (most is not None and float(most) != high):
        return None
    return (score - low) / (high - low)
