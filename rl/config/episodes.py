"""Settings of episodes of more than one turn."""

from collections.abc import Iterator
from typing import Annotated, Self

from pydantic import Field, model_validator

from rl.config.strict import MOST_PROCESSES, Strict

VERIFIERS = "verifiers:"
"""Begins the names of environments of verifiers."""


class EpisodesConfig(Strict):
    """Episodes: the policy writes a turn, an environment or a tool answers it, and so on. Off without either."""

    environment: str | None = None
    """`file.py:Class` or `package.module:Class`, which answers the policy's turns, or `verifiers:NAME`, a taskset of
    verifiers with its environment (docs/episodes.md)."""
    tools: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Tools that the policy may call: `python`, a calculator, and functions of your own, `file.py:name`."""
    tool_parser: str = Field(default="auto", pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    """The form of a call of a tool, by the name of vLLM's parser of it, such as `hermes`, `qwen3_coder`, `llama3_json`
    or `mistral`; `auto` tells it by the model's chat template."""
    max_turns: int = Field(default=8, ge=1, le=4096)
    """Most turns that the policy writes in an episode."""
    max_tokens: int = Field(default=1024, ge=1)
    """Most tokens of an episode behind its prompt, the environment's included; `sampling.max_tokens` is of a turn."""
    step_timeout: float = Field(default=10.0, gt=0, le=86_400)
    """Seconds that an environment or a tool may take to answer a turn before its process is killed, which costs the
    episode."""
    workers: int | None = Field(default=None, ge=1, le=MOST_PROCESSES)
    """Processes that environments and tools run in, one turn at a time each, or eight episodes of verifiers; by default
    one per two cores, at least one, at most eight."""
    memory_mb: int = Field(default=2048, ge=256, le=2**24)
    """Address space of one such process, above which a step fails."""

    @property
    def taskset(self) -> str | None:
        """The name of the taskset of verifiers that is played, if one is."""
        name = (self.environment or "").removeprefix(VERIFIERS)
        return name if name != (self.environment or "") else None

    @property
    def on(self) -> bool:
        """True if the policy's turns are answered."""
        return self.environment is not None or bool(self.tools)

    def misfits(self, longest_turn: int, max_length: int) -> Iterator[str]:
        """Yield what does not fit turns and contexts of so many tokens."""
        if not self.on:
            return
        if longest_turn > self.max_tokens:
            yield (
                f"episodes.max_tokens = {self.max_tokens} is below the {longest_turn} tokens of a single turn "
                "(sampling.max_tokens, evaluate.max_tokens): raise it, or lower those"
            )
        if self.max_tokens >= max_length:
            yield "episodes.max_tokens must be below model.max_length, which holds the prompt too"

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Self:
        if self.environment is not None and self.tools:
            raise ValueError(
                "episodes.environment and episodes.tools are two ways to answer a turn: set one of them, and let the "
                "environment call what tools it has"
            )
        return self
