"""Prompts of episodes whose environment brings the messages: what all chats of a model begin with."""

from collections.abc import Sequence

from rl.data.prompts import Encoder


class OpeningEncoder(Encoder):
    """Makes prompts of the first token that the chat template writes; the rest of the first request is an episode's.

    It may so be anything, such as tools that are known only when an episode has begun. What a group's episodes begin
    with in common becomes its prompt later (`rl.algorithm.sampling.shared_start`).
    """

    def _encode(self, questions: Sequence[str]) -> list[list[int]]:
        (chat,) = super()._encode(["1"])
        return [chat[:1] for _ in questions]
