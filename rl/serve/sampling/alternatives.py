"""Alternatives to a prompt's tokens: draws from what the policy would have written in the place of each."""

import asyncio
import hashlib
from dataclasses import dataclass

from rl.serve.sampling.draws import Ask, Draws
from rollout.config import SamplingConfig
from rollout.types import PromptQuery

MOST_DRAWS = 2**16
"""Most draws for one prompt."""


@dataclass(frozen=True, slots=True)
class Alternatives:
    """Draws for every position but the first, with replacement. Row i is for the prompt's token i + 1."""

    tokens: tuple[tuple[int, ...], ...]
    logprobs: tuple[tuple[float, ...], ...]
    """In nats, at temperature 1 whatever the draws' is."""


async def draw_alternatives(draws: Draws, user: str, ask: Ask, count: int) -> Alternatives:
    """Return `count` draws for each position of a request's prompt, at its temperature and of its seed.

    Raises:
        ValueError: the prompt has one token, or there would be more draws than are made for one prompt.
    """
    if len(ask.prompt) < 2 or count * (len(ask.prompt) - 1) > MOST_DRAWS:
        raise ValueError(
            f"prompt_alt_tokens_k {count} and a prompt of {len(ask.prompt)} tokens are not served: send at least two "
            f"tokens, and ask for at most {MOST_DRAWS} draws at all positions together"
        )
    sampling = SamplingConfig(group_size=count, max_tokens=1, temperature=ask.sampling.temperature)
    asks = [Ask(ask.prompt[:end], ask.adapter, sampling, _seed(ask.seed, end)) for end in range(1, len(ask.prompt))]
    drawn = await asyncio.gather(*(draws.draw(user, each) for each in asks))
    tokens = tuple(tuple(completion.token_ids[0] for completion in sampled.completions) for sampled in drawn)
    return Alternatives(tokens, await _logprobs(draws, user, ask, tokens))


async def _logprobs(
    draws: Draws, user: str, ask: Ask, tokens: tuple[tuple[int, ...], ...]
) -> tuple[tuple[float, ...], ...]:
    query = PromptQuery(last_n=0, targets=tokens)
    scored = await draws.draw(user, Ask(ask.prompt, ask.adapter, ask.sampling, query=query, writes=False))
    assert scored.prompt is not None
    return scored.prompt.target_logprobs


def _seed(seed: int | None, position: int) -> int | None:
    """Return the seed of a position's draws, which have no random stream in common with the completions."""
    if seed is None:
        return None
    return int.from_bytes(hashlib.sha256(f"{seed}/{position}".encode()).digest()[:8])
