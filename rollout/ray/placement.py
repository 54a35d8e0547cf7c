"""The place of an actor on a cluster."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class ActorPlacement:
    """A place on a cluster, and what an actor may use there.

    Example: ``ActorPlacement(threads=8)`` is anywhere on the cluster, on eight cores.
    """

    threads: int
    gpus: float = 0.0
    """0 means the CPU."""
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Ray's own options of an actor, such as its part of a placement group."""

    def actor_options(self) -> dict[str, Any]:
        """Return the options that Ray has to be given."""
        # Learner and workers take turns on a CPU, so none of them keeps a core to itself. On a GPU they ask for no CPU,
        # and say so: for an actor that names none Ray wants a whole one, and the bundles hold none.
        resources = {"num_gpus": self.gpus, "num_cpus": 0} if self.gpus else {"num_cpus": CPUS}
        return {**resources, **self.options}


CPUS = 0.1
"""Ray's count of CPUs for an actor that computes on a CPU."""


def check_device(device: str) -> None:
    """Raises ValueError if this process is to compute on a GPU that torch does not find."""
    import torch

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(
            f"Ray counts a GPU on {socket.gethostname()}, and torch {torch.__version__} finds none there: install "
            "rankone's `gpu` extra and the GPU's driver on that node, or start it with --num-gpus=0"
        )
