"""The card's gradients against a CPU's in float32, of packed rows of several groups: ``python -m bench.gpu.numbers``.

In float32, with the plain loss and with a KL to the base model and an entropy bonus; and in bfloat16, which rounds: the
CPU's own bfloat16 against its float32 says by how much.
"""

import json
import random
import tempfile
from pathlib import Path
from typing import Any

import torch

from bench.gpu import card
from bench.gpu.shapes import SHAPES, write_model
from lora.config import LoraConfig, ModelConfig
from rewards.types import Outcome, Problem, Reward
from rl.algorithm.batch.packing import build_batch
from rl.config import LearnerConfig, replaced
from rl.learner.policies.policy import PolicySpec
from rl.learner.policy_host import LearnerSpec, PolicyHost, PolicyUpdate
from rl.types import Group, TrainBatch
from rollout.types import Completion

RUN = "numbers"
Numbers = tuple[list[torch.Tensor], list[torch.Tensor]]
PLAIN = LearnerConfig(tokens_per_row=1024)
CASES = (
    ("float32", "float32", PLAIN),
    ("float32, KL and entropy", "float32", replaced(PLAIN, kl_coef=0.05, entropy_coef=0.01)),
    ("bfloat16", "bfloat16", PLAIN),
)


def main() -> None:
    """Print the largest difference of a logprob, in nats, and the gradient's relative one, for each of the cases."""
    print(json.dumps({"ready": True}), flush=True)
    with tempfile.TemporaryDirectory() as directory, card.turn():
        model = str(write_model(SHAPES["tiny"], Path(directory), "cpu"))
        for case, dtype, learner in CASES:
            expected = gradients(model, "float32", "cpu", learner)
            found = {"case": case, **differences(expected, gradients(model, dtype, card.device(), learner))}
            if dtype != "float32":
                rounding = differences(expected, gradients(model, dtype, "cpu", learner))
                found |= {f"{name}_cpu": value for name, value in rounding.items()}
            print(json.dumps(found | {"card": card.name()}), flush=True)


def differences(expected: Numbers, got: Numbers) -> dict[str, float]:
    """Return how far two results are apart."""
    logprobs = max((a - b).abs().max().item() for a, b in zip(expected[0], got[0], strict=True))
    relative = max(((a - b).norm() / a.norm()).item() for a, b in zip(expected[1], got[1], strict=True))
    return {"logprob_difference": logprobs, "gradient_difference": relative}


def gradients(model: str, dtype: Any, device: str, learner: LearnerConfig) -> Numbers:
    """Return the logprobs of each row's targets and the adapter's gradients, on the CPU."""
    lora = LoraConfig(rank=2)
    host = PolicyHost(LearnerSpec(ModelConfig(name=model, dtype=dtype), device, learner, lora))
    host.add(PolicySpec(RUN, lora, learner, temperature=0.7, seed=0))
    policy = host.policies[RUN]
    with torch.no_grad():
        for name, tensor in policy.weights.tensors().items():
            noise = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(len(name))) * 0.02
            tensor.add_(noise.to(tensor.device))
    policy.weights.sync()
    (output,) = host.forward_backward([PolicyUpdate(RUN, groups())])
    return [each.cpu() for each in output.logprobs], [p.grad.cpu() for p in policy.parameters if p.grad is not None]


def groups() -> TrainBatch:
    """Return six groups of eight completions, all of other lengths."""
    draw = random.Random(0)

    def ids(count: int) -> list[int]:
        return [draw.randrange(3, 512) for _ in range(count)]

    made: list[Group] = []
    for _ in range(6):
        written = [tuple(ids(draw.randint(5, 300))) for _ in range(8)]
        completions = [Completion(tokens, (-6.0,) * len(tokens), "", "stop", 0) for tokens in written]
        made.append(
            Group(Problem("", "", ""), ids(draw.randint(5, 200)), completions, [Reward(1.0, Outcome.CORRECT)] * 8)
        )
    return build_batch(made, [[draw.uniform(-1, 1) for _ in range(8)] for _ in made], 1024)


if __name__ == "__main__":
    main()
