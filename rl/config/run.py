"""Settings of a run. `RunConfig` composes the configurations of the four packages."""

from collections.abc import Iterator
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from lora.config import LoraConfig, ModelConfig
from rewards.config import RewardConfig
from rl.config.checks import GuardConfig, LivenessConfig
from rl.config.curriculum import CurriculumConfig
from rl.config.data import Addition, PromptConfig, Verifiers
from rl.config.episodes import EpisodesConfig
from rl.config.evaluate import EvaluateConfig
from rl.config.learner import LearnerConfig
from rl.config.misfits import (
    misfits_of_objective,
    misfits_of_quantization,
    misfits_of_router_replay,
    misfits_of_verifiers,
    misfits_of_weights,
    samples_the_model,
)
from rl.config.mixture import Mixture, ProblemsConfig, misfits_of_sources
from rl.config.placement import PlacementConfig
from rl.config.preset import Preset, with_preset
from rl.config.replaced import replaced
from rl.config.step_misfits import misfits_of_places, misfits_of_samples, misfits_of_schedule
from rl.config.strict import Strict
from rl.config.teacher import TeacherConfig
from rollout.config import RolloutConfig, SamplingConfig

MAX_COMPLETIONS = 2**32
"""Random streams of a run: as many seeds as torch's CPU generators tell apart (see `rl.algorithm.sampling.seeds`)."""


MAX_OFF_POLICY_STEPS = 8
"""Updates by which a policy that samples may be older than the learner's at most: engines keep that many more."""


class SftConfig(Strict):
    """Supervised fine-tuning (`rankone sft`): completions are given, not sampled."""

    completion: str = Field(default="{answer}", min_length=1)
    """Text that the policy is to write, with the problem's columns in it, such as `"{solution}\n#### {answer}"`, or
    a column's name."""
    accuracy: bool = False
    """Also let the policy answer the held-out problems at every evaluation, which needs a rollout engine."""


