"""A reward that random weights earn half of the time: every group has something to teach, on either side."""

import zlib

from rewards.types import Problem


def coin(problem: Problem, completion: str) -> float:
    """Return 0 or 1, by the text."""
    return float(zlib.crc32(completion.encode()) & 1)
