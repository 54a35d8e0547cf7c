"""vLLM's endpoint for tokens in and tokens out, through which reinforcement-learning clients sample."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from rl.serve.openai.asked import sampling_of
from rl.serve.openai.draw import draw
from rl.serve.service import Service
from rollout.types import Completion


class TokenSampling(BaseModel):
    """The part of vLLM's `SamplingParams` that is served."""

    model_config = ConfigDict(extra="allow")

    n: int = 1
    max_tokens: int | None = 16
    temperature: float | None = 1.0
    top_p: float | None = 1.0
    top_k: int | None = 0
    min_p: float | None = 0.0
    seed: int | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    logprobs: int | None = None


class GenerateRequest(BaseModel):
    """A prompt in tokens."""

    model_config = ConfigDict(extra="ignore")

    token_ids: list[int] = Field(min_length=1)
    sampling_params: TokenSampling = TokenSampling()
    model: str | None = None
    request_id: str | None = None


async def generate(service: Service, user: str, request: GenerateRequest) -> dict[str, Any]:
    """Return completions in tokens, with their logprobs."""
    params = request.sampling_params
    sampling = sampling_of(params, service.facts, request.token_ids, max_tokens=params.max_tokens)
    drawn = await draw(
        service, user, request.model, request.token_ids, sampling, seed=params.seed, top_logprobs=params.logprobs or 0
    )
    choices = [_choice(index, completion) for index, completion in enumerate(drawn.completions)]
    counts = {"prompt_tokens": len(drawn.prompt), "completion_tokens": drawn.sampled}
    usage = counts | {"total_tokens": sum(counts.values())}
    about = {
        "request_id": request.request_id or "",
        "model": request.model or service.facts.name,
        "output_mode": "tokens",
    }
    return {**about, "choices": choices, "usage": usage, "policy_version": drawn.policy_version}


def _choice(index: int, completion: Completion) -> dict[str, Any]:
    tops = completion.top_logprobs or ((),) * len(completion.token_ids)
    content = [
        {
            "token_id": token,
            "logprob": logprob,
            "token": f"token_id:{token}",
            "top_logprobs": [{"token_id": top, "logprob": value, "token": f"token_id:{top}"} for top, value in row],
        }
        for token, logprob, row in zip(completion.token_ids, completion.logprobs, tops, strict=True)
    ]
    ids = list(completion.token_ids)
    return {
        "index": index,
        "finish_reason": completion.finish_reason,
        "token_ids": ids,
        "logprobs": {"content": content},
    }
