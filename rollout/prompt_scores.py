"""The answer to a question about a prompt's tokens, put together from what an engine found at its positions."""

from collections.abc import Mapping, Sequence

from jaxtyping import Float
from torch import Tensor

from rollout.distribution import likeliest as likeliest_tokens
from rollout.types import PromptLogprobs, PromptQuery, TopLogprobs

TokenLogprobs = Mapping[int, float]
"""Logprobs of tokens at one position, by their ids."""


def answer(
    prompt: Sequence[int],
    query: PromptQuery,
    by_token: Mapping[int, TokenLogprobs],
    likeliest: Mapping[int, TopLogprobs],
) -> PromptLogprobs:
    """Return the answer; the two mappings are by position, and have all positions that the query asks for."""
    positions = query.positions(len(prompt))
    targets = enumerate(query.targets, start=1)
    return PromptLogprobs(
        tuple(by_token[i][token] if i in positions else None for i, token in enumerate(prompt)),
        tuple(likeliest[i] if i in positions else () for i in range(len(prompt))) if query.top_k else (),
        tuple(tuple(0.0 if token == -1 else by_token[i][token] for token in row) for i, row in targets),
    )


def read_answer(
    prompt: Sequence[int], query: PromptQuery, logprobs: Float[Tensor, "positions vocabulary"]
) -> PromptLogprobs:
    """Read the answer off the logprobs of all tokens at positions 1, 2, ..."""
    tops = dict(enumerate(likeliest_tokens(logprobs, query.top_k), start=1))
    by_token: dict[int, dict[int, float]] = {}
    for position, row in enumerate(logprobs, start=1):
        targets = query.targets[position - 1] if query.targets else ()
        tokens = [prompt[position], *(token for token in targets if token != -1)]
        by_token[position] = dict(zip(tokens, row[tokens].tolist(), strict=True))
    return answer(prompt, query, by_token, tops)
