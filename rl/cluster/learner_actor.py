"""A learner's own side: the model in its actor's process, and where it meets those that share its updates."""

import os
from dataclasses import dataclass
from typing import Any

import ray

from rl.learner.collectives import init_process_group, open_store
from rl.learner.policy_host import LearnerSpec, PolicyHost
from rollout.ray.placement import check_device


@dataclass(frozen=True, slots=True)
class Rendezvous:
    """The meeting point of learners that share an update."""

    address: str
    rank: int
    world_size: int


class LearnerActor(PolicyHost):
    """A `PolicyHost` in an actor. It loads the model in `start`, so that a refusal reaches the caller whole."""

    def __init__(self) -> None:
        """Begin without a model."""
        self._store: Any = None

    def start(self, threads: int, spec: LearnerSpec, rendezvous: Rendezvous | None) -> None:
        """Load the model, and meet the other learners if there are any."""
        import torch

        check_device(spec.device)
        torch.set_num_threads(threads)
        group = None
        if rendezvous is not None:
            place = rendezvous.address, rendezvous.rank, rendezvous.world_size
            # One that waits for another, which loads its model more slowly, is to have the patience of who asks them.
            group = init_process_group(
                spec.device,
                *place,
                lockstep=spec.learner.shard,
                timeout_s=spec.learner.stall_timeout,
                store=self._store,
            )
        PolicyHost.__init__(self, spec, group)

    def address(self, timeout_s: float) -> str:
        """Open a store for all to meet in, and return its HOST:PORT.

        The port is taken from now on: one that was only found to be free may be another process's by then.
        """
        host = ray.util.get_node_ip_address()
        self._store = open_store(host, timeout_s)
        return f"{host}:{self._store.port}"

    def pid(self) -> int:
        return os.getpid()
