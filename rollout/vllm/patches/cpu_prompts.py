"""Prompt logprobs under adapters of the output layer, for vLLM on a CPU.

vLLM 0.32 gives an adapter of that layer to the rows that it samples: row i of what it computes logits for is that of
the batch's i-th request. A prompt's logprobs are computed later in the same step, for all rows of one prompt, and would
get the adapters of whatever requests the batch has. Here a prompt's rows get its own.
"""

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor


def install() -> None:
    """Make vLLM compute so in this process."""
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner

    runner: Any = GPUModelRunner
    original = runner._get_prompt_logprobs_dict
    if original.__module__ == __name__:  # installed already
        return

    def prompt_logprobs(self: Any, hidden_states: Tensor, num_scheduled_tokens: dict[str, int]) -> dict[str, Any]:
        answers = dict[str, Any]()
        for request in [request for request in self.num_prompt_logprobs if request in num_scheduled_tokens]:
            with _alone(self, request):
                answers |= original(self, hidden_states, num_scheduled_tokens)
        return answers

    runner._get_prompt_logprobs_dict = prompt_logprobs


@contextmanager
def _alone(runner: Any, request: str) -> Generator[None]:
    """Let the runner see this one of the requests for prompt logprobs, and compute logits with its adapter."""
    asked: dict[str, int] = runner.num_prompt_logprobs
    first_token = runner.query_start_loc.np[runner.input_batch.req_id_to_index[request]].item()
    runner.num_prompt_logprobs = {request: asked[request]}
    with ExitStack() as stack:
        for wrapper in runner.lora_manager._adapter_manager.punica_wrapper_mapping.values():
            stack.enter_context(wrapper.logits_with_adapter_of(first_token))
        try:
            yield
        finally:
            if not runner.num_prompt_logprobs:  # vLLM takes out what it has answered
                del asked[request]
            runner.num_prompt_logprobs = asked
