"""One policy: the numbers that are trained, their optimizer, and how often they were moved."""

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from lora.config import LoraConfig
from lora.peft.description import Description
from lora.peft.files import check_finite, pack
from lora.types import Adapter
from rl.algorithm.objective.custom import ObjectiveSource
from rl.config import LearnerConfig
from rl.learner.policies.adam import AdamConfig
from rl.learner.policies.state import ADAM, StateFacts, pack_state, unpack_state


@dataclass(frozen=True, slots=True)
class PolicySpec:
    """The settings of one policy, apart from the base model that it may share with others.

    Example: ``PolicySpec("run", LoraConfig(rank=1), LearnerConfig(lr=5e-4), temperature=1.0, seed=0)``
    """

    run: str
    lora: LoraConfig
    learner: LearnerConfig
    temperature: float
    """Of sampling: a logprob at another temperature would be another distribution's."""
    seed: int
    """Of the adapter's A."""
    objective: ObjectiveSource | None = None
    """In the place of the one that `learner` names."""
    frozen: Mapping[str, Adapter] = field(default_factory=dict[str, Adapter])
    """Adapters that the policy is compared with, by the names that `score` has for them; they may have other shapes."""


class TrainableWeights(Protocol):
    """The numbers that an optimizer moves: an adapter's, those that an adapter is made from, or all of the model's."""

    def tensors(self) -> dict[str, Tensor]:
        """Float32 leaves by name."""
        ...

    def fixed(self) -> dict[str, Tensor]:
        """Return the tensors that are not trained, and that the trained ones mean nothing without."""
        ...

    def published(self) -> dict[str, Tensor]:
        """Return what engines sample with, by name: an adapter's A and B, or all of the model's weights."""
        ...

    def leaves(self) -> list[Tensor]:
        """Return the tensors that the model computes with, in the same order: a loss is differentiated by them."""
        ...

    def accumulate(self, gradients: Sequence[Tensor | None]) -> None:
        """Add the leaves' gradients to those of the tensors."""
        ...

    def load(self, tensors: dict[str, Tensor]) -> None: ...

    def sync(self) -> None:
        """Let the model compute with what the tensors are now."""
        ...

    def exclusively(self) -> AbstractContextManager[None]: ...

    def swapped_in(self, tensors: dict[str, Tensor]) -> AbstractContextManager[None]: ...

    def disabled(self) -> AbstractContextManager[None]: ...


class SpoiltWeights(RuntimeError):
    """A policy holds numbers that are not finite."""


@dataclass(frozen=True, slots=True)
class _Gradients:
    """Gradients as they were, a copy."""

    tensors: Sequence[Tensor | None]
    finite_loss: bool