class RunConfig(Strict):
    """One run, whole."""

    name: str = Field(default="run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    """Begins the name of the run's directory, and names it on pages and in trackers."""
    preset: Preset | None = None
    """A published recipe, whose settings hold where nothing else is set (docs/objectives.md)."""
    seed: int = Field(default=0, ge=0, lt=2**32)  # numpy takes no other, and vLLM seeds it
    """Decides the adapter's beginning, the data, their order, and all that is sampled."""
    num_steps: int = Field(default=100, ge=0, le=10_000_000)
    """Optimizer steps of the whole run."""
    problems_per_step: int = Field(default=16, ge=1, le=65_536)
    """Problems drawn for each step; every one is answered `sampling.group_size` times."""
    checkpoint_every: int = Field(default=1, ge=1)
    """Steps between checkpoints; a rank-1 policy's is a few MB."""
    max_off_policy_steps: int | None = Field(default=None, ge=0, le=MAX_OFF_POLICY_STEPS)
    """Updates by which the policy that samples may be older than the learner's, so that both work at once. By default 1
    where learner and rollout workers have devices of their own, else 0; with `steps_in_flight`, that number rounded up.
    A resumed run samples the steps that were in flight anew, from the policy it resumes with: only 0 ends the same bit
    for bit."""
    steps_in_flight: float | None = Field(default=None, ge=1, le=MAX_OFF_POLICY_STEPS + 1)
    """Steps' worth of problems that are answered at once, such as 1.5. A step then learns from the first
    `problems_per_step` of them whose answers are all graded, so that the longest completion delays no other, and goes
    into a later step: at most `max_off_policy_steps` after the one it was begun in. By default a step learns from the
    problems that were drawn for it, in order, and can be repeated bit for bit."""
    runtime: Literal["auto", "ray", "local"] = "auto"
    """`local` runs everything in this process: for tiny models, and for debugging. By default a run is on a Ray
    cluster, unless `rankone sft` has one learner and no use for a rollout engine."""
    server: str | None = None
    """URL of a `rankone serve` that trains and samples for this run; its key is read from `RANKONE_API_KEY`."""
    tensorboard: bool = True
    """Write TensorBoard's event files into the run's directory."""
    wandb: str | None = None
    """The project of Weights & Biases that the run is also told to, if any."""
    mlflow: str | None = None
    """The experiment of MLflow's that the run is also told to, if any; `MLFLOW_TRACKING_URI` says where."""
    model: ModelConfig = ModelConfig()
    data: ProblemsConfig = Addition()
    curriculum: CurriculumConfig = CurriculumConfig()
    prompt: PromptConfig = PromptConfig()
    lora: LoraConfig = LoraConfig()
    learner: LearnerConfig = LearnerConfig()
    teacher: TeacherConfig = TeacherConfig()
    sampling: SamplingConfig = SamplingConfig()
    rollout: RolloutConfig = RolloutConfig()
    reward: RewardConfig = RewardConfig()
    episodes: EpisodesConfig = EpisodesConfig()
    sft: SftConfig = SftConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    liveness: LivenessConfig = LivenessConfig()
    guard: GuardConfig = GuardConfig()
    placement: PlacementConfig = PlacementConfig()

    @property
    def sources(self) -> Mixture:
        """The sources of problems, where there are several; none where there is one `[data]`."""
        return self.data if isinstance(self.data, tuple) else ()

    def reward_of(self, source: str) -> RewardConfig:
        """Return how completions of a source's problems are graded; `source` is its key, or empty."""
        own = next((each.reward for each in self.sources if each.key == source), None)
        return self.reward if own is None else own

    def episodes_of(self, source: str) -> EpisodesConfig:
        """Return the turns of completions of a source's problems; `source` is its key, or empty."""
        own = next((each.episodes for each in self.sources if each.key == source), None)
        return self.episodes if own is None else own

    def for_source(self, source: str) -> "RunConfig":
        """Return the settings as they are for problems of a source alone, whose key it is, or empty.

        Other sources stay in it, because the longest completion of all bounds every prompt; a source of verifiers is
        then the only one, without a prompt, as both are its own.
        """
        own = self.data_of(source)
        changes: dict[str, Any] = {"reward": self.reward_of(source), "episodes": self.episodes_of(source)}
        if self.sources and isinstance(own, Verifiers):
            alone = Verifiers(**{name: getattr(own, name) for name in Verifiers.model_fields})
            prompt = {"system": None, "shots": (), "suffix": ""}
            return replaced(self, data=alone, prompt=prompt, evaluate={"sets": ()}, **changes)
        explicit = [
            replaced(each, episodes=self.episodes_of(each.key)) if isinstance(each, Verifiers) else each
            for each in self.sources
        ]
        return replaced(self, data=tuple(explicit) if explicit else self.data, **changes)

    def data_of(self, source: str) -> object:
        """Return the source whose key it is; None for the empty key where there are several sources."""
        return next((each for each in self.sources if each.key == source), None if self.sources else self.data)

    @property
    def source_keys(self) -> list[str]:
        """The keys of its problems' sources: empty of a single one, and of the sets of `evaluate.sets`."""
        keys = [source.key for source in self.sources]
        return keys if keys and not self.evaluate.sets else [*keys, ""]

    @property
    def plays(self) -> bool:
        """True if some of its completions are episodes of several turns."""
        return any(self.episodes_of(source).on for source in self.source_keys)

    @property
    def rewards(self) -> list[RewardConfig]:
        """The different rewards of its problems: that of `[reward]`, or those of its sources.

        Sets of `evaluate.sets` have the first.
        """
        rewards = [self.reward_of(source) for source in self.source_keys]
        return list({repr(reward): reward for reward in rewards}.values())

    @property
    def on_ray(self) -> bool:
        """True if learner and workers are actors of its own; False if they are in this process or a server's."""
        return self.runtime != "local" and self.server is None

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, values: Any) -> Any:
        return with_preset(values)

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        for reason in self._misfits():
            raise ValueError(reason)
        return self

    def _misfits(self) -> Iterator[str]:
        """Yield what does not fit together, and what to set instead."""
        yield from misfits_of_sources(self.data, [each.name for each in self.evaluate.sets])
        yield from misfits_of_places(
            self.runtime, self.learner, self.rollout, self.curriculum, self.steps_in_flight, self.max_off_policy_steps,
            served=self.server is not None,
        )  # fmt: skip
        yield from misfits_of_weights(self.learner, self.lora, self.rollout)
        yield from misfits_of_quantization(self.model, self.learner, self.rollout, served=self.server is not None)
        yield from misfits_of_router_replay(
            self.learner, self.rollout, self.curriculum, plays=self.plays, served=self.server is not None
        )
        yield from misfits_of_schedule(self.learner, self.num_steps, self.problems_per_step)
        yield from misfits_of_objective(self.learner, self.sampling, self.curriculum)
        yield from self.teacher.misfits(
            self.model.name, self.learner, self.curriculum, as_sampled=samples_the_model(self.sampling)
        )
        yield from misfits_of_samples(self.sampling, self.evaluate, self.learner, self.model.max_length)
        if self.num_completions > MAX_COMPLETIONS:
            yield (
                f"a run has at most {MAX_COMPLETIONS:,} random streams, one a completion, and num_steps x "
                "(1 + curriculum.refill_rounds) x problems_per_step x sampling.group_size + ((1 + the number of "
                "evaluate.sets) x evaluate.num_problems + evaluate.num_test) x evaluate.samples_per_problem is "
                f"{self.num_completions:,}: lower num_steps, or another of these"
            )
        for source in self.source_keys:
            yield from self.episodes_of(source).misfits(self.longest_turn, self.model.max_length)
            yield from misfits_of_verifiers(
                self.episodes_of(source), self.data_of(source), self.prompt, among=source if self.sources else None,
                has_sets=bool(self.evaluate.sets) and not source,
            )  # fmt: skip
        if self.learner.overlong_buffer and any(source.episodes is not None for source in self.sources):
            yield (
                "learner.overlong_buffer counts from the longest completion of the run, and a source of [[data]] has "
                "episodes of its own: set it to 0"
            )

    @property
    def longest_turn(self) -> int:
        """Most tokens that the policy writes at once, in a step or an evaluation."""
        return max(self.sampling.max_tokens, self.evaluate.max_tokens or 0)

    @property
    def longest_completion(self) -> int:
        """Most tokens of a completion, of a step's or an evaluation's; of an episode with its environment's."""
        played = [self.episodes_of(source) for source in self.source_keys]
        return max(each.max_tokens if each.on else self.longest_turn for each in played)

    @property
    def longest_trained(self) -> int:
        """Most tokens of a step's completion, an environment's included."""
        return max(each.max_tokens if each.on else self.sampling.max_tokens for each in self._trained_episodes)

    @property
    def most_sampled(self) -> int:
        """Most tokens of a step's completion that the policy writes."""
        most = self.sampling.max_tokens
        return max(min(e.max_turns * most, e.max_tokens) if e.on else most for e in self._trained_episodes)

    @property
    def _trained_episodes(self) -> list[EpisodesConfig]:
        return [self.episodes_of(source.key) for source in self.sources] or [self.episodes]

    @property
    def room_for_prompt(self) -> int:
        """Most tokens of a prompt: what every completion leaves of the context.

        A server scores what was sampled, as a KL in rewards asks it to, by sampling another token behind it.
        """
        by_base = self.teacher.on or (self.learner.kl_in == "reward" and self.learner.kl_coef > 0)
        scored = self.server is not None and by_base
        return self.model.max_length - self.longest_completion - scored

    @property
    def num_completions(self) -> int:
        """Completions that the whole run may sample to train on, and those of one evaluation."""
        drawn = self.num_steps * (1 + self.curriculum.refill_rounds) * self.problems_per_step
        trained = drawn * self.sampling.group_size
        evaluated = self.evaluate.num_problems * (1 + len(self.evaluate.sets)) + self.evaluate.num_test
        return trained + evaluated * self.evaluate.samples_per_problem
