"""Made-up groups, and parts of a run that need no model."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from lora.types import Adapter
from rewards.types import Grader, Outcome, Problem, Reward
from rl.types import Group
from rollout.config import SamplingConfig
from rollout.types import Completion, Engine

RIGHT, WRONG = Reward(1.0, Outcome.CORRECT), Reward(0.0, Outcome.WRONG)
CRASHED = Reward(0.0, Outcome.CRASHED)


def problem(name: str = "p", answer: str = "1") -> Problem:
    return Problem(name, f"question {name}", answer)


def made_groups(
    seed: int, *, groups: int = 3, size: int = 4, prompt: tuple[int, int] = (2, 9), length: tuple[int, int] = (1, 7)
) -> list[Group]:
    """Random tokens with random sampler's logprobs, half of each group right."""
    rng = random.Random(seed)

    def tokens(least: int, most: int) -> list[int]:
        return [rng.randrange(3, 40) for _ in range(rng.randint(least, most))]

    def completion() -> Completion:
        ids = tokens(*length)
        return Completion(tuple(ids), tuple(rng.uniform(-5, -2) for _ in ids), "", "stop", 0)

    return [
        Group(
            problem(str(i)),
            tokens(*prompt),
            [completion() for _ in range(size)],
            [RIGHT if k < size // 2 else WRONG for k in range(size)],
        )
        for i in range(groups)
    ]


class ScriptedEngine(Engine):
    """Writes texts that the test makes up, and keeps what it was asked."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts
        self.calls: list[tuple[list[list[int]], SamplingConfig, list[int], int]] = []

    async def sample(
        self, prompts: Sequence[Sequence[int]], adapter: Adapter, sampling: SamplingConfig, *, seeds: Sequence[int]
    ) -> list[list[Completion]]:
        self.calls.append(([list(p) for p in prompts], sampling, list(seeds), adapter.version))
        texts = iter(self._texts * (1 + len(prompts) * sampling.group_size // max(1, len(self._texts))))
        return [
            [Completion((3, 1), (-1.0, -0.5), next(texts), "stop", adapter.version) for _ in range(sampling.group_size)]
            for _ in prompts
        ]

    async def score(self, sequences: Sequence[Sequence[int]], adapter: Adapter) -> list[list[float]]:
        return [[-1.0] * (len(sequence) - 1) for sequence in sequences]

    def replicas(self) -> Sequence[Engine]:
        return [self]

    async def close(self) -> None:
        """Nothing to release."""


class SameTextGrader(Grader):
    """Right is what is spelt like the answer."""

    async def grade(
        self, problems: Sequence[Problem], texts_P_G: Sequence[Sequence[str]], _: object = None
    ) -> list[list[Reward]]:
        return [
            [RIGHT if text == problem.answer else WRONG for text in texts]
            for problem, texts in zip(problems, texts_P_G, strict=True)
        ]

    async def close(self) -> None:
        """Nothing to release."""


@contextmanager
def cores(count: int) -> Iterator[None]:
    """torch has so many in this thread, inside the block. With one, an update stays in it, where hooks can see it."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
