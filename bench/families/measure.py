"""One family's figures on a tiny random model, in float32: what is trained, and how exactly."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lora.accounting import linear_kinds
from lora.base.load import load_skeleton
from lora.base.targets import resolve_lora
from lora.config import ALL_LINEAR, LoraConfig, ModelConfig
from lora.layers.experts import PROJECTIONS, is_experts
from lora.trainable.inject import inject
from lora.trainable.lora_layers import LoraLayers
from rewards.types import Outcome, Problem, Reward
from rl.algorithm.batch.packing import build_batch
from rl.config import LearnerConfig
from rl.learner.bases.shared_model import SharedModel
from rl.learner.passes.policy_loss import PolicyBatch
from rl.learner.policies.policy import Policy, PolicySpec
from rl.types import Group
from rollout.config import SamplingConfig
from rollout.torch.engine import TorchEngine
from rollout.types import Completion

PROMPTS = ([5, 6, 7], [20, 21, 22, 23, 24])
ADVANTAGES = (1.0, -0.5, -0.25)
"""Of a prompt's completions."""
REWARD = Reward(1.0, Outcome.CORRECT)


@dataclass(frozen=True, slots=True)
class Trained:
    """The figures of a family that is trained. Differences are the largest ones."""

    default_targets: bool
    """True if the family has the layers that `lora.targets` names by default."""
    targets: tuple[str, ...]
    """The layers that were adapted: what "all-linear" stands for, less `excluded`."""
    excluded: tuple[str, ...]
    """Experts, where they compute in a way that is not known."""
    packs: bool
    """True if completions share rows."""
    packed_difference: float
    """Of the learner's logprob of a token from the plain model's, which reads one completion alone; in nats."""
    sampled_difference: float
    """Of the logprob that the torch engine sampled a token with from the learner's; in nats."""
    gradient_difference: float
    """Of a tensor's gradient from the plain model's, relative to its norm."""


def model_config(directory: Path) -> ModelConfig:
    """Return the settings of the model there."""
    return ModelConfig(name=str(directory), dtype="float32", max_length=64)


def begin(model: ModelConfig) -> tuple[SharedModel, Policy]:
    """Load the model with a policy of rank 2 on every linear layer, but for experts that are refused.

    Raises:
        ValueError: something else is refused.
    """
    shared = SharedModel(model)
    try:
        policy = shared.add(_spec(resolve_lora(model, LoraConfig(rank=2, targets=(ALL_LINEAR,)))))
    except ValueError:
        if not any(is_experts(module) for module in shared.model.modules()):
            raise
        policy = shared.add(_spec(resolve_lora(model, LoraConfig(rank=2, targets=(ALL_LINEAR,), exclude=PROJECTIONS))))
    randomise(policy)
    return shared, policy


def _spec(lora: LoraConfig) -> PolicySpec:
    return PolicySpec("family", lora, LearnerConfig(), temperature=1.0, seed=0)


async def measure(directory: Path) -> Trained:
    """Measure the model there. Raises ValueError, in one line, if its family is refused."""
    model = model_config(directory)
    shared, policy = begin(model)
    lora = policy.spec.lora
    sampling = SamplingConfig(group_size=len(ADVANTAGES), max_tokens=6, ignore_eos=True)
    written = await TorchEngine(model, lora).sample(PROMPTS, policy.publish(torch.float32), sampling, seeds=[1, 2])
    logprobs = _learn(shared, policy, written)
    plain, layers = _plain(model, lora, policy)
    expected = _learn_plainly(plain, written)
    whole = resolve_lora(model, LoraConfig(targets=(ALL_LINEAR,))).targets
    excluded = tuple(name for name in whole if name not in lora.targets)
    return Trained(
        not excluded and _has_default_targets(model),
        lora.targets,
        excluded,
        shared.packs,
        packed_difference=(logprobs - expected).abs().max().item(),
        sampled_difference=(logprobs - _sampled(written)).abs().max().item(),
        gradient_difference=_gradient_difference(policy, layers),
    )


def randomise(policy: Policy) -> None:
    """Move the policy away from the base model: A has a gradient only where B is not zero."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, tensor in policy.weights.tensors().items():
            if name.endswith("lora_B"):
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.02)


def _has_default_targets(model: ModelConfig) -> bool:
    try:
        linear_kinds(load_skeleton(model), LoraConfig())
        inject(load_skeleton(model), LoraConfig())
    except ValueError:
        return False
    return True


def _learn(shared: SharedModel, policy: Policy, written: Sequence[Sequence[Completion]]) -> Tensor:
    """Make the learner's gradients; return its logprobs, from rows that hold as many completions as they may."""
    groups = [
        Group(Problem("p", "", ""), prompt, list(group), [REWARD] * len(group))
        for prompt, group in zip(PROMPTS, written, strict=True)
    ]
    batch = build_batch(groups, [list(ADVANTAGES)] * len(groups), 1024)
    (output,) = shared.forward_backward([PolicyBatch(policy, batch)])
    return torch.cat(output.logprobs)


def _plain(model: ModelConfig, lora: LoraConfig, policy: Policy) -> tuple[Any, LoraLayers]:
    """Return the model as transformers loads it, with the policy's adapter and nothing else of ours."""
    from transformers import AutoModelForCausalLM

    loaded: Any = AutoModelForCausalLM
    plain = loaded.from_pretrained(model.name, dtype=torch.float32, attn_implementation="eager").eval()
    layers = inject(plain, lora)
    layers.load(policy.weights.tensors())
    return plain, layers


def _learn_plainly(plain: Any, written: Sequence[Sequence[Completion]]) -> Tensor:
    """Make the plain model's gradients, one completion after another; return its logprobs."""
    every: list[Tensor] = []
    count = sum(len(completion.token_ids) for group in written for completion in group)
    for prompt, group in zip(PROMPTS, written, strict=True):
        for completion, advantage in zip(group, ADVANTAGES, strict=True):
            ids = torch.tensor([[*prompt, *completion.token_ids]])
            logits = plain(ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
            logprobs = logits.log_softmax(-1).gather(1, torch.tensor(completion.token_ids)[:, None])[:, 0]
            ratios = (logprobs.detach() - torch.tensor(completion.logprobs)).exp().clamp(max=LearnerConfig().max_ratio)
            (-(ratios * advantage * logprobs).sum() / count).backward()
            every.append(logprobs.detach())
    return torch.cat(every)


def _sampled(written: Sequence[Sequence[Completion]]) -> Tensor:
    return torch.tensor([logprob for group in written for one in group for logprob in one.logprobs])


def _gradient_difference(policy: Policy, layers: LoraLayers) -> float:
    """Return the largest relative difference of a tensor's gradient.

    Raises:
        ValueError: a layer has none, and would not be trained.
    """
    differences: list[float] = []
    for name, tensor in layers.tensors().items():
        mine = policy.weights.tensors()[name].grad
        if mine is None or tensor.grad is None or not tensor.grad.norm() > 0:
            raise ValueError(f"{name} has no gradient")
        differences.append(((mine - tensor.grad).norm() / tensor.grad.norm()).item())
    return max(differences)
