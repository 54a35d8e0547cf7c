"""Reinforcement learning as a kind of run."""

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from lora.accounting import advice
from lora.base.load import check_base, load_skeleton
from lora.base.router_replay import find_routers
from lora.base.targets import resolve_lora
from lora.base.tokenizer import load_tokenizer
from rl.algorithm.objective.custom import check_objective, read_objective, split_name
from rl.cluster.components import RunParts
from rl.cluster.device import resolve_dtype
from rl.config import LearnerConfig, RunConfig, replaced
from rl.data import absolute_paths, check_step_size, load_problems
from rl.data.evaluation_sets import absolute_files, load_evaluation_sets
from rl.data.files import locate
from rl.episodes.open import absolute_episodes, absolute_sources, check_episodes, encoder_of
from rl.launch.preflight import check_readable
from rl.launch.recipe import Prepared, Recipe, RewardTrial
from rl.learner.memory.activations import longest_row
from rl.monitoring.curve import accuracy_figure
from rl.monitoring.progress import LiveDisplay, LogLines
from rl.monitoring.trackers import check_trackers
from rl.run.best_metric import ACCURACY, BestMetric
from rl.run.directory import RunDirectory
from rl.run.frozen_adapters import absolute_adapter, check_teacher, read_frozen, read_teacher
from rl.run.journal import FileJournal
from rl.run.kind import Kind
from rl.run.sinks import Sink
from rl.run.warm_start import absolute_init, read_init
from rl.train import Components, train


@dataclass(frozen=True, slots=True)
class PreparedTrain(Prepared):
    """A run by reinforcement learning, or an evaluation, before any model is loaded."""

    longest_prompt: int
    """Tokens."""

    @property
    def longest_row(self) -> int:
        sampling = self.config.sampling
        tokens_per_row = self.config.learner.tokens_per_row
        longest = self.config.longest_trained
        return longest_row(self.longest_prompt, longest, sampling.group_size, tokens_per_row)


class TrainRecipe(Recipe[PreparedTrain, Components]):
    """Sample answers, grade them, and make the better ones more likely."""

    kind: Kind = "train"
    best: BestMetric = ACCURACY
    progress: tuple[str, str] = ("reward/mean", "reward")

    def run_name(self, config: RunConfig) -> str:
        return config.name

    def resolve(self, config: RunConfig, base: Path) -> RunConfig:
        if config.learner.objective == "cross_entropy":
            raise ValueError('learner.objective = "cross_entropy" learns from given completions: run `rankone sft`')
        resolved = _resolved(config, base)
        if (function := resolved.learner.objective_function) is not None:
            check_objective(read_objective(function), resolved.learner)
        return resolved

    def prepare(self, config: RunConfig, base: Path) -> PreparedTrain:
        prepared = _load(self.resolve(config, base), base)
        check_step_size(prepared.problems.train, config.problems_per_step)
        check_teacher(prepared.config)
        read_frozen(prepared.config)
        read_teacher(prepared.config)
        return prepared

    def reward_trial(self, prepared: PreparedTrain) -> RewardTrial | None:
        return RewardTrial(prepared.problems.train, teaches=True)

    def learner_config(self, config: RunConfig) -> RunConfig:
        return config

    def needs_engine(self, config: RunConfig) -> bool:
        return True

    def open(self, prepared: PreparedTrain, run: str, shared: RunParts) -> AbstractAsyncContextManager[Components]:
        return shared.open(prepared.config, run, prepared.encode)

    async def loop(self, prepared: PreparedTrain, parts: Components, journal: FileJournal) -> None:
        await train(prepared.config, prepared.problems, parts, journal)

    def advice(self, config: RunConfig, model_parameters: int) -> list[str]:
        completions = config.problems_per_step * config.sampling.group_size
        return advice(model_parameters, config.lora, config.learner.lr, completions)

    def display(self, console: Console, config: RunConfig, directory: RunDirectory) -> Sink:
        curve = [accuracy for _, accuracy in directory.curve()]
        if not console.is_terminal:
            return LogLines(console, config.num_steps, curve)
        done = min(len(directory.metrics()), config.num_steps)
        return LiveDisplay(console, config.name, config.num_steps, done, curve)

    def figure(self, metrics: Sequence[Mapping[str, Any]], title: str) -> Any:
        return accuracy_figure(metrics, title)

    def summary(self, config: RunConfig, directory: RunDirectory) -> str:
        curve = [accuracy for _, accuracy in directory.curve()]
        return f"held-out accuracy {curve[0]:.2f} -> {curve[-1]:.2f}" if curve else "held-out accuracy not measured"


TRAIN = TrainRecipe()


def prepare_evaluation(config: RunConfig, base: Path) -> PreparedTrain:
    """Load the same for a policy that is only to be evaluated, wherever it was trained. Raises as `prepare` does."""
    here = replaced(config, server=None)  # which samples what a run on it has published, and no files
    return _load(_resolved(here, base), base)


def _resolved(config: RunConfig, base: Path) -> RunConfig:
    """Return a configuration that is kept beside the run, where relative paths would lead elsewhere."""
    check_trackers(config)
    check_base(config.model)
    config = resolve_dtype(config)
    _check_routers(config)
    return replaced(
        config,
        runtime=config.runtime if config.server is not None else "ray" if config.on_ray else "local",
        data=absolute_sources(absolute_paths(config.data, base), base),
        evaluate=absolute_files(config.evaluate, base),
        lora=resolve_lora(config.model, absolute_init(config.lora, base)),
        learner=absolute_learner(config.learner, base),
        episodes=absolute_episodes(config.episodes, base),
        teacher=replaced(config.teacher, adapter=absolute_adapter(config.teacher.adapter, base, "teacher.adapter")),
    )


def _check_routers(config: RunConfig) -> None:
    """Raises ValueError if engines are to return a mixture's experts, and the model is none that is known."""
    if config.learner.router_replay or config.rollout.return_routed_experts:
        find_routers(load_skeleton(config.model))


def absolute_learner(learner: LearnerConfig, base: Path) -> LearnerConfig:
    """Return the settings with the absolute paths of the objective's file and of the reference, where there are."""
    reference = absolute_adapter(learner.kl_reference, base, "learner.kl_reference")
    learner = replaced(learner, kl_reference=reference)
    if learner.objective_function is None:
        return learner
    file, name = split_name(learner.objective_function)
    place = locate(file, base)
    return learner if place is None else replaced(learner, objective_function=f"{place.resolve()}:{name}")


def _load(config: RunConfig, base: Path) -> PreparedTrain:
    problems = load_problems(config.data, config.seed, base, config.evaluate.num_test)
    problems = dataclasses.replace(problems, sets=load_evaluation_sets(config.evaluate, base, problems.train))
    tokenizer = load_tokenizer(config.model)
    encode = encoder_of(config, tokenizer)
    check_episodes(config, tokenizer)
    every = (*problems.train, *problems.held_out, *problems.test, *(p for _, of_set in problems.sets for p in of_set))
    longest_prompt = encode.longest(every)
    judged = [problem for problem in every if config.episodes_of(problem.source).environment is None]  # else by itself
    check_readable([problem for problem in judged if config.reward_of(problem.source).is_default])
    return PreparedTrain(config, problems, encode, read_init(config), longest_prompt)
