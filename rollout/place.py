"""Where an actor runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Place:
    """A place on a cluster, and what an actor may use there.

    Example: ``Place(threads=8)`` is anywhere on the cluster, on eight cores.
    """

    threads: int
    gpus: float = 0.0
    """0 means the CPU."""
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Ray's own options of an actor, such as its part of a placement group."""

    def actor_options(self) -> dict[str, Any]:
        """All that Ray has to be told."""
        # Learner and workers take turns on a CPU, so none of them keeps a core to itself.
        resources = {"num_gpus": self.gpus} if self.gpus else {"num_cpus": CPUS}
        return {**resources, **self.options}


CPUS = 0.1
"""Of Ray's account, for an actor that computes on a CPU."""
