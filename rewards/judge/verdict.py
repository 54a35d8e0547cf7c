"""The score in a judge's answer: the number in its last line, and nowhere else."""

import re

_MARKS = str.maketrans("", "", "*#$")
_FENCES = ("```", "~~~")
_NUMBER = r"-?\d{1,9}(?:\.\d{1,9})?"
_LABEL = r"(?:final\s+)?(?:score|verdict|rating|grade)"
_LINE = re.compile(
    rf"(?P<whole>\()?(?:{_LABEL}\s*[:=]\s*)?(?P<code>`)?(?P<score>{_NUMBER})(?(code)`)"
    rf"(?:\s*/\s*(?P<most>{_NUMBER}))?(?(whole)\))\.?",
    re.IGNORECASE,
)
_OBJECT = re.compile(rf'\{{\s*"{_LABEL}"\s*:\s*("?)(?P<score>{_NUMBER})\1\s*\}}', re.IGNORECASE)


def read_verdict(answer: str, scale: tuple[float, float]) -> float | None:
    """Return the reward of a judge's answer, 0 to 1; None if it states no score in the scale.

    Its last line must be a number, perhaps after ``Score:`` and before ``/ 10``: a judge quotes what it judges, so a
    score in any other line may be the policy's. So may one in a fence or between quotation marks: of a fence, only one
    that is the whole answer counts.
    """
    line = _last_line([line.strip() for line in answer.splitlines() if line.strip()])
    if line is None:
        return None
    if (entry := _OBJECT.fullmatch(line)) is not None:
        return _reward(entry["score"], None, scale)
    match = _LINE.fullmatch(line.translate(_MARKS).strip())
    return None if match is None else _reward(match["score"], match["most"], scale)


def _last_line(lines: list[str]) -> str | None:
    """Return the line that may hold the score: the last one, or the only one of an answer that is all in a fence."""
    fences = [place for place, line in enumerate(lines) if line.startswith(_FENCES)]
    if fences == [0, 2] and len(lines) == 3:
        return lines[1]
    is_open = len(fences) % 2 == 1
    return None if not lines or is_open or (fences and fences[-1] == len(lines) - 1) else lines[-1]


def _reward(stated: str, of: str | None, scale: tuple[float, float]) -> float | None:
    low, high = scale
    score = float(stated)
    if not low <= score <= high or (of is not None and float(of) != high):
        return None
    return (score - low) / (high - low)
