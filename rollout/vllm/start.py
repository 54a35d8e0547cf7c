"""The start of vLLM: its arguments, its platform, and one line where it cannot start."""

import gc
import json
import logging
from typing import Any

from lora.accounting import kept_numbers
from lora.base.architecture import attends_only
from lora.base.dtype import dtype_name, torch_dtype
from lora.base.load import load_skeleton
from lora.config import LoraConfig, ModelConfig, Quantization
from lora.layers.quantized import torchao_config
from lora.messages import single_line
from rollout.config import SERVED_RANKS, RolloutConfig
from rollout.vllm.patches.install import install_patches

MEMORY_HINT = (
    " (its memory is set by rollout.gpu_memory_fraction on a GPU, by rollout.kv_cache_gib on a CPU; model.max_length "
    "and rollout.max_concurrent lower what it needs)"
)

BLOCK = 32
"""Tokens of a block of keys and values on a CPU."""
SMALLEST_CACHE, LARGEST_CACHE = 2**26, 2**30
"""Bytes of a cache that nobody asked for."""


def on_cpu() -> bool:
    """Return True if the vLLM that is installed is its CPU build."""
    from vllm.platforms import current_platform

    return current_platform.is_cpu()


def start_vllm(arguments: Any) -> Any:
    """Start vLLM. Raises ValueError if it cannot start, most often for want of memory."""
    from vllm import LLMEngine

    gc.freeze()  # vLLM collects several times over while it starts, which takes half a second each with all its modules
    try:
        return LLMEngine.from_engine_args(arguments)
    except Exception as error:
        raise ValueError(f"vLLM could not start: {reason(error)}{MEMORY_HINT}") from error


def reason(error: Exception) -> str:
    """Return an error of vLLM's in one line, which may be long."""
    return single_line(error, 400) or type(error).__name__


def refusal(error: Exception) -> Exception:
    """Return the error for the caller of a refused request: what vLLM calls a client's mistake is a ValueError here."""
    from vllm.exceptions import VLLMClientError

    return ValueError(reason(error)) if isinstance(error, VLLMClientError) else error


def engine_args(model: str, model_config: ModelConfig, lora: LoraConfig, config: RolloutConfig, seed: int) -> Any:
    """Return vLLM's arguments; first put our parts in the place of its own.

    Raises:
        ValueError: a library is not installed, or routed experts are asked for where processes share a CPU's model.
    """
    from vllm import EngineArgs

    is_cpu = on_cpu()
    if is_cpu and config.return_routed_experts and config.tensor_parallel_size > 1:
        raise ValueError(
            "on a CPU vLLM returns routed experts from one process alone: set rollout.tensor_parallel_size = 1, or "
            "learner.router_replay = false"
        )
    logging.getLogger("vllm.logging_utils.dump_input").setLevel(logging.CRITICAL)  # it prints every prompt on a failure
    install_patches(on_cpu=is_cpu, fuse_adapters=config.fuse_adapters)
    quantization, overrides = quantization_args(model_config.quantization)
    return EngineArgs(
        **(cpu_args(model_config, config) if is_cpu else _GPU_ARGS),
        quantization=quantization,
        model=model,
        dtype=dtype_name(model_config),
        hf_overrides={"head_dtype": model_config.head_dtype, **overrides},
        max_model_len=model_config.max_length,
        seed=seed,
        enable_lora=True,
        enable_mixed_moe_lora_format=True,  # an adapter of experts says itself that it is laid out as PEFT's are
        max_lora_rank=served_rank(lora.rank),
        max_loras=config.adapters_in_flight,
        max_cpu_loras=config.adapters_in_flight + 1,
        max_num_seqs=config.max_concurrent,
        logprobs_mode="processed_logprobs",  # the distribution that was sampled from, its temperature included
        max_logprobs=-1,  # as many of the likeliest tokens as a caller asks for
        tensor_parallel_size=config.tensor_parallel_size,
        # In a placement group, vLLM left to itself has Ray place a process for each GPU, in a bundle of its own: but
        # here the GPUs are in the actor's one bundle, and its own already.
        distributed_executor_backend="mp" if config.tensor_parallel_size > 1 else None,
        gpu_memory_utilization=config.gpu_memory_fraction,
        enforce_eager=is_cpu if config.enforce_eager is None else config.enforce_eager,
        enable_return_routed_experts=config.return_routed_experts,
        disable_log_stats=True,
    )


def quantization_args(quantization: Quantization | None) -> tuple[str | None, dict[str, str]]:
    """Return the name of vLLM's loader for a quantised base, and what it is told of it: rows are its as they are ours.

    Raises:
        ValueError: torchao is not installed.
    """
    if quantization is None:
        return None, {}
    config = torchao_config(quantization)
    from torchao.core.config import config_to_dict

    return "torchao", {"quantization_config_dict_json": json.dumps(config_to_dict(config))}


_GPU_ARGS: dict[str, Any] = {"enable_prefix_caching": True}


def cpu_args(model_config: ModelConfig, config: RolloutConfig) -> dict[str, Any]:
    """Return the arguments that vLLM has on a CPU alone."""
    skeleton = load_skeleton(model_config)
    return {
        # A recurrent layer's state is kept for a prompt's blocks only where prompts are read in chunks.
        "enable_prefix_caching": attends_only(skeleton),
        # A group shares its prompt's whole blocks; the default of 128 tokens leaves a short prompt none.
        "block_size": BLOCK,
        # A prompt cut into chunks rewinds its request's random generator, which a CPU generator cannot do (vLLM 0.32).
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(4096, model_config.max_length),
        "kv_cache_memory_bytes": cache_bytes(skeleton, model_config, config),
    }


def cache_bytes(skeleton: Any, model_config: ModelConfig, config: RolloutConfig) -> int:
    """Return the size of a worker's key-value cache on a CPU: what is set, or what can be filled, up to a GiB.

    It is written when the worker starts, which takes a second or two a GiB. What a recurrent layer keeps is not counted
    here, so its models get a GiB.
    """
    if config.kv_cache_gib != "auto":
        return round(config.kv_cache_gib * 2**30)
    if not attends_only(skeleton):
        return LARGEST_CACHE
    tokens = 2 * config.max_concurrent * (model_config.max_length + BLOCK)  # twice: prompts of earlier batches stay
    bytes_per_token = kept_numbers(skeleton) * torch_dtype(model_config).itemsize
    return min(LARGEST_CACHE, max(SMALLEST_CACHE, tokens * bytes_per_token))


def served_rank(rank: int) -> Any:
    """Return the rank that vLLM serves a rank as. Raises ValueError if it serves none so high."""
    for served in SERVED_RANKS:
        if served >= rank:
            return served
    raise ValueError(f"vLLM serves adapters of rank {SERVED_RANKS[-1]} at most, and this one has rank {rank}")
