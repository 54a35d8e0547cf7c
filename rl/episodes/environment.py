"""The protocol of environments: plain Python, which answers the policy's turns."""

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Message = Mapping[str, Any]
"""A message of a chat. Example: ``{"role": "user", "content": "higher"}``"""


@dataclass(frozen=True, slots=True)
class Observation:
    """An environment's answer to a turn.

    Example: ``Observation("higher")`` goes on, ``Observation(done=True, reward=1.0)`` ends the episode.
    """

    messages: str | Sequence[Message] = ()
    """Messages that the policy reads next; a text is one of a user's."""
    done: bool = False
    """True if the episode ends here. The messages are then only shown."""
    reward: float | None = None
    """A part of the episode's reward: parts add up. The grader judges an episode that was given none."""

    def listed(self) -> list[Message]:
        """Return the messages."""
        if isinstance(self.messages, str):
            return [{"role": "user", "content": self.messages}]
        return list(self.messages)


class Environment(Protocol):
    """One episode's environment, made by ``Environment(problem)``, or ``Environment(problem, seed)`` if it draws.

    Its attributes are pickled between two turns, each of which another process may answer. It is to be a function of
    problem, seed and messages, or a resumed run differs from one that was never stopped.
    """

    def step(self, messages: list[Message]) -> Observation | Awaitable[Observation]:
        """Answer the policy's turn, which is the last of the messages so far; the problem's are the first ones.

        Raises:
            Exception: costs the episode, which is left out of its group.
        """
        ...
