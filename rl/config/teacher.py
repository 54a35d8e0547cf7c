"""Settings of on-policy distillation."""

from collections.abc import Iterator

from pydantic import Field

from lora.config import ModelConfig, Quantization
from rl.config.curriculum import CurriculumConfig
from rl.config.learner import LearnerConfig
from rl.config.replaced import replaced
from rl.config.strict import Strict


class TeacherConfig(Strict):
    """A policy whose probabilities of the student's own tokens are learned from: on-policy distillation."""

    adapter: str | None = None
    """The teacher: a run's directory, whose best adapter it is, or a PEFT adapter's; on the run's own model, or on
    `model`."""
    model: str | None = None
    """The teacher's model, by default `model.name`; any that has the same tokens. Each learner holds one that is not
    the run's own besides. Without `adapter`, it is the teacher as it stands."""
    quantization: Quantization | None = None
    """As `model.quantization`, of a teacher's own model."""
    coef: float = Field(default=1.0, gt=0)
    """Factor of the advantage that a token has by the teacher, log p_teacher - log p_student."""
    rewards: bool = False
    """Add the advantages that rewards give. Without them completions are graded for the metrics alone."""

    @property
    def on(self) -> bool:
        """True if there is a teacher."""
        return self.adapter is not None or self.model is not None

    def own_model(self, student: ModelConfig) -> ModelConfig | None:
        """Return the teacher's model where it is another than the student's; None where it is not."""
        if self.model is None or self.model == student.name:
            return None
        return replaced(student, name=self.model, quantization=self.quantization)

    def misfits(
        self, model: str, learner: LearnerConfig, curriculum: CurriculumConfig, *, as_sampled: bool
    ) -> Iterator[str]:
        """Yield what does not fit; `as_sampled` is False where tokens were not sampled at the model's own odds."""
        if not self.on:
            return
        own = self.model is not None and self.model != model
        if self.quantization is not None and not own:
            yield (
                "teacher.quantization is of a teacher's own model, and this one is on the run's: set model.quantization"
            )
        if learner.weights == "full" and not own:
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
