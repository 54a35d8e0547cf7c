"""Settings of sampling."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

MOST_OF_A_PROBLEM = 4096
"""Most completions of a problem, each of which has a seed of its own among those of the step."""


SERVED_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks as which vLLM serves adapters; others are padded to the next one."""


def _warm_enough(temperature: float) -> float:
    if 0 < temperature < COLDEST:
        raise ValueError(f"a temperature below {COLDEST} overflows; choose 0, which is greedy, or at least {COLDEST}")
    return temperature


COLDEST = 0.01
Temperature = Annotated[float, Field(ge=0, le=100), AfterValidator(_warm_enough)]
TopP = Annotated[float, Field(gt=0, le=1)]
TopK = Annotated[int, Field(ge=0)]
MinP = Annotated[float, Field(ge=0, lt=1)]


class SamplingConfig(BaseModel):
    """The way completions are drawn from the policy."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    group_size: int = Field(default=8, ge=1, le=MOST_OF_A_PROBLEM)
    """Completions of one problem; a group's mean reward is its baseline."""
    max_tokens: int = Field(default=256, ge=1)
    """Most tokens of a completion."""
    temperature: Temperature = 1.0
    """0 is greedy, for evaluation; logprobs are then those at temperature 1."""
    top_p: TopP = 1.0
    """Draw from the likeliest tokens alone that together have this probability. As with `top_k` and `min_p`, a sampled
    logprob is of what is left to draw from, so the ratio to the learner's stays the one that importance sampling needs,
    and `update/kl_sampler_learner` includes what was cut off."""
    top_k: TopK = 0
    """Draw from so many of the likeliest tokens alone; 0 is all of them."""
    min_p: MinP = 0.0
    """Draw from those tokens alone whose probability is at least this share of the likeliest one's."""
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Texts at which a completion ends, besides the model's own end of sequence; also of special tokens."""
    stop_token_ids: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """Tokens at which a completion ends, besides the model's own end of sequence; the completion includes the token."""
    ignore_eos: bool = False
    """Write on behind the model's own end of sequence, up to `stop`, `stop_token_ids` or `max_tokens`."""


class RolloutConfig(BaseModel):
    """The engines that sample."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    engine: Literal["vllm", "torch"] = "vllm"
    """`torch` is the small reference engine: slow, plain, and repeatable bit for bit."""
    num_workers: Annotated[int, Field(ge=1, le=4096)] | Literal["auto"] = "auto"
    """Rollout workers, each with an engine of its own. `auto` is as many as keep the cluster's GPUs busy beside the
    learners, and 1 where there are none."""
    max_concurrent: int = Field(default=256, ge=1, le=65_536)
    """Sequences one worker generates at once."""
    adapters_in_flight: int = Field(default=2, ge=1, le=1024)
    """Adapters that one batch may mix: the newest policy, and the one before it whose requests are still running.
    `rankone sweep` sets it to the policies that it trains at once."""
    kv_cache_gib: Annotated[float, Field(gt=0, le=65_536)] | Literal["auto"] = "auto"
    """Memory of a worker's key-value cache on a CPU; `auto` is 1, or less if `max_concurrent` sequences need less."""
    gpu_memory_fraction: float = Field(default=0.85, gt=0, le=1)
    """Share of a GPU's memory that a worker may take."""
    tensor_parallel_size: int = Field(default=1, ge=1, le=1024)
    """GPUs that one worker's engine is spread over, on one node."""
    enforce_eager: bool | None = None
    """Run without compilation or CUDA graphs; by default only on a CPU."""
    fuse_adapters: bool = False
    """Compute adapters inside vLLM's compiled model, where its compiler fuses them with what is around them, and not by
    its own kernels. Meant for one or two adapters of a low rank on a GPU, and not measured there yet."""
    return_routed_experts: bool = False
    """Have engines return the experts that a mixture sent each token to, as `learner.router_replay` has them by itself;
    without that, learners tell `update/router_disagreement` from it."""
    max_restarts: int = Field(default=3, ge=0)
    """Times in a row, without an answer in between, that a worker that died is started again."""
    start_timeout: float = Field(default=1800.0, gt=0, le=7 * 24 * 3600)
    """Seconds a worker may take to load its model and be ready."""
    stall_timeout: float = Field(default=600.0, gt=0, le=7 * 24 * 3600)
    """Seconds without an answer, nor a step of its engine towards one, after which a worker counts as dead."""

    @model_validator(mode="after")
    def _adapters_are_fused_where_they_are(self) -> Self:
        if self.fuse_adapters and self.tensor_parallel_size > 1:
            raise ValueError(
                "rollout.fuse_adapters changes vLLM in a worker's own process, and rollout.tensor_parallel_size = "
                f"{self.tensor_parallel_size} divides its model among others: set fuse_adapters = false"
            )
        return self

    @property
    def worker_count(self) -> int:
        """Workers that there are unless a cluster's GPUs say otherwise."""
        return 1 if self.num_workers == "auto" else self.num_workers
