"""A mixture's experts, given instead of chosen, or noted as they are chosen.

A sampler and a learner round differently, so a learner's routers send some tokens to other experts than the sampler's
did, and those tokens' ratios are of two different functions. With the sampler's choices replayed, the learner computes
with the same experts. Their weights still come from its own router's logits, so that gradients reach what the router
reads ("Stabilizing MoE Reinforcement Learning by Aligning Training and Inference Routers", Ma et al. 2025,
arXiv:2510.11370).
"""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from typing import Any, NamedTuple, Protocol

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from lora.base.architecture import UnsupportedModel, reads_text
from lora.layers.experts import LoraExperts, is_experts
from lora.layers.gate_weights import GateWeights, recognise

NO_MIXTURE = (
    "learner.router_replay is for mixtures of experts whose routers are known, and this model has none: set it to false"
)

Experts = Int[Tensor, "positions active"]
"""The experts of each position in one block."""


class Choice(Protocol):
    """Decides on the experts of a pass, or looks on."""

    def choose(self, block: int, own: Experts) -> Experts:
        """Return the experts of a block's positions; `own` are those that its router would take."""
        ...

    def again(self) -> "Choice | None":
        """Return what chooses the same when a part of the pass is computed again; None leaves it to the routers."""
        ...


class Recording(Choice):
    """Keeps the experts that routers choose."""

    def __init__(self) -> None:
        self._by_block: dict[int, Experts] = {}

    def choose(self, block: int, own: Experts) -> Experts:
        self._by_block[block] = own
        return own

    def again(self) -> None:
        return None

    def experts(self, num_blocks: int) -> Int[Tensor, "positions blocks active"]:
        """Return what was chosen, in all of a model's blocks; those without a mixture have zeros."""
        like = next(iter(self._by_block.values()))
        zeros = torch.zeros_like(like)
        return torch.stack([self._by_block.get(block, zeros) for block in range(num_blocks)], dim=1)


class Replay(Choice):
    """Gives positions the experts that a sampler chose; positions of none follow the model's own routers."""

    def __init__(
        self,
        sampled: Int[Tensor, "positions blocks active"],
        replayed: Bool[Tensor, " positions"] | None,
        *,
        counts: bool = True,
    ) -> None:
        """`sampled` has -1 where there is no choice of a sampler's; of the others, those in `replayed` are computed
        with, and the rest only compared; None stands for no position."""
        self._sampled = sampled
        self.is_sampled = sampled[:, 0, 0] >= 0
        """Positions that a sampler chose experts for."""
        self._replayed = None if replayed is None else replayed & self.is_sampled
        self.differing = torch.zeros(len(sampled), dtype=torch.int32, device=sampled.device) if counts else None
        """Blocks in which a position's own router would have taken another set of experts."""
        self.num_blocks = 0
        """Blocks with a router."""

    def choose(self, block: int, own: Experts) -> Experts:
        """Raises ValueError if the sampler's choices are not of this model's shape."""
        positions, blocks, active = self._sampled.shape
        if (positions, active) != own.shape or block >= blocks:
            raise ValueError(
                f"the sampler's experts are {tuple(self._sampled.shape)} (positions, blocks, active), and block "
                f"{block} routes {tuple(own.shape)}: this model's routing cannot be replayed; set "
                "learner.router_replay = false"
            )
        given = self._sampled[:, block].to(own.dtype)
        if self.differing is not None:
            self.num_blocks += 1
            differs = given.sort(-1).values != own.sort(-1).values
            self.differing += (differs.any(-1) & self.is_sampled).to(torch.int32)
        return own if self._replayed is None else torch.where(self._replayed[:, None], given, own)

    def again(self) -> "Replay":
        return Replay(self._sampled, self._replayed, counts=False)


class _Answer(NamedTuple):
    """A router's answer, by what its parts are."""

    logits: Tensor
    weights: Tensor
    experts: Experts
    index_first: bool

    @classmethod
    def of(cls, output: Any) -> "_Answer | None":
        """Return the parts of what a router returned; None if it has other ones."""
        if not (isinstance(output, tuple) and len(output) == 3 and all(isinstance(part, Tensor) for part in output)):
            return None
        first, weights, last = output
        index_first = not first.is_floating_point()
        logits, index = (last, first) if index_first else (first, last)
        fits = not index.is_floating_point() and weights.shape == index.shape and index.dim() == logits.dim() == 2
        return cls(logits, weights, index, index_first) if fits else None

    def with_experts(self, index: Experts, gate_weights: GateWeights) -> tuple[Tensor, Tensor, Tensor]:
        """Return the answer for other experts, in the router's own order."""
        weights = gate_weights(self.logits, index)
        return (index, weights, self.logits) if self.index_first else (self.logits, weights, index)


