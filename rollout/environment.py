"""The environment variables that a vLLM worker needs on this machine, so that no user has to set them."""

import contextlib
import importlib.metadata
import os
from pathlib import Path

from rollout.config import RolloutConfig


def worker_environment(config: RolloutConfig, *, threads: int, on_gpu: bool) -> dict[str, str]:
    """Variables for a worker's process; they must be there when it starts."""
    shared = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine lives in the actor's own process: no third party to lose
        "VLLM_LOGGING_LEVEL": os.environ.get("VLLM_LOGGING_LEVEL", "ERROR"),
        "VLLM_NO_USAGE_STATS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if on_gpu:
        return shared
    cpu = {
        "VLLM_CPU_KVCACHE_SPACE": str(max(1, round(config.kv_cache_gib))),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(threads),
        # Waking a thread costs more than a small product: it waits 1 ms for the next one, then leaves the core.
        "KMP_BLOCKTIME": "1",
    }
    library = _intel_openmp()
    return shared | cpu | ({"LD_PRELOAD": library} if library else {})


def tidy_openmp(*, own: bool = False) -> None:
    """Remove what Intel's OpenMP leaves in shared memory for processes that were killed; with ``own`` this one's too,
    which is about to be."""
    for file in Path("/dev/shm").glob("__KMP_REGISTERED_LIB_*_*"):
        pid = file.name.split("_")[-2]
        if not Path("/proc", pid).exists() or (own and pid == str(os.getpid())):
            with contextlib.suppress(OSError):
                file.unlink()


def _intel_openmp() -> str | None:
    """The OpenMP library whose threads vLLM's CPU kernels run best on, if its wheel is installed."""
    try:
        files = importlib.metadata.files("intel-openmp") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    found = [str(file.locate().resolve()) for file in files if file.name == "libiomp5.so"]  # pyright: ignore[reportAttributeAccessIssue]
    return found[0] if found else None
