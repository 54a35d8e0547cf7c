"""The adapter that each part of a running batch goes through, as a value that all adapted layers of a model read.

A layer sees a batch in one of several forms: [rows, inputs, width] in most of a body, [rows * inputs, width] in a
mixture's experts, [targets, width] in the output layer. So parts are given in *positions* of what is computed, counted
over the flattened leading dimensions, and a layer that sees another number of them refuses.
"""

import threading
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from torch import nn

Segment = tuple[int, slice | None]
"""An adapter's slot, and the positions that use it; None stands for all of them."""


@dataclass(frozen=True, slots=True)
class Route:
    """The adapter of each position; positions of none are the base model's.

    Example: ``Route(((0, slice(0, 24)), (1, slice(24, 36))), positions=36)``
    """

    segments: tuple[Segment, ...] = ()
    positions: int | None = None
    """Number of positions, where segments have a part of them each."""


BASE = Route()
"""The base model alone."""


class Routing:
    """The route of what a model computes now; all of its adapted layers share one.

    Each thread has its own: several may be computing, and one that enters a block changes nothing for the others.
    """

    def __init__(self, route: Route | None = BASE) -> None:
        self._outside = route
        self._inside = threading.local()

    @property
    def route(self) -> Route:
        """Raises RuntimeError where several adapters are on the model, and nobody said which of them is meant."""
        route: Route | None = getattr(self._inside, "route", None) or self._outside
        if route is None:
            raise RuntimeError(
                "several adapters are on this model: compute inside `exclusively`, `routed` or `disabled`"
            )
        return route

    def reset(self, route: Route | None) -> None:
        """Compute by that route from now on, outside of all blocks."""
        self._outside = route

    def enter(self, route: Route | None) -> Route | None:
        """Compute by that route from now on, in this thread; returns the one of the block that this is in, if any."""
        before: Route | None = getattr(self._inside, "route", None)
        self._inside.route = route
        return before

    def under(self, route: Route) -> AbstractContextManager[None]:
        """Compute by that route, inside the block; one that may be entered again."""
        return _Under(self, route)

    def recomputed(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """A `context_fn` of `torch.utils.checkpoint`: what is computed again goes the way that it went at first.

        A backward pass runs when the forward pass's blocks have ended.
        """
        return nullcontext(), self.under(self.route)

    @property
    def only_slot(self) -> int | None:
        """The one adapter that everything goes through; None where there are several, or none."""
        segments = self.route.segments
        return segments[0][0] if len(segments) == 1 and segments[0][1] is None else None

    def used(self, slots: nn.ModuleDict, positions: int) -> list[tuple[Any, slice | None]]:
        """Return those of a layer's adapters that the route leads to, with their parts of the layer's `positions`.

        Raises:
            ValueError: the layer does not see the batch's positions, one each.
        """
        route = self.route
        used = [(slots[str(slot)], part) for slot, part in route.segments if str(slot) in slots]
        if used and route.positions not in (None, positions):
            raise ValueError(
                f"this model regroups tokens before an adapted layer ({positions} of {route.positions}), so policies "
                "cannot share its batches: leave that layer out of lora.targets, or set policies_at_once = 1"
            )
        return used


class _Under(AbstractContextManager[None]):
    def __init__(self, routing: Routing, route: Route) -> None:
        self._routing = routing
        self._route = route
        self._before: list[Route | None] = []

    def __enter__(self) -> None:
        self._before.append(self._routing.enter(self._route))

    def __exit__(self, *_: object) -> None:
        self._routing.enter(self._before.pop())


def routing_of(model: nn.Module) -> Routing:
    """Return the model's own routing, made on first use."""
    owner: Any = model
    if getattr(owner, "rankone_routing", None) is None:
        owner.rankone_routing = Routing()
    return owner.rankone_routing
