"""Sums over the learners that share a step's rows: of gradients, and of nothing else of the model.

A rank-1 adapter's gradient is a few hundred thousand numbers, so the sum costs little beside the step on any network.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Protocol

import torch
from torch import Tensor


class ProcessGroup(Protocol):
    """The learners that make one update together, this one included. All of them make the same calls in turn."""

    lockstep: bool
    """Whether all must go through the model equally often, because each holds a part of it."""

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all learners."""
        ...

    def sum_values(self, values: Mapping[str, float]) -> dict[str, float]:
        """Sums of numbers by name."""
        ...

    def max(self, value: int) -> int:
        """The largest of everybody's."""
        ...


class SingleProcess(ProcessGroup):
    """One learner."""

    lockstep = False

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Nobody else has anything to add."""

    def sum_values(self, values: Mapping[str, float]) -> dict[str, float]:
        return dict(values)

    def max(self, value: int) -> int:
        return value


class TorchProcessGroup(ProcessGroup):
    """Learners in a `torch.distributed` process group, which must have been set up."""

    def __init__(self, device: str, *, lockstep: bool) -> None:
        self.lockstep = lockstep
        self._device = device
        distributed: Any = torch.distributed
        self._all_reduce = distributed.all_reduce
        self._op = distributed.ReduceOp

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """One message for all of them."""
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        self._all_reduce(flat, op=self._op.SUM)
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def sum_values(self, values: Mapping[str, float]) -> dict[str, float]:
        summed = torch.tensor(list(values.values()), dtype=torch.float64, device=self._device)
        self._all_reduce(summed, op=self._op.SUM)
        return dict(zip(values, summed.tolist(), strict=True))

    def max(self, value: int) -> int:
        largest = torch.tensor(value, device=self._device)
        self._all_reduce(largest, op=self._op.MAX)
        return int(largest)


def open_store(host: str, timeout_s: float) -> Any:
    """Open the store at which learners meet, on a port of this host that nobody has; its `port` says which."""
    distributed: Any = torch.distributed
    return distributed.TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=timeout_s))


def init_process_group(
    device: str, address: str, rank: int, world_size: int, *, lockstep: bool, timeout_s: float, store: Any = None
) -> TorchProcessGroup:
    """Meet the other learners in the store at HOST:PORT, which its opener has as `store`; returns when all are there.

    Whoever waits for another longer than `timeout_s` fails: with NCCL its process ends, by default after 10 minutes.
    """
    distributed: Any = torch.distributed
    backend, timeout = "nccl" if device.startswith("cuda") else "gloo", timedelta(seconds=timeout_s)
    host, _, port = address.rpartition(":")
    store = store or distributed.TCPStore(host, int(port), is_master=False, timeout=timeout)
    distributed.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=timeout)
    return TorchProcessGroup(device, lockstep=lockstep)
