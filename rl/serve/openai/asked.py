"""What an OpenAI request asks of sampling; what is not served is refused by its name."""

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from rl.serve.errors import Rejected, explain
from rl.serve.facts import ModelFacts
from rollout.config import SamplingConfig

NOT_SERVED = (
    "frequency_penalty", "presence_penalty", "logit_bias", "repetition_penalty", "response_format",
    "structured_outputs", "use_beam_search", "bad_words", "allowed_token_ids", "min_tokens", "prompt_embeds",
    "truncate_prompt_tokens", "suffix", "logprob_token_ids",
)  # fmt: skip
"""Settings that change what is sampled, and that the engines here do not have."""
NEUTRAL = (None, 0, 0.0, 1.0, False, "", [], {})
"""Values with which such a setting changes nothing."""


def refuse_not_served(request: Any) -> None:
    """Raises Rejected if a request asks for something that is not served."""
    for name in NOT_SERVED:
        value = getattr(request, name, None)
        plain_text = name == "response_format" and getattr(value, "type", None) == "text"
        if value not in NEUTRAL and not plain_text:
            raise Rejected(400, f"{name} is not served: leave it out")


def sampling_of(request: Any, facts: ModelFacts, prompt: Sequence[int], *, max_tokens: int | None) -> SamplingConfig:
    """Return the way in which completions are drawn. Raises Rejected if they cannot be drawn so."""
    refuse_not_served(request)
    texts = [request.stop] if isinstance(request.stop, str) else request.stop or []
    try:
        return SamplingConfig(
            group_size=request.n or 1,
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
        raise Rejected(400, explain(error)) from None
    except ValueError as error:
        raise Rejected(400, str(error)) from None
