"""Update speed and memory by length of row: ``python -m bench.gpu.learner MODEL_DIR LENGTHS [--tokens N]``.

A row is a prompt of 128 tokens and one completion. Operations counted are those that the update needs (products with
frozen weights and the gradients of their inputs, the adapter's, visible pairs of attention, the output layer); what is
computed again is not counted. The first update at a length compiles and is not timed.
"""

import argparse
import json
import time
from dataclasses import replace
from typing import Any

import torch

from bench.compare.flops import count
from bench.gpu import card
from lora.base.load import load_skeleton
from lora.config import LoraConfig, ModelConfig
from rewards.types import Outcome, Problem, Reward
from rl.algorithm.batch.packing import build_batch
from rl.config import LearnerConfig
from rl.learner.memory.plan import Budget, LearnerMemory
from rl.learner.policies.policy import PolicySpec
from rl.learner.policy_host import LearnerSpec, PolicyHost, PolicyUpdate
from rl.types import Group, TrainBatch
from rollout.types import Completion

PROMPT = 128
RUN = "speed"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("lengths", type=int, nargs="+", help="inputs of a row")
    parser.add_argument("--tokens", type=int, default=16_384, help="inputs of an update")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--profile", action="store_true", help="print the operations that took longest")
    arguments = parser.parse_args()
    start = time.perf_counter()
    host = open_host(arguments.model, max(arguments.lengths))
    card.wait()
    loaded = time.perf_counter() - start
    first = timed(host, rows(2 * PROMPT, 1, host.model.vocab_size))
    print(json.dumps({"ready": True, "load_s": loaded, "first_update_s": first, "card": card.name()}), flush=True)
    for length in arguments.lengths:
        try:
            with card.turn():
                figures = measure(host, length, max(arguments.lengths), arguments.tokens, arguments.repeats)
        except torch.OutOfMemoryError as error:
            figures = {"length": length, "error": str(error).split("\n")[0]}
        print(json.dumps({"model": arguments.model, "card": card.name()} | figures), flush=True)
        card.free()
        if arguments.profile:
            show_profile(host, rows(length, max(1, arguments.tokens // length), host.model.vocab_size))


def settings(model: str, longest: int) -> LearnerSpec:
    """Return a learner of a rank-1 adapter that is planned for rows of that many inputs, all else as it is by default."""
    config = ModelConfig(name=model, max_length=longest + 1)
    return LearnerSpec(config, card.device(), LearnerConfig(), LoraConfig(rank=1), Budget(longest_row=longest))


def open_host(model: str, longest: int) -> PolicyHost:
    """Return the learner with one policy."""
    spec = settings(model, longest)
    host = PolicyHost(spec)
    host.add(PolicySpec(RUN, spec.lora, spec.learner, temperature=1.0, seed=0))
    return host


def measure(host: PolicyHost, length: int, longest: int, tokens: int, repeats: int) -> dict[str, Any]:
    """Return the figures of updates with rows of `length` inputs, `tokens` together."""
    spec = settings(host.model.config.name, longest)
    skeleton: Any = load_skeleton(spec.model)
    batch = rows(length, max(1, tokens // length), skeleton.config.vocab_size)
    timed(host, batch)
    card.free()
    seconds = sorted(timed(host, batch) for _ in range(repeats))[repeats // 2]
    inputs = sum(len(row.token_ids) for row in batch.rows)
    flops = count(skeleton, spec.lora, batch.rows).lora
    peak = card.peak_flops()
    plan = LearnerMemory.of(skeleton, spec.model, spec.lora, spec.learner, Budget(longest_row=length))
    microbatch = min(inputs, max(length, host.model.tokens_per_microbatch))
    return {
        "length": length,
        "tokens": inputs,
        "checkpointing": host.checkpointing,
        "tokens_per_microbatch": host.model.tokens_per_microbatch,
        "update_s": seconds,
        "tokens_per_s": inputs / seconds,
        "flops": flops,
        "mfu": flops / seconds / peak if peak else None,
        "peak_gib": card.peak_bytes() / 2**30,
        "planned_gib": replace(plan, tokens=microbatch).bytes(checkpointing=host.checkpointing) / 2**30,
    }


def rows(length: int, number: int, vocabulary: int) -> TrainBatch:
    """Return a step of that many rows of `length` inputs, no two alike."""
    random = torch.Generator().manual_seed(0)

    def draw(count: int) -> list[int]:
        return torch.randint(3, vocabulary, (count,), generator=random).tolist()

    groups: list[Group] = []
    for _ in range(number):
        written = tuple(draw(length - PROMPT + 1))
        completion = Completion(written, (-11.9,) * len(written), "", "stop", 0)
        groups.append(Group(Problem("", "", ""), draw(PROMPT), [completion], [Reward(1.0, Outcome.CORRECT)]))
    return build_batch(groups, [[1.0 if i % 2 else -1.0] for i in range(number)], length)


def timed(host: PolicyHost, batch: TrainBatch) -> float:
    """Return the seconds of an update."""
    card.wait()
    start = time.perf_counter()
    host.update([PolicyUpdate(RUN, batch)])
    card.wait()
    return time.perf_counter() - start


def show_profile(host: PolicyHost, batch: TrainBatch) -> None:
    """Print which kernels an update's time went into."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as trace:
        host.update([PolicyUpdate(RUN, batch)])
        card.wait()
    key = "self_cuda_time_total" if card.device() == "cuda" else "self_cpu_time_total"
    print(trace.key_averages().table(sort_by=key, row_limit=30, max_name_column_width=70), flush=True)


if __name__ == "__main__":
    main()
