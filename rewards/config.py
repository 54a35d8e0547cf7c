"""The settings of grading."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from rewards.rules import Rules


class RewardTerm(BaseModel):
    """One reward function and its weight in the sum."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    function: str
    """`math_answer`, `file.py:name` or `package.module:name`."""
    weight: float = 1.0
    """The factor of its rewards in the sum."""


class RewardConfig(BaseModel):
    """How completions are graded."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    function: str = "math_answer"
    """`math_answer`, `file.py:name` or `package.module:name`."""
    terms: tuple[RewardTerm, ...] = ()
    """Several functions, added with their weights, in place of `function`."""
    decimals: Annotated[int, Field(ge=1, le=30)] | Literal["exact"] = 6
    """`math_answer`: significant digits of a decimal that stands for a number whose decimals do not end, or `exact`."""
    unevaluated: Literal["refuse", "accept"] = "refuse"
    """`math_answer`: calculations left to do, `3 * 4` for 12. Accepted, they pay for repeating the question's sum."""
    form: Literal["asked", "any"] = "asked"
    """`math_answer`: `asked` refuses answers not in the form that the question asks for, and its question respelt."""
    truncated: Literal["refuse", "grade"] = "refuse"
    """`math_answer`: completions that the token limit cut off. Graded, they pay for an answer and then babble."""
    conversational: bool | None = None
    """Give TRL functions completions as lists of messages, or as text; by default as their code expects them."""
    deadline_s: float = Field(default=5.0, gt=0, le=86_400)
    """Seconds one completion may take before its grader is killed and the outcome is `timeout`."""
    workers: int | None = Field(default=None, ge=1)
    """Grading processes; by default one per two cores, at least one, at most eight."""
    memory_mb: int = Field(default=2048, ge=256, le=2**24)
    """Address space of one grading process, above which it is stopped."""
    max_failed_fraction: float = Field(default=0.25, ge=0, le=1)
    """A step in which a larger share of grades crashed ends the run."""

    @property
    def rules(self) -> Rules:
        """The choices that `math_answer` is given."""
        return Rules(self.decimals, self.unevaluated, self.form, self.truncated)

    @property
    def is_default(self) -> bool:
        """True if answers are graded by our own parser alone; False for a reward of the user's own."""
        return self.function == "math_answer" and not self.terms
