"""Settings of a run's steps that do not go together, and what to set instead: where they are, when, and how large."""

from collections.abc import Iterator

from rl.config.curriculum import CurriculumConfig
from rl.config.evaluate import EvaluateConfig
from rl.config.learner import LearnerConfig
from rollout.config import RolloutConfig, SamplingConfig


def misfits_of_places(
    runtime: str,
    learner: LearnerConfig,
    rollout: RolloutConfig,
    curriculum: CurriculumConfig,
    steps_in_flight: float | None,
    oldest: int | None,
    *,
    served: bool,
) -> Iterator[str]:
    """Yield a line for each setting of where steps run, and how many at once, that does not fit the others.

    `oldest` is `max_off_policy_steps`; `served` runs have a server's learner and engines.
    """
    if served and (learner.learner_count > 1 or learner.shard):
        yield "a server has learners of its own: leave learner.num_learners and learner.shard out with --server"
    if steps_in_flight is not None and oldest is not None and steps_in_flight > oldest + 1:
        yield (
            f"steps_in_flight = {steps_in_flight:g} makes some completions more than max_off_policy_steps = {oldest} "
            f"steps old: set it to {oldest + 1} at most, or better {max(1, oldest)}, or raise max_off_policy_steps"
        )
    if steps_in_flight is not None and curriculum.refill_rounds:
        yield (
            "curriculum.refill_rounds draws anew for a step of its own, and with steps_in_flight a step takes what "
            "is finished: leave one of the two out"
        )
    if runtime == "local" and rollout.engine == "vllm" and not served:
        yield 'runtime = "local" runs the torch engine; set rollout.engine = "torch" or runtime = "ray"'
    if runtime == "local" and learner.learner_count > 1:
        yield 'learner.num_learners above 1 needs runtime = "ray", or set it to 1'
    if learner.shard and (learner.learner_count == 1 or learner.weights == "full"):
        yield 'learner.shard needs learner.num_learners above 1 and learner.weights = "lora"'


def misfits_of_schedule(learner: LearnerConfig, num_steps: int, problems_per_step: int) -> Iterator[str]:
    """Yield a line for each setting of the updates that a run of so many steps has no room for."""
    if learner.minibatches > problems_per_step:
        yield f"learner.minibatches is above problems_per_step = {problems_per_step}, of which each has one"
    warmup = learner.lr_warmup_steps
    if 0 < num_steps <= warmup:
        yield (
            f"learner.lr_warmup_steps = {warmup} never ends in num_steps = {num_steps}: set it to "
            f"{max(0, num_steps - 1)} at most"
        )


def misfits_of_samples(
    sampling: SamplingConfig, evaluate: EvaluateConfig, learner: LearnerConfig, max_length: int
) -> Iterator[str]:
    """Yield a line for each setting of completions from which nothing can be learned, or that have no room."""
    if sampling.temperature == 0:
        yield "sampling.temperature 0 makes a group's completions equal, so nothing is learned; use 1.0"
    if sampling.top_k == 1:
        yield "sampling.top_k 1 makes a group's completions equal, so nothing is learned; use 0"
    if sampling.group_size < 2:
        yield "sampling.group_size must be at least 2: a group's mean reward is the baseline"
    if sampling.max_tokens >= max_length:
        yield "sampling.max_tokens must be below model.max_length, which holds the prompt too"
    if learner.overlong_buffer > sampling.max_tokens:
        yield (
            f"learner.overlong_buffer = {learner.overlong_buffer} is above sampling.max_tokens = "
            f"{sampling.max_tokens}, whose last tokens it is: lower it"
        )
    if (evaluate.max_tokens or 0) >= max_length:
        yield "evaluate.max_tokens must be below model.max_length, which holds the prompt too"
