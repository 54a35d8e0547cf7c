"""Microbatches side by side on a CPU: a few threads with one each, instead of all cores in each operation.

An update is some ten thousand operations of a fraction of a millisecond. Where all cores share each of them, they wait
for each other after each, and for a core that has other work to do, too. A microbatch needs nothing of the others, so
threads that have one each do not wait before the update ends, and one whose core is busy takes fewer of them.

Results come in the microbatches' order, whichever ends first, so that gradients add up to the same bits every time.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import ceil
from typing import Any, TypeVar

import torch
from torch import nn

MOST_AT_ONCE = 4
"""They share an interpreter, which only one of them can use at a time."""
FOR_EACH_THREAD = 2
"""Microbatches of a small step: fewer leave nothing to give to another thread, and every one reads all the weights."""
AHEAD = 2
"""Results a thread may be ahead of the oldest that is not there yet; each holds a gradient of every trained number."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Schedule:
    """The division of a step into microbatches: so many at once, with so many cores each."""

    at_once: int
    cores: int
    tokens: int
    """Padded inputs of a microbatch, unless one row has more."""


def schedule(lengths: Sequence[int], tokens: int, cores: int) -> Schedule:
    """For rows of these lengths, with at most `tokens` padded inputs (or one row) under way at any time.

    Example: 16 rows of 200 on two cores are four microbatches, two at once; a row of 3,000 has both cores to itself.
    """
    longest = max(lengths, default=1)
    most = min(cores, len(lengths), MOST_AT_ONCE, tokens // longest)
    if most < 2:
        return Schedule(1, cores, tokens)
    at_once = max(range(2, most + 1), key=lambda count: (cores // count * count, count))  # few cores are left over
    balanced = ceil(sum(lengths) / (FOR_EACH_THREAD * at_once)) + longest // 2  # rounded to whole rows
    return Schedule(at_once, cores // at_once, min(tokens // at_once, max(longest, balanced)))


def in_order(plan: Schedule, compute: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Yield the results of `compute` in the items' order.

    Raises whatever it raises; the items under way are waited for then, and the rest is not begun.
    """
    if plan.at_once == 1:
        yield from map(compute, items)
        return
    cores = torch.get_num_threads()
    pool = ThreadPoolExecutor(plan.at_once, "microbatch", torch.set_num_threads, (plan.cores,))
    begun: deque[Future[Result]] = deque()
    try:
        for item in items:
            begun.append(pool.submit(compute, item))
            if len(begun) > AHEAD * plan.at_once:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(cores)  # threads to come begin with what was set last, in any thread


def changes_itself(model: nn.Module) -> bool:
    """Return True if a forward pass changes the model, so that two at once would meet: rotary embeddings that depend on
    the longest row of a batch."""
    kinds: list[Any] = [getattr(module, "rope_type", None) for module in model.modules()]
    flat = [kind for entry in kinds for kind in (entry.values() if isinstance(entry, dict) else [entry])]
    return any(kind == "longrope" or "dynamic" in (kind or "") for kind in flat)
