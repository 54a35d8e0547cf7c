"""Pieces of a call: what one worker is asked about one prompt."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Self

from rollout.config import SamplingConfig
from rollout.types import Place


@dataclass(frozen=True, slots=True)
class Piece:
    """Answers about one prompt that a worker gives, each in its place."""

    index: int
    """The prompt's."""
    places: tuple[int, ...]
    """Numbers of its completions; 0 alone where the prompt has one answer."""
    sequences: int
    """Sequences that a worker generates at once for each place."""
    tokens: int
    """Most tokens that each place may cost."""
    divisible: bool = False
    """True if several workers may share the places."""

    def all_places(self) -> list[Place]:
        """Return the places, each with its prompt's index."""
        return [(self.index, place) for place in self.places]

    def divided(self, parts: int) -> list[Self]:
        """Return it in so many parts of nearly equal size, or fewer where it has fewer places."""
        parts = min(parts, len(self.places)) if self.divisible else 1
        ends = [len(self.places) * i // parts for i in range(parts + 1)]
        return [replace(self, places=self.places[ends[i] : ends[i + 1]]) for i in range(parts)]

    def without(self, places: set[Place]) -> Self:
        """Return it without the places that are answered."""
        return replace(self, places=tuple(place for _, place in self.all_places() if (self.index, place) not in places))


def whole_prompts(prompts: Sequence[Sequence[int]], sampling: SamplingConfig) -> list[Piece]:
    """Return a piece a prompt, which is answered with all of its completions."""
    return [
        Piece(index, (0,), sampling.group_size, len(prompt) + sampling.group_size * sampling.max_tokens)
        for index, prompt in enumerate(prompts)
    ]


def completions(prompts: Sequence[Sequence[int]], sampling: SamplingConfig, at_once: int) -> list[Piece]:
    """Return pieces that are answered completion by completion, of at most `at_once` of them.

    Greedy ones are all the same, and are written together, once.
    """
    size, greedy = sampling.group_size, sampling.temperature == 0
    return [
        part
        for index, prompt in enumerate(prompts)
        for part in Piece(
            index, tuple(range(size)), 1, sampling.max_tokens + len(prompt) // size, divisible=not greedy
        ).divided(ceil(size / at_once))
    ]


def scores(prompts: Sequence[Sequence[int]]) -> list[Piece]:
    """Return a piece a prompt, in which nothing is generated."""
    return [Piece(index, (0,), 0, len(prompt)) for index, prompt in enumerate(prompts)]
