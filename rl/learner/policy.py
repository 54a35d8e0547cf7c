"""One policy: the numbers that are trained, their optimizer, and how often they were moved."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lora.config import LoraConfig
from lora.files import Description, check_finite, pack
from lora.packed import pack_tensors, unpack_tensors
from lora.types import Adapter
from rl.config import LearnerConfig


@dataclass(frozen=True, slots=True)
class PolicySpec:
    """How one policy is trained, apart from the base model that it may share with others.

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
        """What the model computes with in place of each, by which a loss can be differentiated."""
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
    """What belongs to one policy alone."""

    def __init__(self, spec: PolicySpec, layers: TrainableWeights, description: Description) -> None:
        self.spec = spec
        self.run = spec.run
        self.layers = layers
        self.version = 0
        self._description = description
        config = spec.learner
        self.parameters: list[Tensor] = list(layers.tensors().values())
        self.optimizer = torch.optim.Adam(
            self.parameters, lr=config.lr, betas=(config.beta1, config.beta2), eps=config.eps
        )

    def publish(self, dtype: torch.dtype) -> Adapter:
        """The policy as it is now. Raises SpoiltWeights if it holds a number that is not finite."""
        tensors = {name: tensor.to(dtype) for name, tensor in self.layers.tensors().items()}
        try:
            check_finite(tensors)
        except ValueError as error:
            raise SpoiltWeights(f"{self.run}: {error}; go on from the last checkpoint with --resume") from error
        return Adapter(self.run, self.version, pack(tensors, self._description))

    def step(
        self, lr_scale: float, dtype: torch.dtype, *, finite: bool, agreed: Callable[[bool], bool]
    ) -> dict[str, float]:
        """Move the parameters by their gradients, unless something is not finite; the metrics of that.

        `finite` says it of the loss; here it is asked of the gradients, and of what the step made, as `dtype` holds it.
        Where several learners make one step, `agreed` says whether it is sound for all of them.

        Raises:
            SpoiltWeights: a step of all of a model's weights went wrong, which cannot be undone.
        """
        config = self.spec.learner
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, config.max_grad_norm or math.inf).item()
        lr = config.lr * lr_scale
        before = None if config.weights == "full" else _Kept(self.parameters, self.optimizer)
        finite = finite and math.isfinite(norm)
        if sound := agreed(finite and self._move(lr) <= torch.finfo(dtype).max):
            self.layers.sync()
            self.version += 1
        elif finite:
            self._take_back(before)
        return {"update/grad_norm": norm, "update/nonfinite": float(not sound), "update/lr": lr}

    def _move(self, lr: float) -> float:
        """Take the optimizer's step; returns the largest magnitude among parameters and moments, NaN if one is NaN."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
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
        """All that the next step depends on."""
        tensors = dict(self.layers.tensors())
        for name, parameter in self.layers.tensors().items():
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
        self.layers.load({n: t for n, t in tensors.items() if not n.startswith("adam.")})
        self.run, self.version = run, version
        for name, parameter in self.layers.tensors().items():
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
