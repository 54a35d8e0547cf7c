"""How a run's actors share a cluster's GPUs."""

from dataclasses import dataclass

from rollout.config import RolloutConfig

SHARED_MEMORY_FRACTION = 0.6
"""What the rollout workers on a GPU may take together when the learner is on it too."""


@dataclass(frozen=True, slots=True)
class GpuShares:
    """GPUs of the learner and of each rollout worker (0 means the CPU), and a worker's share of a GPU's memory."""

    learner: float
    worker: float
    memory_fraction: float


def share_gpus(gpus: int, config: RolloutConfig, *, learner_on_gpu: bool) -> GpuShares:
    """One GPU each if there are enough; on a single GPU all share it.

    Raises:
        ValueError: the cluster can never hold the run.
    """
    if gpus == 0:
        return GpuShares(0, 0, config.gpu_memory_fraction)
    workers = config.num_workers * config.tensor_parallel_size
    needed = workers + learner_on_gpu
    if gpus >= needed:
        return GpuShares(float(learner_on_gpu), float(config.tensor_parallel_size), config.gpu_memory_fraction)
    if gpus == 1 and config.tensor_parallel_size == 1:
        memory = min(config.gpu_memory_fraction, SHARED_MEMORY_FRACTION / config.num_workers)
        return GpuShares(learner_on_gpu / needed, 1 / needed, memory)
    raise ValueError(
        f"the run needs {needed} GPUs ({config.num_workers} rollout workers of {config.tensor_parallel_size} and "
        f"{int(learner_on_gpu)} for the learner), the cluster has {gpus}; lower rollout.num_workers or "
        "rollout.tensor_parallel_size"
    )
