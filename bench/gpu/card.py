"""The card that figures are of."""

import fcntl
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import torch

BF16_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense, by the vendor's datasheet, which is what published shares (MFU) are of."""


def device() -> str:
    """Return where the figures are measured."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def name() -> str:
    """Return the card's name, or "CPU"."""
    return torch.cuda.get_device_name() if device() == "cuda" else "CPU"


def peak_flops() -> float | None:
    """Return its bf16 operations a second, where they are known."""
    return next((flops for card, flops in BF16_FLOPS.items() if card in name()), None)


@contextmanager
def turn() -> Generator[None]:
    """Have the card alone among the measuring processes, inside the block: others may load and compile meanwhile."""
    with (Path(tempfile.gettempdir()) / "rankone-bench.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def total_gib() -> float:
    """Return the card's memory; on a CPU, more than anything here needs."""
    return torch.cuda.mem_get_info()[1] / 2**30 if device() == "cuda" else 1e6


def wait() -> None:
    """Wait until the card has done what it was given."""
    if device() == "cuda":
        torch.cuda.synchronize()


def free() -> None:
    """Give cached memory back, and forget the peak."""
    if device() == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_bytes() -> int:
    """Return the most memory that tensors took since `free`; 0 on a CPU."""
    return torch.cuda.max_memory_allocated() if device() == "cuda" else 0
