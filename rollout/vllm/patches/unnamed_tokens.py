"""Logprobs of vLLM's without each token's text, which nobody here reads.

vLLM decodes every sampled token a second time for it, one by one, in the engine's own thread. On a fast GPU that thread
is what a batch waits for.
"""

from typing import Any

from vllm.v1.engine.logprobs import LogprobsProcessor


def install() -> None:
    """Make requests of engines that start in this process from now on leave it out."""
    processor: Any = LogprobsProcessor
    original = processor.from_new_request.__func__
    if original.__module__ == __name__:  # installed already
        return

    def from_new_request(cls: Any, tokenizer: Any, request: Any) -> Any:
        return original(cls, None, request)

    processor.from_new_request = classmethod(from_new_request)
