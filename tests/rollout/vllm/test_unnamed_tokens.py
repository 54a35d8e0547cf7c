"""No token is decoded for its logprob, and what is sampled has its text and its logprobs all the same."""

from importlib.util import find_spec
from typing import Any

import pytest

if find_spec("vllm") is None:
    pytest.skip("needs vLLM", allow_module_level=True)


def test_requests_keep_their_logprobs_and_lose_the_tokens_texts() -> None:
    import numpy as np
    from vllm.v1.engine.logprobs import LogprobsProcessor
    from vllm.v1.outputs import LogprobsLists

    from rollout.config import SamplingConfig
    from rollout.vllm.patches import unnamed_tokens
    from rollout.vllm.requests import sampling_params

    unnamed_tokens.install()
    unnamed_tokens.install()  # a second engine in the process
    request: Any = type("Request", (), {"sampling_params": sampling_params(SamplingConfig(), 0, 1, [])})()
    processor = LogprobsProcessor.from_new_request(object(), request)  # a tokenizer that can do nothing
    sampled = LogprobsLists(np.array([[7, 9]]), np.array([[-0.5, -0.25]]), np.array([2]), None)
    processor._update_sample_logprobs(sampled)

    (choices,) = processor.logprobs or ()
    assert {token: (choice.logprob, choice.decoded_token) for token, choice in choices.items()} == {
        7: (-0.5, None),
        9: (-0.25, None),
    }
