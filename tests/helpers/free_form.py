"""Requests of free-form data, and what they should do to a policy, computed in float64 on a plain model."""

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from lora.base.load import load_skeleton
from lora.base.resolve import resolve_model
from lora.config import LoraConfig, ModelConfig
from lora.peft.files import unpack
from lora.trainable.inject import inject
from lora.trainable.lora_layers import LoraLayers
from rl.algorithm.batch.datum import Datum, datum_batch
from rl.algorithm.objective.summed_loss import SummedLoss
from rl.learner.policies.policy import AdamConfig
from rl.learner.policies.state import first_state
from rl.learner.policy_host import LearnerHost, PolicyUpdate

FAR = 1e4
SGD = AdamConfig(lr=FAR, beta1=0.0, beta2=0.0, eps=FAR)
"""Adam whose step is the gradient, where that is far below eps: the one thing that shows a wrong scale."""
CROSS_ENTROPY = SummedLoss.of("cross_entropy", {})


def made_data(seed: int, lengths: Sequence[int] = (7, 1, 19, 12), *, columns: int = 0) -> list[Datum]:
    """Datums of these lengths, whose targets are no shifted inputs; a third of the targets weighs nothing."""
    rng = random.Random(seed)

    def numbers(length: int, least: float, most: float) -> Tensor:
        return torch.tensor([rng.uniform(least, most) for _ in range(length * max(1, columns))])

    def tokens(length: int) -> Tensor:
        return torch.tensor([rng.randrange(3, 45) for _ in range(length)])

    made: list[Datum] = []
    for length in lengths:
        shape = (length, columns) if columns else (length,)
        weights = numbers(length, -1, 2)
        weights = torch.where(weights.abs() < 0.5, 0.0, weights).view(shape)
        targets = tokens(length * max(1, columns)).view(shape)
        made.append(Datum(tokens(length), targets, weights, numbers(length, -5, -2).view(shape)))
    return made


def request_of(run: str, data: Sequence[Datum], loss: SummedLoss = CROSS_ENTROPY) -> PolicyUpdate:
    return PolicyUpdate(run, datum_batch(data), loss=loss)


def moved_state(model: ModelConfig, lora: LoraConfig, *, seed: int = 1, size: float = 0.05) -> bytes:
    """The state of a policy whose B is not zero, so that A has a gradient."""
    generator = torch.Generator().manual_seed(seed)
    return first_state(
        "made",
        {
            name: torch.randn(tensor.shape, generator=generator) * (size if name.endswith("lora_B") else 0.1)
            for name, tensor in inject(load_skeleton(model), lora).tensors().items()
        },
    )


async def tensors_of(host: LearnerHost, run: str) -> dict[str, Tensor]:
    return unpack((await host.publish(run)).payload)[0]


async def taken_gradient(host: LearnerHost, run: str) -> dict[str, Tensor]:
    """Take the step that shows the gradient; return it by parameter."""
    before = await tensors_of(host, run)
    metrics = await host.optim_step(run, SGD)
    assert metrics["update/nonfinite"] == 0
    after = await tensors_of(host, run)
    steps = {name: before[name].double() - after[name].double() for name in before}
    return {name: step / (1 - step.abs() / FAR) for name, step in steps.items()}


class PlainModel:
    """A model with one adapter in float64, one datum at a time, all logits at once."""

    def __init__(self, model: ModelConfig, lora: LoraConfig, tensors: dict[str, Tensor]) -> None:
        path = resolve_model(model.name)
        self.model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float64, attn_implementation="eager")
        self.layers: LoraLayers = inject(self.model.eval(), lora)
        self.layers.load(tensors)

    def logprobs(self, datum: Datum) -> Tensor:
        """Return the logprobs of a datum's targets at temperature 1, in their shape."""
        logits = self.model(datum.token_ids[None], use_cache=False).logits[0]
        targets = datum.targets.view(len(datum.token_ids), -1)
        return logits.log_softmax(-1).gather(1, targets).view(datum.targets.shape)

    def loss(self, data: Sequence[Datum], loss: SummedLoss) -> Tensor:
        """Return a request's loss, written as autograd needs it."""
        return torch.stack([_loss(loss, datum, self.logprobs(datum)) for datum in data]).sum()

    def gradient(self, data: Sequence[Datum], loss: SummedLoss) -> dict[str, Tensor]:
        named = self.layers.tensors()
        return dict(zip(named, torch.autograd.grad(self.loss(data, loss), list(named.values())), strict=True))


def _loss(loss: SummedLoss, datum: Datum, p: Tensor) -> Tensor:
    q, weights = datum.rollout_logprobs.double(), datum.weights.double()
    ratio = (p - q).exp()
    match loss.name:
        case "cross_entropy":
            return -(weights * p).sum()
        case "importance_sampling":
            return -(ratio * weights).sum()
        case "cispo":
            return -(ratio.detach().clip(loss.low, loss.high) * p * weights).sum()
        case "dro":
            return -(p * weights - loss.beta / 2 * (p - q) ** 2).sum()
        case "gspo":
            mask = torch.ones_like(datum.token_ids).bool() if datum.in_ratio is None else datum.in_ratio
            ratio = (p - q)[mask].mean().exp()
        case _:
            pass
    return -torch.min(ratio * weights, ratio.clip(loss.low, loss.high) * weights).sum()
