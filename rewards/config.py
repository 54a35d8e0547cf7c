"""What can be turned in grading."""

from pydantic import BaseModel, ConfigDict, Field


class RewardTerm(BaseModel):
    """One reward function and its weight in the sum."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    function: str
    weight: float = 1.0


class RewardConfig(BaseModel):
    """How completions are graded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    function: str = "math_answer"
    """`math_answer`, `file.py:name` or `package.module:name`."""
    terms: tuple[RewardTerm, ...] = ()
    """Several functions, added with their weights, in place of `function`."""
    conversational: bool | None = None
    """Whether TRL functions get completions as lists of messages; by default as their code expects them."""
    deadline_s: float = Field(default=5.0, gt=0)
    """Seconds one completion may take before its grader is killed and the outcome is `timeout`."""
    workers: int | None = Field(default=None, ge=1)
    """Grading processes; by default one per two cores, at least one, at most eight."""
    memory_mb: int = Field(default=2048, ge=256)
    """Address space of one grading process, above which it is stopped."""
    max_failed_fraction: float = Field(default=0.25, ge=0, le=1)
    """A step in which a larger share of grades crashed ends the run."""
