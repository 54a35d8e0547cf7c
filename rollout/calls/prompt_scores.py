"""The answer to a question about a prompt's tokens, put together from what an engine found at its positions."""

from collections.abc import Mapping, Sequence

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
