"""Policies on a shared model, and everything that learning changes in them."""

import torch
from torch import Tensor

from rl.learner.bases.shared_model import SharedModel
from rl.learner.policies.policy import Policy, PolicySpec


def begun(model: SharedModel, spec: PolicySpec) -> Policy:
    """Begin a policy whose B is not zero any more, so that A has a gradient."""
    return moved(model.add(spec))


def moved(policy: Policy) -> Policy:
    """Fill its B with numbers that its seed decides."""
    generator = torch.Generator().manual_seed(policy.spec.seed)
    with torch.no_grad():
        for name, tensor in policy.weights.tensors().items():
            if name.endswith("lora_B"):
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.05)
    return policy


def everything(policy: Policy) -> dict[str, Tensor]:
    """Return parameters, gradients and Adam's moments."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in policy.weights.tensors().items():
        assert tensor.grad is not None
        tensors |= {name: tensor.detach(), f"grad.{name}": tensor.grad}
        tensors |= {f"{key}.{name}": value for key, value in policy.optimizer.state[tensor].items()}
    return {name: tensor.clone() for name, tensor in tensors.items()}
