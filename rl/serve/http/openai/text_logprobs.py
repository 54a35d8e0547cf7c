"""Logprobs of tokens as OpenAI's completions name them: by the tokens' texts."""

import itertools
from collections.abc import Sequence
from typing import Any

from vllm.entrypoints.openai.completion.protocol import CompletionLogProbs

from rollout.types import PromptLogprobs, TopLogprobs


def text_logprobs(
    tokenizer: Any, ids: Sequence[int], logprobs: Sequence[float | None], tops: Sequence[TopLogprobs], *, begin: int = 0
) -> CompletionLogProbs:
    """Return the logprobs of tokens, the first of which stands behind `begin` letters.

    The likeliest tokens of a place are named with the one that is there, as OpenAI has them.
    """
    texts = [str(tokenizer.decode([token])) for token in ids]
    offsets = list(itertools.accumulate(map(len, texts[:-1]), initial=begin))[: len(texts)]
    named: list[dict[str, float] | None] = []
    for token, logprob, top in zip(ids, logprobs, tops or ((),) * len(ids), strict=True):
        own = ((token, logprob),) if logprob is not None and token not in dict(top) else ()
        place = {str(tokenizer.decode([each])): value for each, value in (*top, *own)}
        named.append(None if logprob is None else place)
    return CompletionLogProbs(text_offset=offsets, token_logprobs=list(logprobs), tokens=texts, top_logprobs=named)


def behind_prompt(prompt: Sequence[int], scored: PromptLogprobs | None, part: Any) -> tuple[Any, Any, Any]:
    """Return tokens, logprobs and likeliest tokens of a completion, behind its prompt's where that was scored."""
    if scored is None:
        return part.token_ids, part.logprobs, part.top_logprobs
    nothing: TopLogprobs = ()
    tops = [
        *(scored.top_logprobs or (nothing,) * len(prompt)),
        *(part.top_logprobs or (nothing,) * len(part.token_ids)),
    ]
    return (*prompt, *part.token_ids), (*scored.logprobs, *part.logprobs), tops
