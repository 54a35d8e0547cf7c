"""The limits of what an engine can be asked, so that a refusal is one line that says what to send instead."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rollout.config import SamplingConfig
from rollout.types import PromptQuery


@dataclass(frozen=True, slots=True)
class Limits:
    """The sizes of a model that calls must keep to."""

    max_length: int
    """Most tokens of prompt and completion together."""
    vocabulary: int
    """Token ids are below it."""

    def check_sampling(self, prompts: Sequence[Sequence[int]], sampling: SamplingConfig, top_logprobs: int) -> None:
        """Raises ValueError if these prompts cannot be sampled so."""
        self._check_count(top_logprobs, "top_logprobs")
        self._check_tokens(sampling.stop_token_ids, "stop_token_ids")
        for prompt in prompts:
            self._check_prompt(prompt)
            if len(prompt) + sampling.max_tokens > self.max_length:
                raise ValueError(
                    f"a prompt of {len(prompt)} tokens with max_tokens = {sampling.max_tokens} exceeds the maximum "
                    f"context length of {self.max_length} tokens: shorten it, lower max_tokens, or raise "
                    "model.max_length"
                )

    def check_queries(self, prompts: Sequence[Sequence[int]], queries: Sequence[PromptQuery]) -> None:
        """Raises ValueError if these prompts cannot be scored so."""
        if len(prompts) != len(queries):
            raise ValueError(f"{len(prompts)} prompts need as many queries, and there are {len(queries)}")
        for prompt, query in zip(prompts, queries, strict=True):
            self._check_prompt(prompt)
            if len(prompt) > self.max_length:
                raise ValueError(
                    f"a prompt of {len(prompt)} tokens exceeds the maximum context length of {self.max_length} tokens: "
                    "shorten it, or raise model.max_length"
                )
            self._check_query(query, len(prompt))

    def _check_query(self, query: PromptQuery, length: int) -> None:
        self._check_count(query.top_k, "top_k")
        if query.last_n is not None and query.last_n < 0:
            raise ValueError(f"last_n must be at least 0, and is {query.last_n}")
        if query.targets and len(query.targets) != length - 1:
            raise ValueError(
                f"a prompt of {length} tokens needs {length - 1} rows of targets, one for each token but the first, and"
                f" has {len(query.targets)}; fill rows without a target with -1"
            )
        for row in query.targets:
            self._check_tokens((token for token in row if token != -1), "targets")

    def _check_count(self, count: int, name: str) -> None:
        if not 0 <= count <= self.vocabulary:
            raise ValueError(f"{name} must be from 0 to {self.vocabulary}, the vocabulary's size, and is {count}")

    def _check_prompt(self, prompt: Sequence[int]) -> None:
        if not prompt:
            raise ValueError("a prompt is empty: it needs at least one token")
        self._check_tokens(prompt, "a prompt")

    def _check_tokens(self, tokens: Iterable[int], place: str) -> None:
        strange = next((token for token in tokens if not 0 <= token < self.vocabulary), None)
        if strange is not None:
            raise ValueError(
                f"token id {strange} in {place} is none of the model's, which are from 0 to {self.vocabulary - 1}"
            )
