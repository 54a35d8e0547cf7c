"""The number of worker processes of a pool: the default, and the most that a machine holds."""

import os

WORKER_BYTES = 128 * 2**20
"""Memory of a worker before it grades anything: Python, sympy, and its tables."""


def worker_count(workers: int | None) -> int:
    """Return `reward.workers`, or its default. Raises ValueError for more than this machine holds."""
    if workers is not None and workers > (most := most_workers()):
        raise ValueError(
            f"reward.workers = {workers} is more than this machine has use or memory for; set at most {most}"
        )
    return workers or default_workers()


def most_workers() -> int:
    """The most that this machine holds: some may wait for a network, so more than cores, but each takes memory."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(max(64, 16 * len(os.sched_getaffinity(0))), memory // WORKER_BYTES))


def default_workers() -> int:
    """One for every two cores this process may use, at least one, at most eight."""
    return max(1, min(8, len(os.sched_getaffinity(0)) // 2))