class Policy:
    """One policy's trained numbers, its optimizer, and the count of its steps."""

    def __init__(self, spec: PolicySpec, weights: TrainableWeights, description: Description) -> None:
        self.spec = spec
        self.run = spec.run
        self.weights = weights
        self.frozen: dict[str, TrainableWeights] = {}
        """What of `spec.frozen` is on the model."""
        self.version = 0
        self._description = description
        config = spec.learner
        self.parameters: list[Tensor] = list(weights.tensors().values())
        self.optimizer = torch.optim.Adam(
            self.parameters, lr=config.lr, betas=(config.beta1, config.beta2), eps=config.eps,
            decoupled_weight_decay=True,
        )  # fmt: skip
        self._finite_loss = True
        self._spent = False
        """The optimizer has used the gradients, which stay readable until the next ones come."""
        self._held: _Gradients | None = None

    @contextmanager
    def adding_gradients(self) -> Generator[None]:
        """Add the gradients of the block to those there are; a block that fails leaves these as they were."""
        if self._spent:
            self.zero_grad()
        before = [parameter.grad for parameter in self.parameters]
        self._set_gradients([None] * len(before))
        try:
            yield
        except BaseException:
            self._set_gradients(before)
            raise
        for parameter, earlier in zip(self.parameters, before, strict=True):
            if earlier is not None:
                parameter.grad = earlier if parameter.grad is None else earlier.add_(parameter.grad)

    def count_loss(self, loss: float) -> None:
        """Note the loss whose gradients were added: after one that is not finite, the next step is not taken."""
        self._finite_loss = self._finite_loss and math.isfinite(loss)

    @property
    def gradients_pending(self) -> bool:
        """True if gradients were added since the last step."""
        return not self._spent and any(parameter.grad is not None for parameter in self.parameters)

    def hold_gradients(self) -> None:
        """Keep a copy of the gradients added since the last step, until the next step or `restore_gradients`."""
        if self._spent:
            self.zero_grad()
        copies = [None if parameter.grad is None else parameter.grad.clone() for parameter in self.parameters]
        self._held = _Gradients(copies, self._finite_loss)

    def restore_gradients(self) -> None:
        """Go back to the gradients that `hold_gradients` kept."""
        assert self._held is not None, f"{self.run} holds no gradients"
        self.zero_grad()
        self._set_gradients(self._held.tensors)
        self._finite_loss, self._held = self._held.finite_loss, None

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self._set_gradients([None] * len(self.parameters))
        self._finite_loss, self._spent = True, False

    def _set_gradients(self, gradients: Sequence[Tensor | None]) -> None:
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient

    def publish(self, dtype: torch.dtype) -> Adapter:
        """The policy as it is now. Raises SpoiltWeights if it holds a number that is not finite."""
        tensors = {name: tensor.to(dtype) for name, tensor in self.weights.published().items()}
        try:
            check_finite(tensors)
        except ValueError as error:
            raise SpoiltWeights(f"{self.run}: {error}; go on from the last checkpoint with --resume") from error
        return Adapter(self.run, self.version, pack(tensors, self._description))

    def optim_step(self, adam: AdamConfig, dtype: torch.dtype, agree: Callable[[bool], bool]) -> dict[str, float]:
        """Move the parameters by their gradients, unless a number is not finite; return the metrics of that.

        Looked at are the losses, the gradients, and the result of the step as `dtype` holds it. Where several learners
        make one step, `agree` returns True if it is sound for all of them. The gradients are used up.

        Raises:
            SpoiltWeights: a step of all of a model's weights went wrong, which cannot be undone.
        """
        self._fill_gradients()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, adam.max_grad_norm or math.inf).item()
        before = None if self.spec.learner.weights == "full" else _Kept(self.parameters, self.optimizer)
        finite = self._finite_loss and math.isfinite(norm)
        if sound := agree(finite and self._move(adam) <= torch.finfo(dtype).max):
            self.weights.sync()
            self.version += 1
        elif finite:
            self._take_back(before)
        self._spent, self._held = True, None
        return {"update/grad_norm": norm, "update/nonfinite": float(not sound), "update/lr": adam.lr}

    def _fill_gradients(self) -> None:
        """Give zeros to a parameter that had no part in the losses."""
        if self._spent:
            self.zero_grad()
        for parameter in self.parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)

    def _move(self, adam: AdamConfig) -> float:
        """Take the optimizer's step; return the largest magnitude among parameters and moments, NaN if one is NaN."""
        for group in self.optimizer.param_groups:
            group.update(lr=adam.lr, betas=(adam.beta1, adam.beta2), eps=adam.eps, weight_decay=adam.weight_decay)
        self.optimizer.step()
        states = self.optimizer.state.values()
        moments = [value for state in states for key, value in state.items() if key != "step"]
        return torch.nn.utils.get_total_norm([*self.parameters, *moments], math.inf).item()

    def _take_back(self, before: "_Kept | None") -> None:
        if before is None:
            raise SpoiltWeights(
                f"step {self.version + 1} of {self.run} made weights that are not finite, and a step of all weights "
                "cannot be undone: lower learner.lr, and go on from the last checkpoint with --resume"
            )
        before.restore()

    def state(self) -> bytes:
        """Return everything that the next step depends on, but for gradients."""
        tensors = {**self.weights.tensors(), **self.weights.fixed()}
        for name, parameter in self.weights.tensors().items():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"{ADAM}{key}.{name}"] = value
        return pack_state(StateFacts(self.run, self.version, self._description), tensors)

    def load_state(self, state: bytes) -> None:
        """Take up what `state` returned, of this policy or of another one of its shape, under this policy's name.

        Raises:
            ValueError: it is damaged, another program's, another shape's, or of another alpha.
        """
        facts, tensors = unpack_state(state)
        if facts.description is not None and facts.description.alpha != self._description.alpha:
            raise ValueError(
                f"the state was trained with alpha {facts.description.alpha:g}, and this policy has "
                f"{self._description.alpha:g}: set lora.alpha = {facts.description.alpha:g}"
            )
        check_finite(tensors)
        self.weights.load({name: tensor for name, tensor in tensors.items() if not name.startswith(ADAM)})
        self.version = facts.version
        self.zero_grad()
        self._held = None
        for name, parameter in self.weights.tensors().items():
            moments = {key: tensors.get(f"{ADAM}{key}.{name}") for key in ("step", "exp_avg", "exp_avg_sq")}
            self.optimizer.state[parameter] = {
                key: value.to(parameter.device if key != "step" else "cpu")
                for key, value in moments.items()
                if value is not None
            }


class _Kept:
    """Parameters and an optimizer's state as they were."""

    def __init__(self, parameters: Sequence[Tensor], optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer
        self._parameters = [(parameter, parameter.detach().clone()) for parameter in parameters]
        self._states = {
            parameter: {key: value.clone() for key, value in optimizer.state[parameter].items()}
            for parameter in parameters
            if parameter in optimizer.state
        }

    @torch.no_grad()
    def restore(self) -> None:
        for parameter, before in self._parameters:
            parameter.copy_(before)
        self._optimizer.state.clear()
        self._optimizer.state.update(self._states)
