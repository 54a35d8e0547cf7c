"""Settings of sampling."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

MOST_OF_A_PROBLEM = 4096
"""Most completions of a problem, each of which has a seed of its own among those of the step."""


def _warm_enough(temperature: float) -> float:
    if 0 < temperature < COLDEST:
        raise ValueError(f"a temperature below {COLDEST} overflows; choose 0, which is greedy, or at least {COLDEST}")
    return temperature


COLDEST = 0.01
Temperature = Annotated[float, Field(ge=0, le=100), AfterValidator(_warm_enough)]


class SamplingConfig(BaseModel):
    """The way completions are drawn from the policy."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    group_size: int = Field(default=8, ge=1, le=MOST_OF_A_PROBLEM)
    """Completions of one problem; a group's mean reward is its baseline."""
    max_tokens: int = Field(default=256, ge=1)
    """Most tokens of a completion."""
    temperature: Temperature = 1.0
    """0 is greedy, for evaluation."""
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Texts at which a completion ends, besides the model's own end of sequence."""


class RolloutConfig(BaseModel):
    """The engines that sample."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    engine: Literal["vllm", "torch"] = "vllm"
    """`torch` is the small reference engine: slow, plain, and repeatable bit for bit."""
    num_workers: int = Field(default=1, ge=1, le=4096)
    """Rollout workers, each with an engine of its own."""
    max_concurrent: int = Field(default=256, ge=1, le=65_536)
    """Sequences one worker generates at once."""
    adapters_in_flight: int = Field(default=2, ge=1, le=1024)
    """Adapters that one batch may mix: the newest policy, and the one before it whose requests are still running.
    `rankone sweep` sets it to the policies that it trains at once."""
    kv_cache_gib: float = Field(default=1.0, gt=0, le=65_536)
    """Memory of a worker's key-value cache on a CPU."""
    gpu_memory_fraction: float = Field(default=0.85, gt=0, le=1)
    """Share of a GPU's memory that a worker may take."""
    tensor_parallel_size: int = Field(default=1, ge=1, le=1024)
    """GPUs that one worker's engine is spread over, on one node."""
    enforce_eager: bool | None = None
    """Run without compilation or CUDA graphs; by default only on a CPU."""
    max_restarts: int = Field(default=3, ge=0)
    """Times in a row, without an answer in between, that a worker that died is started again."""
    start_timeout: float = Field(default=1800.0, gt=0, le=7 * 24 * 3600)
    """Seconds a worker may take to load its model and be ready."""
    stall_timeout: float = Field(default=600.0, gt=0, le=7 * 24 * 3600)
    """Seconds without an answer, nor a step of its engine towards one, after which a worker counts as dead."""
