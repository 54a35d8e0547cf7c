"""One policy's accuracy on the held-out problems, without training."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from lora.types import Adapter
from rl.algorithm.evaluation.held_out import Evaluation, evaluate, evaluate_sets
from rl.cluster.components import open_answering
from rl.cluster.connect import disconnect
from rl.cluster.interrupts import cancel_on_signals
from rl.config import RunConfig
from rl.episodes.open import open_player
from rl.episodes.trial import try_environments
from rl.launch.event_loop import run_to_end
from rl.launch.preflight import try_rewards
from rl.launch.train_recipe import PreparedTrain, prepare_evaluation
from rl.run.export import find_adapter, lora_config, untrained_adapter

Which = Literal["best", "last"]
"""One of a run's adapters."""


def evaluate_adapter(config: RunConfig, base: Path, source: Path | None, which: Which = "best") -> Evaluation:
    """Measure the adapter in a run's directory or a PEFT adapter's; without `source`, the base model.

    Relative paths of the configuration start at `base`; `which` of a run's adapters is "best" or "last".

    Raises:
        ValueError: there is no such adapter, or anything in the configuration or the data that would stop it.
    """
    prepared = prepare_evaluation(config, base)
    resolved = prepared.config
    policy = find_adapter(source, which) if source else untrained_adapter(resolved.model, resolved.lora)
    return run_to_end(_measure(prepared, policy))


async def _measure(prepared: PreparedTrain, policy: Adapter) -> Evaluation:
    config, held_out = prepared.config, prepared.problems.held_out
    cancel_on_signals()
    await try_rewards(config, held_out, teaches=False)
    await try_environments(config, held_out, set())
    try:
        async with open_answering(config, lora_config(policy)) as (grader, engine):
            cancel_on_signals()  # again: Ray has put a handler of SIGTERM in place that aborts
            async with open_player(config, engine) as sampler:
                answering = engine, grader, prepared.encode, sampler
                evaluation = await evaluate(config, held_out, policy, *answering)
                sets = await evaluate_sets(config, prepared.problems.sets, policy, *answering)
                return replace(evaluation, sets=sets)
    finally:
        disconnect()
