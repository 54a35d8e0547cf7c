"""Supervised fine-tuning, whole: draw problems, and make the completions that were given for them more likely.

The same learner as in reinforcement learning, with cross-entropy for its objective, so what is measured here about
ranks, layers and batch sizes is measured on the same code; and its adapter is one that `lora.init` begins from.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Protocol

from lora.types import Adapter
from rewards.types import Problem
from rl.algorithm.batch.demonstrations import Demonstration, build_sft_batch
from rl.algorithm.guard.alarms import SKIPPED
from rl.algorithm.journal import Journal
from rl.algorithm.lr_schedule import lr_scale
from rl.algorithm.metrics import Stopwatch
from rl.config import RunConfig, replaced
from rl.data import ProblemStream, Split, sample_held_out
from rl.types import Learner

OF_SAMPLING = ("update/kl_sampler_learner", "update/clip_fraction")
"""Metrics that mean nothing where no policy sampled."""


class Evaluator(Protocol):
    """Lets a policy answer the held-out problems."""

    async def __call__(self, step: int, adapter: Adapter, learner: Learner) -> dict[str, float]:
        """Return the metrics of that."""
        ...


async def train_sft(
    config: RunConfig,
    problems: Split,
    demonstrate: Callable[[Problem], Demonstration],
    learner: Learner,
    journal: Journal,
    examine: Evaluator | None = None,
) -> Adapter:
    """Run `config.num_steps` steps, from wherever `journal` says they begin; returns the last policy."""
    looked_at = sample_held_out(problems.held_out, config.evaluate.num_problems, config.seed)
    held_out = [demonstrate(problem) for problem in looked_at]
    stream = ProblemStream.of(problems.train, config.sources, config.seed)
    watch = Stopwatch()
    for step in range(await journal.restore(learner), config.num_steps + 1):
        await asyncio.sleep(0)  # a learner in this process never waits, and signals are heard while one does
        metrics = dict[str, float]()
        if step % config.evaluate.every == 0 or step == config.num_steps:
            with watch.phase("evaluate"):
                adapter = await learner.publish()
                metrics["eval/log_loss"] = await log_loss(learner, held_out)
                metrics |= {} if examine is None else await examine(step, adapter, learner)
            await journal.on_metrics(step, adapter, metrics, learner)
        if step == config.num_steps:
            journal.on_step(step, metrics | watch.metrics(), [])
            break
        drawn = stream.draw(range(step * config.problems_per_step, (step + 1) * config.problems_per_step))
        lesson = [demonstrate(problem) for problem in drawn]
        metrics |= await learn(config, lesson, learner, step, watch)
        metrics["data/epoch"] = (step + 1) * config.problems_per_step / len(problems.train)
        if metrics["update/nonfinite"]:
            journal.on_alarm(step, [SKIPPED])
        journal.on_step(step, metrics | watch.metrics(), [])
        watch = Stopwatch()
        if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.num_steps:
            with watch.phase("checkpoint"):  # it shows in the next step's times, this step's being written already
                await journal.checkpoint(step + 1, await learner.publish(), learner)
    return await learner.publish()


def with_cross_entropy(config: RunConfig) -> RunConfig:
    """Return the configuration of the learner: its objective is cross-entropy, at the model's own temperature."""
    return replaced(config, learner={"objective": "cross_entropy"}, sampling={"temperature": 1.0})


async def learn(
    config: RunConfig, lesson: Sequence[Demonstration], learner: Learner, step: int, watch: Stopwatch
) -> dict[str, float]:
    """Do one update from these demonstrations; return its metrics, `update/loss` being in nats a token."""
    batch = build_sft_batch(lesson, config.learner.tokens_per_row)
    with watch.phase("update"):
        metrics = await learner.update(batch, lr_scale=lr_scale(config.learner, step, config.num_steps))
    supervised = {name: value for name, value in metrics.items() if name not in OF_SAMPLING}
    return supervised | {
        "completion/length_mean": batch.num_tokens / len(lesson),
        "throughput/update_tokens_per_s": batch.num_tokens / max(watch.seconds["update"], 1e-9),
    }


async def log_loss(learner: Learner, demonstrations: Sequence[Demonstration]) -> float:
    """Return the mean over all completion tokens of -log p, in nats, under the policy as it is now."""
    scores = await learner.score([[*shown.prompt, *shown.completion] for shown in demonstrations])
    pairs = zip(scores, demonstrations, strict=True)
    logprobs = [logprob for score, shown in pairs for logprob in score[-len(shown.completion) :]]
    return -math.fsum(logprobs) / len(logprobs)
