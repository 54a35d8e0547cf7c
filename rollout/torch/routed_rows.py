"""The experts that the torch engine's rows went through, noted while they are written."""

from collections.abc import Generator
from contextlib import contextmanager

import torch
from jaxtyping import Int
from torch import Tensor

from lora.base.router_replay import Recording, Routers
from rollout.types import RoutedExperts


class RoutedRows:
    """Rows in the middle of being read, by a model whose routers are looked at; without routers nothing is noted."""

    def __init__(self, routers: Routers | None, num_rows: int) -> None:
        self._routers = routers
        self._num_rows = num_rows
        self._parts: list[Int[Tensor, "rows inputs blocks active"]] = []

    @contextmanager
    def reading(self, batch: int) -> Generator[None]:
        """Note the experts of what is read inside the block: `batch` prompts at first, then a token more of every row.

        Rows that share a prompt stand together. What is read anew for every token counts once, when it was first read.
        """
        if self._routers is None:
            yield
            return
        recording = Recording()
        with self._routers.under(recording):
            yield
        read = recording.experts(self._routers.num_blocks).unflatten(0, (batch, -1)).to(torch.int16).cpu()
        if self._parts:
            read = read[:, -1:]
        self._parts.append(read.repeat_interleave(self._num_rows // batch, dim=0))

    def experts(self, lengths: list[int]) -> list[RoutedExperts | None]:
        """Return the experts of so many tokens of each row."""
        if self._routers is None:
            return [None] * len(lengths)
        whole = torch.cat(self._parts, dim=1).numpy()
        return [RoutedExperts.of(row[:length]) for row, length in zip(whole, lengths, strict=True)]
