"""The environment variables that a process with a model in it needs here, so that no user has to set them."""

import importlib.metadata
import os

from rollout.config import RolloutConfig

OPENMP = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "20000"}
"""Variables for torch's threads, read when torch loads. They wait briefly for the next operation, then sleep:
waking them for each of thousands of small ones costs a fifth of an update, and threads that spin for long make a small
model's step fifteen times slower wherever a core has other work to do."""


def torch_environment(*, on_gpu: bool) -> dict[str, str]:
    """Return the variables for the process of a learner or a torch engine; they must be there when it starts."""
    shared = OPENMP | {"TOKENIZERS_PARALLELISM": "false"}
    # The C library returns large tensors' memory to the system and fetches it anew, zeroed, page by page: as long as
    # a pass over them takes. Kept, and in large pages, it costs nothing.
    # Threads share one arena: a large tensor fits into none of those that they would have of their own.
    tunables = {"hugetlb": 1, "mmap_threshold": 4 * 2**30, "trim_threshold": 8 * 2**30, "arena_max": 1}
    kept = ":".join(f"glibc.malloc.{name}={value}" for name, value in tunables.items())
    # Rows differ in length from step to step: memory in segments that grow leaves no gaps between them.
    return shared | ({"PYTORCH_ALLOC_CONF": "expandable_segments:True"} if on_gpu else {"GLIBC_TUNABLES": kept})


def worker_environment(config: RolloutConfig, *, threads: int, on_gpu: bool) -> dict[str, str]:
    """Return the variables for a worker's process; they must be there when it starts."""
    shared = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine lives in the actor's own process: no third party to lose
        "VLLM_LOGGING_LEVEL": os.environ.get("VLLM_LOGGING_LEVEL", "ERROR"),
        "VLLM_NO_USAGE_STATS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if on_gpu:
        return shared
    cpu = {
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(threads),
        # Waking a thread costs more than a small product: it waits 1 ms for the next one, then leaves the core.
        "KMP_BLOCKTIME": "1",
    }
    library = _intel_openmp()
    return shared | cpu | ({"LD_PRELOAD": library} if library else {})


def _intel_openmp() -> str | None:
    """Return the path of the OpenMP library whose threads vLLM's CPU kernels run best on, if its wheel is installed."""
    try:
        files = importlib.metadata.files("intel-openmp") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    paths = [str(file.locate().resolve()) for file in files if file.name == "libiomp5.so"]  # pyright: ignore[reportAttributeAccessIssue]
    return paths[0] if paths else None
