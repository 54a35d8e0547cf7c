"""Settings of which problems a step learns from."""

from pydantic import Field

from rl.config.strict import Strict


class CurriculumConfig(Strict):
    """The problems that a step learns from, among those that are drawn."""

    refill_rounds: int = Field(default=0, ge=0, le=64)
    """Times that a step draws new problems in the place of those whose completions all got the same reward, which teach
    nothing (DAPO's dynamic sampling); the step then learns from those that teach something alone. With 0 it learns from
    what it drew first."""
    no_signal_weight: float = Field(default=1.0, gt=0, le=1)
    """Weight with which problems are drawn whose completions were all right, or all wrong, when they were drawn last;
    others have 1. Below 1 what is drawn depends on what was answered, and is kept in checkpoints."""
    replay_problems: int = Field(default=0, ge=0, le=4096)
    """Problems of which the newest rare success is kept: a right completion where at most a quarter of its group was
    right. When all completions of such a problem are wrong later, the kept one takes the place of the last of them, so
    that the group teaches. With 0 none is kept."""
