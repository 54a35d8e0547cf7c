"""Settings of on-policy distillation."""

from collections.abc import Iterator

from pydantic import Field

from lora.messages import shortened
from rl.config.curriculum import CurriculumConfig
from rl.config.learner import LearnerConfig
from rl.config.strict import Strict

MOST_SHOWN = 100
"""Letters of a name in a message."""


class TeacherConfig(Strict):
    """A policy whose probabilities of the student's own tokens are learned from: on-policy distillation."""

    adapter: str | None = None
    """The teacher: a run's directory, whose best adapter it is, or a PEFT adapter's, on the run's own model."""
    model: str | None = None
    """The teacher's model, which must be `model.name`; without `adapter`, it is the teacher as it stands."""
    coef: float = Field(default=1.0, gt=0)
    """Factor of the advantage that a token has by the teacher, log p_teacher - log p_student."""
    rewards: bool = False
    """Add the advantages that rewards give. Without them completions are graded for the metrics alone."""

    @property
    def on(self) -> bool:
        """True if there is a teacher."""
        return self.adapter is not None or self.model is not None

    def misfits(
        self, model: str, learner: LearnerConfig, curriculum: CurriculumConfig, *, as_sampled: bool
    ) -> Iterator[str]:
        """Yield what does not fit; `as_sampled` is False where tokens were not sampled at the model's own odds."""
        if not self.on:
            return
        if self.model is not None and self.model != model:
            yield (
                f"teacher.model = {shortened(self.model, MOST_SHOWN)!r} is another model than model.name = "
                f"{shortened(model, MOST_SHOWN)!r}, and a learner holds one: name an adapter on that model as "
                "teacher.adapter"
            )
        if learner.weights == "full":
            yield 'a [teacher] is on the base model, which learner.weights = "full" changes: set it to "lora"'
        if learner.objective == "cross_entropy":
            yield "[teacher] scores what the student samples: leave it out for `rankone sft`"
        if not as_sampled:
            yield (
                "[teacher] compares what was sampled with the teacher at temperature 1: set sampling.temperature and "
                "top_p to 1, top_k and min_p to 0"
            )
        if curriculum.replay_problems:
            yield (
                "[teacher] scores what the student samples now, and curriculum.replay_problems brings back what it "
                "sampled before: leave one of the two out"
            )
        if curriculum.refill_rounds and not self.rewards:
            yield (
                "a [teacher] teaches by every group, so curriculum.refill_rounds has nothing to replace: set it to 0, "
                "or teacher.rewards = true"
            )
