"""The answer to a question about a prompt's tokens, read off the logprobs of all tokens."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from rollout.calls.prompt_scores import answer
from rollout.torch.distribution import likeliest
from rollout.types import PromptLogprobs, PromptQuery


def read_answer(
    prompt: Sequence[int], query: PromptQuery, logprobs: Float[Tensor, "positions vocabulary"]
) -> PromptLogprobs:
    """Read the answer off the logprobs of all tokens at positions 1, 2, ..."""
    tops = dict(enumerate(likeliest(logprobs, query.top_k), start=1))
    by_token: dict[int, dict[int, float]] = {}
    for position, row in enumerate(logprobs, start=1):
        targets = query.targets[position - 1] if query.targets else ()
        tokens = [prompt[position], *(token for token in targets if token != -1)]
        by_token[position] = dict(zip(tokens, row[tokens].tolist(), strict=True))
    return answer(prompt, query, by_token, tops)
