"""A learner in a process of its own: a turn is one pass of plain bf16 products, then one update.

The products are those of the model's linear layers, each with its own weights, with as many rows as the update has
tokens: what the update would cost if it were nothing but its largest products, done as fast as they go. A job may ask for
several such passes, and for an update whose cores share every operation, as it was before microbatches had threads.
"""

import json
import random
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.compare.flops import count
from lora.base.load import load_base, load_skeleton
from rewards.types import Outcome, Problem, Reward
from rl.algorithm.advantage.estimators import advantages
from rl.algorithm.batch.packing import build_batch
from rl.config import RunConfig
from rl.learner.memory.plan import MICROBATCH
from rl.learner.passes import microbatch_threads
from rl.learner.policies.policy import PolicySpec
from rl.learner.policy_host import LearnerSpec, PolicyHost, PolicyUpdate
from rl.types import Group, TrainBatch
from rollout.types import Completion

Job = dict[str, Any]
RUN = "speed"


def main() -> None:
    job: Job = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(job["threads"])
    if not job.get("side_by_side", True):
        microbatch_threads.MOST_AT_ONCE = 1
    config = RunConfig.model_validate(job["config"])
    host = one_policy(config)
    skeleton: Any = load_skeleton(config.model)
    batch = make_batch(job["prompts"], config, skeleton.config.vocab_size)
    flops = count(skeleton, config.lora, batch.rows)
    tokens = sum(len(row.token_ids) for row in batch.rows)
    products = plain_products(config, min(tokens, MICROBATCH))
    products()
    host.update([PolicyUpdate(RUN, batch)])
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    _answer(
        lora_flops=flops.lora,
        full_flops=flops.full,
        executed_flops=executed(host, batch),
        peak_mib=peak_mib,
        tokens=tokens,
        trained_parameters=host.facts(RUN)["trained_parameters"],
        model_parameters=host.facts(RUN)["model_parameters"],
    )
    for _ in sys.stdin:
        passes = [products() for _ in range(job.get("passes", 1))]
        start = time.perf_counter()
        host.update([PolicyUpdate(RUN, batch)])
        seconds = time.perf_counter() - start
        _answer(
            seconds=seconds,
            product_flops=sum(operations for operations, _ in passes),
            product_seconds=sum(taken for _, taken in passes),
        )


def one_policy(config: RunConfig) -> PolicyHost:
    """A learner with one policy, called `RUN`."""
    host = PolicyHost(LearnerSpec(config.model, "cpu", config.learner, config.lora))
    host.add(PolicySpec(RUN, config.lora, config.learner, config.sampling.temperature, seed=0))
    return host


def executed(host: PolicyHost, batch: TrainBatch) -> int:
    """Floating-point operations of an update, by torch's counter, which sees the thread that it is in alone."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with FlopCounterMode(display=False) as counter:
        host.update([PolicyUpdate(RUN, batch)])
    torch.set_num_threads(threads)
    return counter.get_total_flops()


def make_batch(prompts: list[list[int]], config: RunConfig, vocabulary: int) -> TrainBatch:
    """A step in which every group has a signal, with answers of 10 to 24 tokens, as the base model's are."""
    draw = random.Random(0)
    groups = [_group(prompt, config, vocabulary, draw) for prompt in prompts]
    advised = [advantages(group.rewards, config.learner.advantage) for group in groups]
    return build_batch(groups, advised, config.learner.tokens_per_row)


def plain_products(config: RunConfig, tokens: int) -> Callable[[], tuple[int, float]]:
    """Multiplies `tokens` rows with every linear layer's weights; (floating-point operations, seconds)."""
    weights = [m.weight.detach() for m in load_base(config.model).modules() if isinstance(m, torch.nn.Linear)]
    inputs = {weight.shape[1]: torch.randn(tokens, weight.shape[1], dtype=weight.dtype) for weight in weights}

    @torch.no_grad()
    def run() -> tuple[int, float]:
        start = time.perf_counter()
        for weight in weights:
            torch.nn.functional.linear(inputs[weight.shape[1]], weight)
        return sum(2 * tokens * weight.numel() for weight in weights), time.perf_counter() - start

    return run


def _group(prompt: list[int], config: RunConfig, vocabulary: int, draw: random.Random) -> Group:
    completions: list[Completion] = []
    for _ in range(config.sampling.group_size):
        ids = tuple(draw.randrange(vocabulary) for _ in range(draw.randint(10, config.sampling.max_tokens)))
        completions.append(Completion(ids, (-1.0,) * len(ids), "", "stop", 0))
    rewards = [Reward(float(i % 2), Outcome.CORRECT) for i in range(config.sampling.group_size)]
    return Group(Problem("", "", ""), prompt, completions, rewards)


def _answer(**values: Any) -> None:
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    main()
