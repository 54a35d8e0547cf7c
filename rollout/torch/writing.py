"""Completions of the torch engine while they are written: what ends them, their texts, and their parts."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from rollout.types import Completion, CompletionPart, RoutedExperts, TopLogprobs

UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""Stands at the end of a text whose last character needs another token."""


@dataclass(slots=True)
class Writing:
    """A completion in the middle of being written."""

    tokens: list[int] = field(default_factory=list[int])
    logprobs: list[float] = field(default_factory=list[float])
    top_logprobs: list[TopLogprobs] = field(default_factory=list[TopLogprobs])
    routed_experts: RoutedExperts | None = None
    """The experts of what was read, once all is written."""
    ended_by: str | None = None
    """`token` or `text`, once one has ended it."""

    def append(self, token: int, logprob: float, top: TopLogprobs) -> None:
        self.tokens.append(token)
        self.logprobs.append(logprob)
        self.top_logprobs.append(top)


OnRows = Callable[[Sequence[Writing]], object]
"""Called with all rows of a prompt when each that goes on has one more token."""


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts of completions, and what ends them."""

    tokenizer: Any
    stops: tuple[str, ...]
    ends: frozenset[int]

    def end(self, tokens: Sequence[int]) -> str | None:
        """Return what has ended a completion, if anything has."""
        if tokens[-1] in self.ends:
            return "token"
        if self.stops and any(stop in self._decode(tokens) for stop in self.stops):
            return "text"
        return None

    def whole(self, row: Writing) -> str:
        """Return the text of a completion that has ended."""
        text = self._decode(row.tokens[:-1] if row.ended_by == "token" else row.tokens)
        return text[: min((text.find(stop) for stop in self.stops if stop in text), default=len(text))]

    def settled(self, row: Writing) -> str:
        """Return the text so far of one that goes on, as far as no token to come can change or cut it off."""
        text = self._decode(row.tokens).rstrip(UNFINISHED)
        begun = (k for stop in self.stops for k in range(1, len(stop)) if text.endswith(stop[:k]))
        return text[: len(text) - max(begun, default=0)]

    def completion(self, row: Writing, version: int, top_logprobs: int) -> Completion:
        """Return a completion that has ended."""
        reason = "stop" if row.ended_by else "length"
        top = tuple(row.top_logprobs) if top_logprobs else ()
        return Completion(
            tuple(row.tokens), tuple(row.logprobs), self.whole(row), reason, version, top,
            routed_experts=row.routed_experts,
        )  # fmt: skip

    def _decode(self, tokens: Sequence[int]) -> str:
        return self.tokenizer.decode(tokens, skip_special_tokens=True)


@dataclass(slots=True)
class Growth:
    """A prompt's completions, part by part."""

    texts: Texts
    max_tokens: int
    version: int
    top_logprobs: int
    _sent: defaultdict[int, tuple[int, str]] = field(default_factory=lambda: defaultdict(lambda: (0, "")))
    """The tokens and the text that each completion's parts had so far."""

    def parts(self, rows: Sequence[Writing]) -> Iterator[CompletionPart]:
        """Yield what each completion has gained."""
        for index, row in enumerate(rows):
            if len(row.tokens) > self._sent[index][0]:
                yield self._part(index, row)

    def _part(self, index: int, row: Writing) -> CompletionPart:
        tokens, text = self._sent[index]
        ends = row.ended_by is not None or len(row.tokens) == self.max_tokens
        now = self.texts.whole(row) if ends else self.texts.settled(row)
        if not ends and not now.startswith(text):
            now = text
        self._sent[index] = len(row.tokens), now
        return CompletionPart(
            index, tuple(row.tokens[tokens:]), tuple(row.logprobs[tokens:]), now[len(text) :],
            ("stop" if row.ended_by else "length") if ends else None, self.version,
            tuple(row.top_logprobs[tokens:]) if self.top_logprobs else (),
        )  # fmt: skip
