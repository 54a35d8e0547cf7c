"""A game of several turns: guess the number from 1 to 7 that is a problem's answer, told each time where it lies."""

from rewards.types import Problem
from rl.episodes import Message, Observation


class Guess:
    """Answers a guess with + (the number is larger), - (smaller) or ? (that is no number)."""

    def __init__(self, problem: Problem) -> None:
        self.number = int(problem.answer)

    def step(self, messages: list[Message]) -> Observation:
        """Judge the last guess; whoever runs out of turns has lost."""
        guess = messages[-1]["content"]
        if guess == str(self.number):
            return Observation("=", done=True, reward=1.0)
        if not ("1" <= guess <= "9"):
            return Observation("?", reward=0.0)
        return Observation("+" if guess < str(self.number) else "-", reward=0.0)
