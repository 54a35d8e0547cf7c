"""What a step would take on 1 to 512 GPUs: a model of its phases, from shapes, hardware and what was measured here.

    python bench/scaling.py            the tables of docs/scaling.md

No GPU was there to check it on. What it holds to is written in `Hardware` and `Work`; what it finds is where a step
stops getting shorter, and why, which depends less on those numbers than on the form of the costs.
"""

import argparse
from dataclasses import dataclass
from math import ceil, log2


@dataclass(frozen=True, slots=True)
class Model:
    """Shapes that cost depends on. ``active`` is what one token passes through."""

    name: str
    parameters: float
    active: float
    layers: int
    kv_heads: int
    head: int
    adapter: float
    """Numbers in a rank-1 adapter on every linear layer (of every expert)."""

    @property
    def kv_bytes(self) -> float:
        """Of one token, bf16."""
        return 2 * self.layers * self.kv_heads * self.head * 2

    @property
    def weight_bytes(self) -> float:
        return 2 * self.parameters


MODELS = (
    Model("0.6B", 0.6e9, 0.6e9, 28, 8, 128, 0.63e6),
    Model("8B", 8.2e9, 8.2e9, 36, 8, 128, 2.73e6),
    Model("30B-A3B", 30.5e9, 3.3e9, 48, 4, 128, 52.7e6),
)
"""Qwen3's shapes. An adapter of the mixture's is of rank 1 on each of 128 experts."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """One GPU (an H100's data sheet) and its networks, in bytes and FLOP a second."""

    flops: float = 990e12
    memory: float = 80e9
    bandwidth: float = 3.35e12
    node: float = 450e9
    """Between the GPUs of a node of eight."""
    network: float = 50e9
    """Between nodes, a GPU."""
    latency: float = 20e-6
    """Of one message."""


@dataclass(frozen=True, slots=True)
class Work:
    """A step, and how much of the hardware is reached: public figures of vLLM and of dense training, not ours."""

    problems: int = 128
    group: int = 16
    prompt: int = 150
    mean: int = 2000
    """Tokens of a completion."""
    longest: int = 8000
    decode_share: float = 0.6
    """Of the memory's bandwidth."""
    train_share: float = 0.4
    """Of the FLOP/s."""
    lora_share: float = 0.9
    """Tokens a second of vLLM with an adapter over those without: what our CPU path reaches (docs/speed.md)."""
    overhead: float = 2e-3
    """Seconds of a decoding step that do not depend on what it computes."""
    grade: float = 1 / 4000
    """Core seconds of one grade (docs/rewards.md); a node has cores enough for its own."""
    driver: float = 6e-4
    """Seconds of the driver for one completion: rows are built and sent. Measured on one core (`--driver`)."""
    publish: float = 0.15
    """Seconds until a worker has read an adapter, its first token included (docs/speed.md)."""

    @property
    def completions(self) -> int:
        return self.problems * self.group


@dataclass(frozen=True, slots=True)
class Step:
    """Seconds of a step's phases, and what ends up being waited for."""

    rollout: float
    update: float
    rest: float
    learners: int
    workers: int
    moved: float
    """Bytes over the network: gradients, adapters, tokens."""
    in_turn: bool = False
    """One GPU has the phases one after the other."""

    @property
    def seconds(self) -> float:
        """With one step ahead, the longer of the two phases, and what neither hides."""
        both = self.rollout, self.update
        return (sum(both) if self.in_turn else max(both)) + self.rest


def rollout_seconds(model: Model, work: Work, hardware: Hardware, gpus: int) -> float:
    """Decode the completions on `gpus` GPUs, each with its share; never less than the longest one takes by itself."""
    width = _gpus_a_replica(model, hardware)
    replicas = max(1, gpus // width)
    flops, bandwidth = hardware.flops * width, hardware.bandwidth * width * work.decode_share
    context = work.prompt + work.mean / 2
    fitting = int((hardware.memory * width * 0.85 - model.weight_bytes) / (model.kv_bytes * context))
    share = work.completions / replicas
    batch = max(1.0, min(share, fitting))
    read = model.weight_bytes if model.parameters == model.active else _experts_read(model, batch)
    one = max((read + batch * context * model.kv_bytes) / bandwidth, 2 * model.active * batch / (flops * 0.5))
    tokens_a_second = batch / (one + work.overhead) * work.lora_share
    bulk = share * work.mean / tokens_a_second
    prefill = work.problems / replicas * work.prompt * 2 * model.active / (flops * 0.5)
    alone = (read if model.parameters == model.active else 2 * model.active) / bandwidth + work.overhead
    return prefill + max(bulk, work.longest * alone / work.lora_share)


def update_seconds(model: Model, work: Work, hardware: Hardware, learners: int) -> tuple[float, float]:
    """Forward, backward without weight gradients, and the sum of the adapter's gradients; also the bytes of that."""
    tokens = work.completions * work.mean + work.problems * work.prompt
    compute = 4 * model.active * tokens / (learners * hardware.flops * work.train_share)
    if learners == 1:
        return compute, 0.0
    moved = 4 * model.adapter * 2 * (learners - 1) / learners
    network = hardware.node if learners <= 8 else hardware.network
    return compute + moved / network + 2 * log2(learners) * hardware.latency, moved


def best_step(model: Model, work: Work, hardware: Hardware, gpus: int) -> Step:
    """The division into learners and rollout workers with the shortest step. One GPU takes turns."""
    rest = work.publish + work.completions * work.driver + work.completions * work.grade / (16 * ceil(gpus / 8))
    sent = 2 * model.adapter + work.completions * work.mean * 12 / max(1, gpus)
    if gpus == 1:
        update, moved = update_seconds(model, work, hardware, 1)
        return Step(rollout_seconds(model, work, hardware, 1), update, rest, 1, 1, moved + sent, in_turn=True)
    width = _gpus_a_replica(model, hardware)
    found: list[Step] = []
    for learners in range(1, gpus - width + 1):
        update, moved = update_seconds(model, work, hardware, learners)
        rollout = rollout_seconds(model, work, hardware, gpus - learners)
        found.append(Step(rollout, update, rest, learners, gpus - learners, moved + sent))
    return min(found, key=lambda step: (step.seconds, step.learners))


def _gpus_a_replica(model: Model, hardware: Hardware) -> int:
    """Enough that weights take at most 80 % of memory."""
    return ceil(model.weight_bytes / (0.8 * hardware.memory))


def _experts_read(model: Model, batch: float) -> float:
    """Weights that a batch touches: each token picks its experts, and many tokens pick nearly all."""
    touched = 1 - (1 - model.active / model.parameters) ** batch
    return max(2 * model.active, model.weight_bytes * touched)


def driver_seconds() -> float:
    """What the driver does for one completion of 2,000 tokens: build the rows and pickle them, on this machine."""
    import pickle
    import time

    from rewards.types import Outcome, Problem, Reward
    from rl.algorithm.batch.packing import build_batch
    from rl.types import Group
    from rollout.types import Completion

    completion = Completion(tuple(range(2000)), (-1.0,) * 2000, "", "stop", 0)
    rewards = [Reward(float(i % 2), Outcome.CORRECT) for i in range(16)]
    groups = [Group(Problem("", "", ""), list(range(150)), [completion] * 16, rewards)] * 8
    began = time.perf_counter()
    pickle.dumps(build_batch(groups, [[1.0, -1.0] * 8] * 8, 8192))
    return (time.perf_counter() - began) / (16 * 8)


def table(work: Work, hardware: Hardware) -> str:
    lines = [
        "| model | GPUs | learners + rollouts | rollout s | update s | rest s | step s | completions/s | speed-up | moved |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for model in MODELS:
        least = _gpus_a_replica(model, hardware) + 1 if _gpus_a_replica(model, hardware) > 1 else 1
        first = best_step(model, work, hardware, least)
        for gpus in (1, 8, 64, 512):
            step = best_step(model, work, hardware, max(gpus, least))
            faster = first.seconds / step.seconds
            lines.append(
                f"| {model.name} | {max(gpus, least)} | {step.learners} + {step.workers} | {step.rollout:.1f} | "
                f"{step.update:.1f} | {step.rest:.2f} | {step.seconds:.1f} | {work.completions / step.seconds:.0f} | "
                f"{faster:.1f} | {step.moved / 2**20:.0f} MiB |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--driver", action="store_true", help="measure the driver's seconds a completion instead")
    parser.add_argument("--problems", type=int, default=Work().problems)
    parser.add_argument("--longest", type=int, default=Work().longest)
    given = parser.parse_args()
    if given.driver:
        print(f"{driver_seconds() * 1e6:.0f} us a completion")
    else:
        print(table(Work(problems=given.problems, longest=given.longest), Hardware()))


if __name__ == "__main__":
    main()
