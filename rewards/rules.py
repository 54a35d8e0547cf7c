"""Choices of the default reward where opinions differ, and what the question says about them."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Rules:
    """Choices of ``[reward]``, with the strict defaults, and facts of one question.

    Example: ``Rules(decimals="exact")`` refuses 1.41421356 for the root of two.
    """

    decimals: int | Literal["exact"] = 6
    """Significant digits a decimal shows at least to stand for a number whose decimals do not end."""
    unevaluated: Literal["refuse", "accept"] = "refuse"
    """Calculations left to do: ``3 * 4`` for 12."""
    form: Literal["asked", "any"] = "asked"
    """``asked`` wants the form that the question asks for, and more than its question respelt."""
    truncated: Literal["refuse", "grade"] = "refuse"
    """Completions that were cut off by the token limit."""
    question: str = ""
    """The question, whose words may be units."""
    percent: bool = False
    """The question asks for a percentage: 60 and 60% both mean sixty percent."""
    positive: bool = False
    """The question says that its variables are positive."""

    @property
    def of_values(self) -> "Rules":
        """The part that concerns the comparison of two values; it is the same for many questions."""
        return Rules(decimals=self.decimals, positive=self.positive)


STRICT = Rules()
