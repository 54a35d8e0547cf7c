"""Sampling as an OpenAI request asks for it; a setting that is not served is refused by its name."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from rl.serve.errors import Rejected, explain
from rl.serve.facts import ModelFacts
from rollout.config import SamplingConfig

NOT_SERVED: dict[str, Any] = {
    "frequency_penalty": 0.0, "presence_penalty": 0.0, "repetition_penalty": 1.0, "logit_bias": None,
    "response_format": None, "structured_outputs": None, "use_beam_search": False, "bad_words": None,
    "allowed_token_ids": None, "min_tokens": 0, "prompt_embeds": None, "truncate_prompt_tokens": None,
    "suffix": None, "logprob_token_ids": None, "prompt_logprobs": None, "prompt_logprob_token_ids": None,
    "thinking_token_budget": None, "repetition_detection": None, "trace_decode_token_ids": None,
    "best_of": 1, "functions": None, "function_call": None,
}  # fmt: skip
"""Settings that change what is sampled, and that the engines here do not have; with the values that change nothing."""


def refuse_not_served(request: Any, not_served: Mapping[str, Any] = NOT_SERVED) -> None:
    """Raises Rejected if a request asks for something that is not served."""
    for name, neutral in not_served.items():
        value = getattr(request, name, None)
        plain_text = name == "response_format" and getattr(value, "type", None) == "text"
        if not (value is None or value == neutral or value in ([], {}, "") or plain_text):
            raise Rejected(400, f"{name} is not served: leave it out")


def sampling_of(request: Any, facts: ModelFacts, prompt: Sequence[int], *, max_tokens: int | None) -> SamplingConfig:
    """Return the way in which completions are drawn. Raises Rejected if they cannot be drawn so."""
    refuse_not_served(request)
    texts = [request.stop] if isinstance(request.stop, str) else request.stop or []
    try:
        return SamplingConfig(
            group_size=1 if request.n is None else request.n,
            max_tokens=facts.max_tokens(list(prompt), max_tokens),
            temperature=1.0 if request.temperature is None else request.temperature,
            top_p=1.0 if request.top_p is None else request.top_p,
            top_k=max(0, request.top_k or 0),
            min_p=request.min_p or 0.0,
            stop=tuple(texts),
            stop_token_ids=tuple(request.stop_token_ids or ()),
            ignore_eos=request.ignore_eos,
        )
    except ValidationError as error:
        raise Rejected(400, explain(error).replace("group_size", "n")) from None
    except ValueError as error:
        raise Rejected(400, str(error)) from None
