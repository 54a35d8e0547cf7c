"""Messages of an environment as the tokens behind the policy's turn. What the policy wrote stays as it is."""

from collections.abc import Sequence
from typing import Any, cast

from transformers import PreTrainedTokenizerBase

from rewards.types import Problem
from rl.config import PromptConfig
from rl.data.prompts import chat
from rl.episodes.environment import Message
from rl.episodes.tools.prompt import knows_tools
from rollout.types import Completion

TURN = "rankone:the-policys-turn"
"""Stands for the policy's turn where a template is asked for what comes behind one."""


class Renderer:
    """Writes an environment's messages by the model's chat template, or as plain text for a model without."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        config: PromptConfig,
        *,
        tools: bool = False,
        end_tokens: frozenset[int] = frozenset(),
    ) -> None:
        """Try the template. Raises ValueError if it refuses an environment's message, or a tool's."""
        self._tokenizer: Any = tokenizer  # transformers leaves parts of its types unknown
        self._ends = end_tokens
        self._config = config
        self._writes_tools = tools and not knows_tools(tokenizer, config)
        """True if tools' messages are put into Hermes' words here."""
        self._joins = False
        """True if one message has the answers to all of a turn's calls."""
        answer = {"role": "tool" if tools else "user", "content": "1"}
        self.suffix((), [answer])
        if self._writes_tools:  # a template may want the user's and the policy's messages by turns
            self._joins = not self._takes([answer, answer])

    def first_messages(self, problem: Problem) -> list[Message]:
        """Return the messages that the prompt was made of."""
        return list(chat(self._config, problem.question))

    def suffix(self, turn: Sequence[int], messages: Sequence[Message]) -> list[int]:
        """Return the tokens that come behind a turn's: its end, if the policy did not write it, the messages, and the
        beginning of the policy's next turn.

        Raises:
            ValueError: the template refuses the messages.
        """
        if not self._config.chat_template:
            return self._encode("".join(message["content"] for message in messages))
        ids = self._encode(self._behind_turn(messages))
        return ids[self._known(turn, ids) :]

    def raw_text(self, turn: Completion) -> str:
        """Return a turn's text with the special tokens that calls may have, and without the one that ended it."""
        ids = list(turn.token_ids)
        return str(self._tokenizer.decode(ids[:-1] if ids and ids[-1] in self._ends else ids))

    def without_specials(self, text: str, keep: str) -> str:
        """Return such a text without special tokens but one."""
        for token in self._tokenizer.all_special_tokens:
            text = text if token == keep else text.replace(token, "")
        return text

    def _known(self, turn: Sequence[int], ids: Sequence[int]) -> int:
        """Return how many of these tokens are the turn's end, which the policy wrote itself; perhaps behind a space."""
        for place, token in enumerate(ids):
            if turn and turn[-1] == token:
                return place + 1
            if self._tokenizer.decode([token]).strip():
                break
        return 0

    def _behind_turn(self, messages: Sequence[Message]) -> str:
        behind = self._hermes(messages) if self._writes_tools else messages
        conversation = [{"role": "user", "content": "1"}, {"role": "assistant", "content": TURN}, *behind]
        try:
            text: str = self._tokenizer.apply_chat_template(
                conversation, add_generation_prompt=True, tokenize=False, **self._config.template_options
            )
        except Exception as error:  # templates are programs of the model's makers, and messages are the environment's
            roles = ", ".join(dict.fromkeys(str(message["role"]) for message in messages))
            raise ValueError(
                f"the model's chat template refuses messages of {roles} behind the policy's turn: {error}; answer as "
                "another role, or set prompt.chat_template = false"
            ) from error
        _, turn, rest = text.partition(TURN)
        if not turn:
            raise ValueError(
                "the model's chat template leaves the policy's turns out: set prompt.chat_template = false"
            )
        return rest

    def _encode(self, text: str) -> list[int]:
        return cast("list[int]", self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _takes(self, messages: Sequence[Message]) -> bool:
        try:
            self.suffix((), messages)
        except ValueError:
            return False
        return True

    def _hermes(self, messages: Sequence[Message]) -> list[Message]:
        """Return tools' messages as Hermes' templates write them."""
        written = [_hermes(message) for message in messages]
        return [_joined(written)] if self._joins else written


def _hermes(message: Message) -> Message:
    if message["role"] != "tool":
        return message
    return {"role": "user", "content": f"<tool_response>\n{message['content']}\n</tool_response>"}


def _joined(messages: Sequence[Message]) -> Message:
    return {"role": "user", "content": "\n".join(message["content"] for message in messages)}
