"""Completions for requests of OpenAI's API."""

import secrets
from dataclasses import dataclass

from rl.serve.errors import Rejected
from rl.serve.openai.names import find_adapter
from rl.serve.service import Service
from rollout.config import SamplingConfig
from rollout.types import Completion, EngineDied


@dataclass(frozen=True, slots=True)
class Drawn:
    """A prompt and its completions."""

    prompt: list[int]
    completions: list[Completion]
    policy_version: int

    @property
    def sampled(self) -> int:
        """Number of tokens in the completions."""
        return sum(len(completion.token_ids) for completion in self.completions)


async def draw(
    service: Service, user: str, model: str | None, prompt: list[int], sampling: SamplingConfig, *,
    seed: int | None, top_logprobs: int = 0,
) -> Drawn:  # fmt: skip
    """Return completions of a prompt under the policy of that name."""
    try:
        service.liveness.require_sound()
        if top_logprobs < 0:
            raise ValueError(f"logprobs must be at least 0, and is {top_logprobs}")
        service.facts.check_prompt(prompt)
        adapter = await find_adapter(service, user, model)
        seeds = [secrets.randbits(63) if seed is None else seed]
        (completions,) = await service.engine.sample(
            [prompt], adapter, sampling, seeds=seeds, top_logprobs=top_logprobs
        )
    except ValueError as error:
        raise Rejected(400, str(error)) from None
    except EngineDied as error:
        raise Rejected(503, str(error)) from None
    drawn = Drawn(prompt, completions, adapter.version)
    await service.meter.take(user, "sampled", drawn.sampled + len(prompt))
    return drawn
