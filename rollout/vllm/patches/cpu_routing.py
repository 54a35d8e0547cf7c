"""Routed experts for vLLM on a CPU, where it returns none: its newer model runner alone gathers them, and needs Triton.

vLLM 0.32 keeps them by blocks of its prefix cache, so that a prompt that is not read again has those of when it was.
What does so wants to know of each step which tokens of which requests it computed. Here the older runner, which a CPU
has, tells it.
"""

from types import SimpleNamespace
from typing import Any

import numpy as np


def install() -> None:
    """Let engines that start in this process from now on return them, if their configuration asks for it."""
    from vllm.config import VllmConfig
    from vllm.v1.worker.cpu_model_runner import CPUModelRunner

    if CPUModelRunner.execute_model.__module__ == __name__:  # installed already
        return
    config: Any = VllmConfig
    config._verify_aux_output_compatibility = _verify
    _tell_steps(CPUModelRunner)


def _verify(config: Any) -> None:
    """Raises ValueError if vLLM could not return them: it compares with blocks of the prefix cache."""
    if config.aux_output_config.enabled and not config.cache_config.enable_prefix_caching:
        raise ValueError("routed experts are kept by blocks of the prefix cache, which this model has none of on a CPU")


def _tell_steps(runner: Any) -> None:
    initialize, execute, sample = runner.initialize_kv_cache, runner.execute_model, runner.sample_tokens

    def initialize_kv_cache(self: Any, kv_cache_config: Any, is_profiling: bool = False, **named: Any) -> None:
        initialize(self, kv_cache_config, is_profiling, **named)
        if self.vllm_config.aux_output_config.enabled and not is_profiling:
            from vllm.distributed.aux_output_connector.worker import get_aux_output_connector

            self.routing = get_aux_output_connector(self.model, self.vllm_config, kv_cache_config)

    def execute_model(self: Any, scheduler_output: Any, intermediate_tensors: Any = None) -> Any:
        routing = getattr(self, "routing", None)
        if routing is not None:
            routing.begin_step(scheduler_output.aux_output_connector_metadata)
        output = execute(self, scheduler_output, intermediate_tensors)
        if routing is not None and output is None:  # tokens were computed, and are to be sampled next
            self.routing_of_step = routing.prepare_output(_computed(self, scheduler_output))
        return output

    def sample_tokens(self: Any, grammar_output: Any) -> Any:
        output = sample(self, grammar_output)
        step, self.routing_of_step = getattr(self, "routing_of_step", None), None
        if step is not None:
            counts = np.array([len(tokens) for tokens in output.sampled_token_ids], dtype=np.int32)
            step.enqueue_cpu_copy(counts, np.zeros_like(counts))
            output.aux_output_connector_output = step.process_output()
        return output

    runner.initialize_kv_cache, runner.execute_model, runner.sample_tokens = (
        initialize_kv_cache, execute_model, sample_tokens,
    )  # fmt: skip


def _computed(runner: Any, scheduler_output: Any) -> Any:
    """Return the requests of a step, where each begins in the batch, and how many of its tokens were there before."""
    requests = list(runner.input_batch.req_ids)
    counts = [scheduler_output.num_scheduled_tokens[request] for request in requests]
    before = runner.input_batch.num_computed_tokens_cpu[: len(requests)].copy()
    starts = np.concatenate([[0], np.cumsum(counts)])
    return SimpleNamespace(req_ids=requests, query_start_loc_np=starts, num_computed_tokens_np=before)
