"""Garbage collections that leave alone what a process has loaded."""

import gc
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def frozen_heap() -> Generator[None]:
    """Keep what is there now out of garbage collections inside the block; what is garbage of it is freed afterwards.

    A process with torch, transformers and Ray has more than a million objects, and looking through them takes half a
    second: longer than a tiny model's step, in every other one.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
