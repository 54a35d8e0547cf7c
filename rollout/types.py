"""The values of sampling: prompts and an adapter go in, completions come out. No answers are known here."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from lora.types import Adapter
from rollout.config import SamplingConfig


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled answer.

    Example: ``Completion((28, 2), (-0.1, -0.02), "8", "stop", policy_version=12)``
    """

    token_ids: tuple[int, ...]
    """The tokens, with the end-of-sequence one if the model wrote one."""
    logprobs: tuple[float, ...]
    """Each token's, in nats, under the policy and temperature that sampled it."""
    text: str
    finish_reason: Literal["stop", "length"]
    policy_version: int


class EngineDied(RuntimeError):
    """A worker ended, or was silent for `rollout.stall_timeout` seconds. Its prompts may be given to another."""


class Engine(Protocol):
    """Samples from a policy. Stateless in the policy: the adapter is an argument of every call."""

    name: str = "the engine"
    """Its name in messages."""

    async def sample(
        self, prompts: Sequence[Sequence[int]], adapter: Adapter, sampling: SamplingConfig, *, seeds: Sequence[int]
    ) -> list[list[Completion]]:
        """Return `sampling.group_size` completions of each prompt, in the prompts' order.

        Every prompt has a seed of its own, so that how prompts are spread over workers changes nothing. A call that is
        cancelled stops sampling within a few tokens; others go on.
        """
        ...

    async def stream(
        self, prompts: Sequence[Sequence[int]], adapter: Adapter, sampling: SamplingConfig, *, seeds: Sequence[int]
    ) -> AsyncGenerator[tuple[int, list[Completion]]]:
        """Yield what `sample` returns, prompt by prompt as each is done: its index, and its completions.

        An engine that finishes all prompts at once need not say more than this.
        """
        for index, completions in enumerate(await self.sample(prompts, adapter, sampling, seeds=seeds)):
            yield index, completions

    async def score(self, sequences: Sequence[Sequence[int]], adapter: Adapter) -> list[list[float]]:
        """Return logprobs of every token of each sequence but the first, in nats, at temperature 1."""
        ...

    def progress(self) -> int:
        """Return a count that grows while it works, however long the next answer takes."""
        return 0

    def replicas(self) -> Sequence["Engine"]:
        """Return the engines behind this one, each of which samples on its own."""
        ...

    async def close(self) -> None:
        """Release models, processes and files."""
        ...
