"""One policy: the numbers that are trained, their optimizer, and how often they were moved."""

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor

from lora.config import LoraConfig
from lora.files import Description, check_finite, pack
from lora.packed import pack_tensors, unpack_tensors
from lora.types import Adapter
from rl.config import LearnerConfig


@dataclass(frozen=True, slots=True)
class AdamConfig:
    """One step of AdamW (Loshchilov and Hutter, 2019); without weight decay it is Adam."""

    lr: float
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.0
    """Share of a parameter, times `lr`, that each step takes away."""
    max_grad_norm: float = 0.0
    """The gradient is scaled down to at most this norm; 0 leaves it as it is."""

    @classmethod
    def of(cls, config: LearnerConfig, lr_scale: float = 1.0) -> Self:
        """Return a run's own settings, at `lr_scale` times its learning rate."""
        return cls(
            config.lr * lr_scale, config.beta1, config.beta2, config.eps, max_grad_norm=config.max_grad_norm or 0.0
        )


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


class TrainableWeights(Protocol):
    """The numbers that an optimizer moves: an adapter's, or all of the model's."""

    def tensors(self) -> dict[str, Tensor]:
        """Float32 leaves by name."""
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


class Policy:
    """One policy's trained numbers, its optimizer, and the count of its steps."""

    def __init__(self, spec: PolicySpec, weights: TrainableWeights, description: Description) -> None:
        self.spec = spec
        self.run = spec.run
        self.weights = weights
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

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self._set_gradients([None] * len(self.parameters))
        self._finite_loss, self._spent = True, False

    def _set_gradients(self, gradients: Sequence[Tensor | None]) -> None:
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient

    def publish(self, dtype: torch.dtype) -> Adapter:
        """The policy as it is now. Raises SpoiltWeights if it holds a number that is not finite."""
        tensors = {name: tensor.to(dtype) for name, tensor in self.weights.tensors().items()}
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
        self._spent = True
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
        tensors = dict(self.weights.tensors())
        for name, parameter in self.weights.tensors().items():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"adam.{key}.{name}"] = value
        return _pack_state(self.run, self.version, tensors)

    def load_state(self, state: bytes) -> None:
        """The inverse of `state`. Raises ValueError if it is damaged, another program's or another shape's."""
        tensors, facts = unpack_tensors(state, "policy")
        run, version = facts.get("run"), facts.get("version")
        if not isinstance(run, str) or not isinstance(version, int):
            raise ValueError("a policy's state does not say which run's and which version it is")
        check_finite(tensors)
        self.weights.load({n: t for n, t in tensors.items() if not n.startswith("adam.")})
        self.run, self.version = run, version
        self.zero_grad()
        for name, parameter in self.weights.tensors().items():
            moments = {key: tensors.get(f"adam.{key}.{name}") for key in ("step", "exp_avg", "exp_avg_sq")}
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


def first_state(run: str, tensors: Mapping[str, Tensor]) -> bytes:
    """The state of a policy that was not trained yet and begins from an adapter's `tensors`."""
    return _pack_state(run, 0, tensors)


def _pack_state(run: str, version: int, tensors: Mapping[str, Tensor]) -> bytes:
    header = {"run": run, "version": version}
    detached = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return pack_tensors(detached, "policy", header)
