"""vLLM's endpoint for tokens in and tokens out, through which reinforcement-learning clients sample."""

from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from pydantic import BaseModel, ConfigDict
from vllm.entrypoints.scale_out.token_in_token_out import protocol
from vllm.entrypoints.serve.engine.protocol import UsageInfo
from vllm.outputs import WeightVersionSpan

from rl.serve.facts import ModelFacts
from rl.serve.http.openai.asked import refuse_not_served, sampling_of
from rl.serve.http.openai.chat import usage_of
from rl.serve.http.openai.draw import Stream, draw, open_stream
from rl.serve.service import Service
from rollout.config import SamplingConfig
from rollout.types import Completion, CompletionPart, TopLogprobs

NOT_SERVED: dict[str, Any] = {
    "features": None, "content_parts": None, "output_mode": "tokens", "priority": 0, "kv_transfer_params": None,
    "ec_transfer_params": None,
}  # fmt: skip
"""Parts of vLLM's request, besides settings of sampling, that would change the answer and that there are not here."""


class TokenSampling(BaseModel):
    """The part of vLLM's `SamplingParams` that is served."""

    model_config = ConfigDict(extra="allow")

    n: int = 1
    max_tokens: int | None = None
    """As many as the context has room for, unless it is given. The 16 of vLLM's class would cut every answer short."""
    temperature: float | None = 1.0
    top_p: float | None = 1.0
    top_k: int | None = 0
    min_p: float | None = 0.0
    seed: int | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    logprobs: int | None = None
    detokenize: bool = True


class GenerateRequest(protocol.GenerateRequest):
    """A prompt in tokens."""

    sampling_params: TokenSampling = TokenSampling()  # pyright: ignore[reportIncompatibleVariableOverride]


class TopLogprob(protocol.GenerateLogProb):
    """A token that might have been sampled."""

    token: str


class SampledLogprob(protocol.GenerateLogProbsContent):
    """A token that was sampled, also by the name in which `renderers` looks for it: `token_id:17`."""

    token: str


async def generate(service: Service, user: str, request: GenerateRequest) -> dict[str, Any]:
    """Return completions in tokens, with their logprobs, as JSON has them."""
    params, sampling = request.sampling_params, _sampling(service.facts, request)
    drawn = await draw(
        service, user, request.model, request.token_ids, sampling, seed=params.seed, top_logprobs=params.logprobs or 0
    )
    choices = [
        protocol.GenerateTokensChoice(
            index=index,
            **_fields(request, completion),
            **_ending(service.tokenizer, sampling, completion, completion.token_ids),
        )
        for index, completion in enumerate(drawn.completions)
    ]
    response = protocol.GenerateTokensResponse(
        request_id=request.request_id,
        model=request.model or service.facts.name,
        choices=choices,
        usage=usage_of(len(drawn.prompt), drawn.sampled),
        prompt_token_ids=drawn.prompt if request.return_token_ids else None,
    )
    return response.model_dump(serialize_as_any=True) | {"policy_version": drawn.policy_version}


async def stream_tokens(service: Service, user: str, request: GenerateRequest) -> AsyncGenerator[dict[str, Any]]:
    """Return completions in chunks, as JSON has them; a refusal comes before the first one."""
    params, sampling = request.sampling_params, _sampling(service.facts, request)
    stream = await open_stream(
        service, user, request.model, request.token_ids, sampling, seed=params.seed, top_logprobs=params.logprobs or 0
    )
    return token_chunks(service.tokenizer, request, sampling, stream)


async def token_chunks(
    tokenizer: Any, request: GenerateRequest, sampling: SamplingConfig, stream: Stream
) -> AsyncGenerator[dict[str, Any]]:
    """Yield a chunk for each part, as JSON has it, and one for the usage if it is asked for."""
    more = {"policy_version": stream.policy_version}
    prompt = stream.prompt if request.return_token_ids else None
    sampled: defaultdict[int, list[int]] = defaultdict(list)
    async with aclosing(stream.parts) as parts:
        async for part in parts:
            ids = sampled[part.index]
            ids += part.token_ids
            ending = _ending(tokenizer, sampling, part, ids)
            choice = protocol.GenerateTokensStreamChoice(index=part.index, **_fields(request, part), **ending)
            yield _chunk(request, [choice], prompt=prompt) | more
            prompt = None
    if request.stream_options and request.stream_options.include_usage:
        yield _chunk(request, [], usage=usage_of(len(stream.prompt), sum(map(len, sampled.values())))) | more


def _chunk(
    request: GenerateRequest, choices: list[protocol.GenerateTokensStreamChoice], *,
    prompt: list[int] | None = None, usage: UsageInfo | None = None,
) -> dict[str, Any]:  # fmt: skip
    return protocol.GenerateTokensStreamResponse(
        request_id=request.request_id, choices=choices, prompt_token_ids=prompt, usage=usage
    ).model_dump(serialize_as_any=True)


def _sampling(facts: ModelFacts, request: GenerateRequest) -> SamplingConfig:
    """Return how completions are drawn. A context that fills ends one, as at vLLM, where OpenAI's endpoints refuse.

    Clients of many turns ask for as many tokens at each, however little room is left behind what was said.
    """
    refuse_not_served(request, NOT_SERVED)
    asked, prompt = request.sampling_params.max_tokens, request.token_ids
    most = None if asked is None else min(asked, max(1, facts.max_length - len(prompt)))
    return sampling_of(request.sampling_params, facts, prompt, max_tokens=most)


def _fields(request: GenerateRequest, part: Completion | CompletionPart) -> dict[str, Any]:
    """Return what vLLM says of the tokens of a completion or of a part of one."""
    tops = part.top_logprobs or ((),) * len(part.token_ids)
    rows = zip(part.token_ids, part.logprobs, tops, strict=True)
    most = request.sampling_params.logprobs or 0
    return {
        "finish_reason": part.finish_reason,
        "token_ids": list(part.token_ids),
        "logprobs": protocol.GenerateLogProbs(content=[_sampled(*row, most=most) for row in rows]),
    }


def _sampled(token: int, logprob: float, tops: TopLogprobs, *, most: int) -> SampledLogprob:
    """Return a sampled token. Those named beside it begin with itself, as vLLM has them; then come the likeliest."""
    others = [top for top in tops if top[0] != token]
    named = [(token, logprob), *others][:most]
    return SampledLogprob(
        token_id=token,
        token=f"token_id:{token}",
        logprob=logprob,
        top_logprobs=[TopLogprob(token_id=top, token=f"token_id:{top}", logprob=value) for top, value in named],
    )


def _ending(
    tokenizer: Any, sampling: SamplingConfig, part: Completion | CompletionPart, ids: Sequence[int]
) -> dict[str, Any]:
    """Return what vLLM says of a completion of these tokens when it ends: why, and which policy wrote it."""
    if part.finish_reason is None:
        return {}
    return {
        "stop_reason": _stop_reason(tokenizer, sampling, ids) if part.finish_reason == "stop" else None,
        "weight_versions": [WeightVersionSpan(str(part.policy_version), 0, len(ids))],
    }


def _stop_reason(tokenizer: Any, sampling: SamplingConfig, ids: Sequence[int]) -> int | str | None:
    """Return the stop token or the stop text that ended a completion; None if it was the end of sequence."""
    if not sampling.ignore_eos and ids[-1] == tokenizer.eos_token_id:
        return None
    if ids[-1] in sampling.stop_token_ids:
        return ids[-1]
    text = str(tokenizer.decode(list(ids)))
    return min((stop for stop in sampling.stop if stop in text), key=text.index, default=None)
