"""Learners that make one update together, each in a thread of this process."""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor

from rl.learner.collectives import ProcessGroup

M = TypeVar("M")
T = TypeVar("T")


class Table:
    """The place where threads put down their tensors, and take up those of the others."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.all_there = False
        """While learners are made, one after another, nobody waits for those to come: they are made alike."""
        self._barrier = threading.Barrier(count, timeout=60)
        self._there: dict[int, Any] = {}

    def exchange(self, rank: int, mine: Any) -> list[Any]:
        self._there[rank] = mine
        self._barrier.wait()
        everybodys = [self._there[other] for other in range(self.count)]
        self._barrier.wait()
        return everybodys


class ThreadGroup(ProcessGroup):
    lockstep = False

    def __init__(self, table: Table, rank: int) -> None:
        self._table = table
        self._rank = rank

    def sum(self, tensors: Sequence[Tensor]) -> None:
        everybodys = self._table.exchange(self._rank, [tensor.clone() for tensor in tensors])
        for tensor, parts in zip(tensors, zip(*everybodys, strict=True), strict=True):
            tensor.copy_(torch.stack(parts).sum(0))

    def sum_values(self, values: Mapping[str, float]) -> dict[str, float]:
        everybodys = self._table.exchange(self._rank, dict(values))
        return {name: sum(one[name] for one in everybodys) for name in values}

    def max(self, value: int) -> int:
        return max(self._table.exchange(self._rank, value)) if self._table.all_there else value


def in_threads(count: int, made: Callable[[ProcessGroup], M], work: Callable[[int, M], T]) -> list[T]:
    """Return the result of each, by rank; they are made one after another, as transformers loads models."""
    table = Table(count)
    learners = [made(ThreadGroup(table, rank)) for rank in range(count)]
    table.all_there = True
    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(work, range(count), learners))
