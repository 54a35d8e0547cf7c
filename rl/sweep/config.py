"""The configuration of a sweep: the settings that vary, how they are searched, and when a run is stopped early."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from rl.config import Strict
from rl.run.kind import Kind

MOST_RUNS = 4096


class SearchConfig(Strict):
    """The choice among the points that the axes span."""

    kind: Literal["grid", "random"] = "grid"
    """Every point of the grid, or `samples` of them drawn at random."""
    samples: int = Field(default=16, ge=1, le=MOST_RUNS)
    """Settings that `random` draws; each is run with every seed."""
    seed: int = 0
    """Seed of the drawing."""


class StopConfig(Strict):
    """Early stopping, by Ray Tune's schedulers, on held-out accuracy; on log-loss with `recipe = "sft"`."""

    scheduler: Literal["none", "asha", "median"] = "none"
    """`asha` keeps the best 1 in `reduction_factor` at each rung; `median` stops what is below the others' median."""
    grace_steps: int = Field(default=1, ge=1)
    """No run is stopped before this step."""
    reduction_factor: float = Field(default=3.0, gt=1)
    """At each rung of `asha`, 1 in so many runs goes on."""
    min_others: int = Field(default=3, ge=1)
    """Others that `median` compares with at least."""


class SweepConfig(Strict):
    """A sweep, whole."""

    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    """By default the base run's, with `-sweep` behind it."""
    base: str | dict[str, Any]
    """The run whose settings hold where nothing else is said: its TOML file, beside this one, or its tables."""
    axes: dict[str, Any] = Field(default_factory=dict[str, Any])
    """Settings by name, each with the list of its values: `"lora.rank" = [1, 2, 4]`."""
    also: tuple[dict[str, Any], ...] = ()
    """More settings beside the axes, each a table of its own; a list in it is an axis of that table alone."""
    recipe: Kind = "train"
    """`sft` makes each run one of supervised fine-tuning; they are compared by their held-out log-loss."""
    search: SearchConfig = SearchConfig()
    stop: StopConfig = StopConfig()
    policies_at_once: int = Field(default=8, ge=1, le=1024)
    """Adapters that learn and sample together; the others wait for a place."""

    @model_validator(mode="after")
    def _something_varies(self) -> Self:
        if not self.axes and not self.also:
            raise ValueError('a sweep needs [axes], such as "lora.rank" = [1, 2, 4], or [[also]]')
        return self
