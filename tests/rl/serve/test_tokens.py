"""vLLM's endpoint for tokens in and tokens out, in vLLM's own types. They take seconds to load, so only tests load them."""

from collections.abc import AsyncGenerator
from typing import Any

import pytest
import requests
from helpers.serving import Served

from lora.base.tiny_model import tiny_tokenizer
from rl.serve.http.openai.draw import Stream
from rollout.config import SamplingConfig
from rollout.types import CompletionPart


@pytest.fixture(scope="module")
def protocol() -> Any:
    from vllm.entrypoints.scale_out.token_in_token_out import protocol

    return protocol


def generated(served: Served, body: dict[str, Any], *, status: int = 200) -> dict[str, Any]:
    """Return what vLLM's endpoint for tokens answers to a prompt of three tokens, unless the body has another."""
    answer = _post(served, {"token_ids": [3, 4, 5], "model": "base", **body})
    assert answer.status_code == status, answer.text
    return answer.json()


def _post(served: Served, body: dict[str, Any]) -> requests.Response:
    headers = {"Authorization": f"Bearer {served.key}"}
    return requests.post(f"{served.url}/inference/v1/generate", json=body, headers=headers, timeout=60)


def test_vllm_itself_reads_the_tokens_that_are_answered(served: Served, protocol: Any) -> None:
    body = {"sampling_params": {"max_tokens": 6, "seed": 1, "logprobs": 2}, "return_token_ids": True}
    response = protocol.GenerateTokensResponse.model_validate(generated(served, body))
    (choice,) = response.choices
    assert (response.prompt_token_ids, response.model, len(response.request_id) > 0) == ([3, 4, 5], "base", True)
    assert choice.logprobs is not None
    assert choice.logprobs.content is not None
    for part, token in zip(choice.logprobs.content, choice.token_ids or (), strict=True):
        assert part.top_logprobs[0].token_id == part.token_id == token
        assert len(part.top_logprobs) == 2
    (span,) = choice.weight_versions
    assert (span.version, span.start, span.end) == ("0", 0, 6)


def test_tokens_go_on_until_they_end_or_the_context_is_full(served: Served) -> None:
    """Fill the context where nothing says how many, and where more are asked for than there is room for: many turns come to that."""
    for params in ({}, {"max_tokens": None}, {"max_tokens": 5000}):
        content = generated(served, {"sampling_params": {"ignore_eos": True, **params}})
        assert (content["choices"][0]["finish_reason"], content["usage"]["total_tokens"]) == ("length", 128)


def test_a_stop_token_is_named_as_the_reason(served: Served) -> None:
    seeded = {"max_tokens": 8, "seed": 1, "ignore_eos": True}
    (whole,) = generated(served, {"sampling_params": seeded})["choices"]
    last = whole["token_ids"][3]
    (ended,) = generated(served, {"sampling_params": {**seeded, "stop_token_ids": [last]}})["choices"]
    begin = whole["token_ids"][: whole["token_ids"].index(last) + 1]
    assert (ended["token_ids"], ended["finish_reason"], ended["stop_reason"]) == (begin, "stop", last)
    assert whole["stop_reason"] is None


def test_streamed_tokens_are_those_of_the_whole_answer(served: Served, protocol: Any) -> None:
    body = {"sampling_params": {"max_tokens": 6, "seed": 1, "n": 2, "ignore_eos": True}}
    whole = generated(served, body)["choices"]
    streamed = _post(served, {"token_ids": [3, 4, 5], "model": "base", "stream": True, **body})
    lines = [line.removeprefix("data: ") for line in streamed.text.splitlines() if line]
    assert lines[-1] == "[DONE]"
    chunks = [protocol.GenerateTokensStreamResponse.model_validate_json(line) for line in lines[:-1]]
    tokens: dict[int, list[int]] = {0: [], 1: []}
    for choice in (chunk.choices[0] for chunk in chunks):
        tokens[choice.index] += choice.token_ids or []
    assert tokens == {choice["index"]: choice["token_ids"] for choice in whole}


async def test_the_last_chunk_of_streamed_tokens_says_how_they_ended(protocol: Any) -> None:
    from rl.serve.http.openai.tokens import GenerateRequest, token_chunks

    async def parts() -> AsyncGenerator[CompletionPart]:
        yield CompletionPart(0, (5,), (-1.0,), "a", None, 7)
        yield CompletionPart(1, (6, 8), (-2.0, -0.5), "bc", "length", 7)
        yield CompletionPart(0, (9, 4), (-3.0, -0.2), "d", "stop", 7)

    request = GenerateRequest.model_validate({
        "token_ids": [3], "return_token_ids": True, "stream_options": {"include_usage": True}, "sampling_params": {},
    })  # fmt: skip
    stream, sampling = Stream([3], 7, parts()), SamplingConfig(stop_token_ids=(4,))
    written = [chunk async for chunk in token_chunks(tiny_tokenizer(), request, sampling, stream)]
    chunks = [protocol.GenerateTokensStreamResponse.model_validate(chunk) for chunk in written]
    assert [chunk.prompt_token_ids for chunk in chunks] == [[3], None, None, None]
    first, other, last = (chunk.choices[0] for chunk in chunks[:-1])
    assert [(part.index, part.token_ids, part.finish_reason, part.stop_reason) for part in (first, other, last)] == [
        (0, [5], None, None), (1, [6, 8], "length", None), (0, [9, 4], "stop", 4),
    ]  # fmt: skip
    spans = [
        [(span.version, span.start, span.end) for span in part.weight_versions or ()] for part in (first, other, last)
    ]
    assert spans == [[], [("7", 0, 2)], [("7", 0, 3)]]
    assert chunks[-1].usage is not None
    assert (chunks[-1].usage.completion_tokens, written[0]["policy_version"]) == (5, 7)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"token_ids": [3] * 128}, "maximum context length of 128 tokens"),
        ({"token_ids": [99_999]}, "the model's tokens are"),
        ({"content_parts": [{"type": "image_url", "url": "data:,"}]}, "content_parts is not served"),
        ({"output_mode": "text"}, "output_mode is not served"),
        ({"sampling_params": {"prompt_logprobs": 1}}, "prompt_logprobs is not served"),
        ({"sampling_params": {"trace_decode_token_ids": [3]}}, "trace_decode_token_ids is not served"),
        ({"sampling_params": {"max_tokens": 0}}, "max_tokens must be at least 1"),
    ],
)
def test_tokens_that_cannot_be_sampled_are_refused(served: Served, body: dict[str, Any], message: str) -> None:
    """The length in the words by which verifiers' programs know it, so that they shorten what they send."""
    assert message in generated(served, body, status=400)["error"]["message"]
