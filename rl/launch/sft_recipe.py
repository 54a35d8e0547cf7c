"""Supervised fine-tuning as a kind of run."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from lora.accounting import supervised_advice
from lora.base.load import check_base
from lora.base.targets import resolve_lora
from lora.base.tokenizer import load_end_tokens, load_tokenizer
from lora.types import Adapter
from rl.algorithm.batch.demonstrations import SftEncoder
from rl.algorithm.batch.minibatches import several
from rl.algorithm.evaluation.held_out import evaluate
from rl.algorithm.journal import Journal
from rl.algorithm.liveness import NUM_SEQUENCES, Reference
from rl.cluster.components import RunParts
from rl.cluster.device import resolve_dtype
from rl.config import RunConfig, replaced
from rl.data import absolute_paths, check_step_size, load_problems, sample_held_out
from rl.data.prompts import Encoder
from rl.launch.preflight import check_readable
from rl.launch.recipe import Prepared, Recipe, RewardTrial
from rl.monitoring.loss_curve import loss_figure
from rl.monitoring.loss_progress import LossLines, LossTable
from rl.monitoring.trackers import check_trackers
from rl.run.best_metric import LOG_LOSS, BestMetric
from rl.run.directory import RunDirectory
from rl.run.journal import FileJournal
from rl.run.kind import Kind
from rl.run.sinks import Sink
from rl.run.warm_start import absolute_init, read_init
from rl.sft import Evaluator, train_sft, with_cross_entropy
from rl.train import Components
from rl.types import Learner


@dataclass(frozen=True, slots=True)
class PreparedSft(Prepared):
    """A supervised run before any model is loaded."""

    encode_sft: SftEncoder
    longest: int
    """Tokens of the longest demonstration, prompt and completion."""

    @property
    def longest_row(self) -> int:
        """Inputs of the longest row that a step may train on: demonstrations of one prompt share it."""
        return max(self.longest - 1, self.config.learner.tokens_per_row)


class SftComponents(NamedTuple):
    """The parts that a supervised run is made of."""

    learner: Learner
    evaluated_with: Components | None
    """With which the policy answers held-out problems, if the configuration asks for accuracy."""


class SftRecipe(Recipe[PreparedSft, SftComponents]):
    """Make given completions more likely."""

    kind: Kind = "sft"
    best: BestMetric = LOG_LOSS
    progress: tuple[str, str] = ("update/loss", "loss")

    def run_name(self, config: RunConfig) -> str:
        return f"{config.name}-sft"

    def resolve(self, config: RunConfig, base: Path) -> RunConfig:
        check_trackers(config)
        if config.learner.aggregation == "constant":
            raise ValueError(
                'learner.aggregation = "constant" divides by sampling.max_tokens, which given completions do not have: '
                'set it to "token" or "sequence"'
            )
        if config.evaluate.sets:
            raise ValueError("evaluate.sets are answered in `rankone train` alone: leave them out for `rankone sft`")
        if several(config):
            raise ValueError(
                "learner.minibatches and learner.epochs divide what was sampled: set both to 1, and for `rankone sft` "
                "problems_per_step and num_steps"
            )
        if config.learner.objective_function is not None:
            raise ValueError("learner.objective_function is for completions that were sampled: leave it out here")
        if config.learner.kl_coef or config.learner.entropy_coef:
            raise ValueError(
                "learner.kl_coef and learner.entropy_coef are for completions that the policy sampled: set both to 0 "
                "for `rankone sft`"
            )
        if config.steps_in_flight is not None:
            raise ValueError("steps_in_flight is of problems that the policy answers: leave it out for `rankone sft`")
        if config.curriculum.no_signal_weight != 1:
            raise ValueError(
                "curriculum.no_signal_weight goes by how completions were graded: leave it out for `rankone sft`"
            )
        if config.curriculum.replay_problems:
            raise ValueError("curriculum.replay_problems keeps what was sampled: leave it out for `rankone sft`")
        if config.learner.router_replay or config.rollout.return_routed_experts:
            raise ValueError(
                "learner.router_replay and rollout.return_routed_experts are for completions that an engine sampled: "
                "set both to false for `rankone sft`"
            )
        if config.teacher.on:
            raise ValueError("[teacher] scores what the student samples: leave it out for `rankone sft`")
        if config.plays:
            raise ValueError(
                "[episodes] are played by `rankone train`: given completions have one turn, so leave it out"
            )
        check_base(config.model)
        return replaced(
            resolve_dtype(resolve_sft_runtime(config)),
            data=absolute_paths(config.data, base),
            lora=resolve_lora(config.model, absolute_init(config.lora, base)),
        )

    def prepare(self, config: RunConfig, base: Path) -> PreparedSft:
        config = self.resolve(config, base)
        problems = load_problems(config.data, config.seed, base, config.evaluate.num_test)
        check_step_size(problems.train, config.problems_per_step)
        tokenizer = load_tokenizer(config.model)
        ends = load_end_tokens(config.model, tokenizer)
        max_length = config.model.max_length
        show = SftEncoder(tokenizer, config.prompt, config.sft, max_length=max_length, end_tokens=ends)
        encode = Encoder(tokenizer, config.prompt, config.room_for_prompt)
        longest = show.longest((*problems.train, *problems.held_out))
        if config.sft.accuracy:
            encode.longest(problems.held_out)
            check_readable([p for p in problems.held_out if config.reward_of(p.source).is_default])
        return PreparedSft(config, problems, encode, read_init(config), show, longest)

    def reward_trial(self, prepared: PreparedSft) -> RewardTrial | None:
        return RewardTrial(prepared.problems.held_out, teaches=False) if prepared.config.sft.accuracy else None

    def learner_config(self, config: RunConfig) -> RunConfig:
        return with_cross_entropy(config)

    def needs_engine(self, config: RunConfig) -> bool:
        return config.sft.accuracy

    @asynccontextmanager
    async def open(self, prepared: PreparedSft, run: str, shared: RunParts) -> AsyncGenerator[SftComponents]:
        config = with_cross_entropy(prepared.config)
        if config.sft.accuracy:
            async with shared.open(config, run, prepared.encode) as parts:
                yield SftComponents(parts.learner, parts)
        else:
            async with shared.open_learner(config, run) as learner:
                yield SftComponents(learner, None)

    async def loop(self, prepared: PreparedSft, parts: SftComponents, journal: FileJournal) -> None:
        learner, evaluated_with = parts
        evaluator = None if evaluated_with is None else HeldOutEvaluation(prepared, evaluated_with, journal)
        await train_sft(prepared.config, prepared.problems, prepared.encode_sft, learner, journal, evaluator)

    def advice(self, config: RunConfig, model_parameters: int) -> list[str]:
        return supervised_advice(model_parameters, config.lora, config.learner.lr, config.problems_per_step)

    def display(self, console: Console, config: RunConfig, directory: RunDirectory) -> Sink:
        if not console.is_terminal:
            return LossLines(console, config.num_steps)
        return LossTable(console, config.name, config.num_steps, directory.metrics())

    def figure(self, metrics: Sequence[Mapping[str, Any]], title: str) -> Any:
        return loss_figure(metrics, title)

    def summary(self, config: RunConfig, directory: RunDirectory) -> str:
        moved = [_moved(directory, "eval/log_loss", "held-out log-loss", " nats a token")]
        if config.sft.accuracy:
            moved.append(_moved(directory, "eval/accuracy", "accuracy", ""))
        return ", ".join(moved)


SFT = SftRecipe()


def resolve_sft_runtime(config: RunConfig) -> RunConfig:
    """Say where the run is if the configuration does not: one learner that needs no rollout engine needs no cluster."""
    if config.runtime != "auto":
        return config
    if config.sft.accuracy or config.learner.learner_count > 1:
        return replaced(config, runtime="ray")
    return replaced(config, runtime="local", rollout={"engine": "torch"})


class HeldOutEvaluation(Evaluator):
    """The held-out problems, answered by the rollout engine and graded, as in reinforcement learning."""

    def __init__(self, prepared: PreparedSft, parts: Components, journal: Journal) -> None:
        self._prepared = prepared
        self._parts = parts
        self._journal = journal
        self._previous: Adapter | None = None

    async def __call__(self, step: int, adapter: Adapter, learner: Learner) -> dict[str, float]:
        config, parts, problems = self._prepared.config, self._parts, self._prepared.problems.held_out
        asked = sample_held_out(problems, NUM_SEQUENCES, config.seed)
        demonstrations = [self._prepared.encode_sft(problem) for problem in asked]
        sequences = [[*shown.prompt, *shown.completion][: config.model.max_length - 1] for shown in demonstrations]
        reference = await Reference.measure(learner, adapter, self._previous, sequences)
        alive = await parts.policy_checker.check(reference, parts.engine)
        self._previous = adapter
        evaluation = await evaluate(config, problems, adapter, *parts.answering)
        self._journal.on_eval_samples(step, evaluation)
        return alive | evaluation.metrics()


def _moved(directory: RunDirectory, name: str, words: str, unit: str) -> str:
    values = [value for _, value in directory.curve(name)]
    return f"{words} {values[0]:.2f} -> {values[-1]:.2f}{unit}" if values else f"{words} not measured"