class Routers:
    """The routers of a model's mixtures, which compute as ever outside of all blocks.

    Each thread has its own choice: several may be computing, and one that enters a block changes nothing for others.
    """

    def __init__(self, model: nn.Module) -> None:
        """Raises UnsupportedModel as `find_routers` does."""
        self._inside = threading.local()
        self._kind: str = _kind(model)
        self._gate_weights: dict[int, GateWeights] = {}
        self.num_blocks: int = _text_config(model).num_hidden_layers
        for block, router in find_routers(model).items():
            router.forward = self._choosing(block, router, router.forward)

    @property
    def choice(self) -> Choice | None:
        """Return what chooses now, in this thread."""
        return getattr(self._inside, "choice", None)

    def under(self, choice: Choice | None) -> AbstractContextManager[None]:
        """Let it choose, inside the block; one that may be entered again."""
        return _Under(self, choice)

    def again(self) -> AbstractContextManager[None]:
        """Return the block in which what is computed now is computed again, with the same experts."""
        choice = self.choice
        return self.under(None if choice is None else choice.again())

    def enter(self, choice: Choice | None) -> Choice | None:
        """Let it choose from now on, in this thread; returns what chose before."""
        before = self.choice
        self._inside.choice = choice
        return before

    @torch.no_grad()
    def recognise(self, model: nn.Module) -> None:
        """See from a few tokens how each router weighs the experts it chose, so that it can weigh others.

        Raises:
            UnsupportedModel: one does so in a way that is not known.
        """
        device = next(model.parameters()).device
        ids = torch.arange(3, 3 + 64, device=device)[None] % _text_config(model).vocab_size
        with self.under(_Recognising()):
            model(input_ids=ids, use_cache=False)

    def _choosing(self, block: int, router: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(forward)
        def choosing(*arguments: Any, **named: Any) -> Any:
            output = forward(*arguments, **named)
            if (choice := self.choice) is None:
                return output
            answer = _Answer.of(output)
            if answer is None:
                raise UnsupportedModel(self._refusal(router))
            if isinstance(choice, _Recognising):
                self._gate_weights[block] = self._recognised(router, answer)
                return output
            experts = choice.choose(block, answer.experts)
            return output if experts is answer.experts else answer.with_experts(experts, self._gate_weights[block])

        return choosing

    def _recognised(self, router: nn.Module, answer: _Answer) -> GateWeights:
        scale = getattr(router, "routed_scaling_factor", 1.0)
        gate_weights = recognise(answer.logits, answer.experts, answer.weights, scale)
        if gate_weights is None:
            raise UnsupportedModel(self._refusal(router))
        return gate_weights

    def _refusal(self, router: nn.Module) -> str:
        return (
            f"{type(router).__name__} of models of type {self._kind!r} weighs experts in a way that is not known, so "
            "its choices cannot be replayed: set learner.router_replay = false"
        )


class _Recognising(Choice):
    """Changes nothing."""

    def choose(self, block: int, own: Experts) -> Experts:
        return own

    def again(self) -> None:
        return None


class _Under(AbstractContextManager[None]):
    def __init__(self, routers: Routers, choice: Choice | None) -> None:
        self._routers = routers
        self._choice = choice
        self._before: list[Choice | None] = []

    def __enter__(self) -> None:
        self._before.append(self._routers.enter(self._choice))

    def __exit__(self, *_: object) -> None:
        self._routers.enter(self._before.pop())


def find_routers(model: nn.Module) -> dict[int, nn.Module]:
    """Return the router of each block that has a mixture, by the block's number.

    Raises:
        UnsupportedModel: there is no mixture, or one has no router that is known.
    """
    text_modules = reads_text(model)
    routers: dict[int, nn.Module] = {}
    for name, parent in model.named_modules():
        experts = getattr(parent, "experts", None)
        if parent not in text_modules or not (isinstance(experts, LoraExperts) or (experts and is_experts(experts))):
            continue
        block = next((int(part) for part in name.split(".") if part.isdigit()), None)
        siblings = [child for child in parent.children() if isinstance(getattr(child, "top_k", None), int)]
        if block is None or len(siblings) != 1 or block in routers:
            raise UnsupportedModel(
                f"models of type {_kind(model)!r} choose experts in a way that is not known, so their choices cannot "
                "be replayed: set learner.router_replay = false"
            )
        routers[block] = siblings[0]
    if not routers:
        raise UnsupportedModel(NO_MIXTURE)
    return routers


def routers_of(model: nn.Module) -> Routers:
    """Return the model's own routers, made on first use. Raises as `Routers` does."""
    owner: Any = model
    if routers_on(model) is None:
        owner.rankone_routers = Routers(model)
    return owner.rankone_routers


def routers_on(model: nn.Module) -> Routers | None:
    """Return them if they were made."""
    owner: Any = model
    return getattr(owner, "rankone_routers", None)


def _kind(model: Any) -> str:
    return model.config.model_type


def _text_config(model: Any) -> Any:
    return model.config.get_text_config()
