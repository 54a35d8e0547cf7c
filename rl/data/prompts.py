"""Prompts: a problem becomes the token ids that a policy continues.

A few lines of chat, put together from the configuration and written out by the model's own template. The ids are made
here once, so that the engine that samples and the learner that scores see the same ones.
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar, cast

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from rewards.types import Problem
from rl.config import PromptConfig

Turn = dict[str, str]
T = TypeVar("T")

BATCH = 1024
"""Texts that a tokenizer encodes together, which costs less than one by one."""


class Encoder:
    """Makes prompts. Example: ``Encoder(tokenizer, PromptConfig(), 512)(problem) -> [1, 4093, ...]``."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        config: PromptConfig,
        max_tokens: int,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Prompts may have at most `max_tokens` tokens. The chat template is given the schemas of `tools`.

        Raises:
            ValueError: the tokenizer lacks the chat template that is asked for, or the template refuses it.
        """
        # Transformers leaves parts of its types unknown.
        self._tokenizer: Any = tokenizer
        self._config = config
        self._max_tokens = max_tokens
        self._tools = {"tools": list(tools)} if tools else {}
        if config.chat_template:
            self._check_template()
            self._encode(["1 + 1 ="])

    def __call__(self, problem: Problem) -> list[int]:
        """Return the problem's prompt. Raises ValueError when it is longer than prompts may be."""
        return self.encode([problem])[0]

    def encode(self, problems: Sequence[Problem]) -> list[list[int]]:
        """Return the prompts of several problems, encoded together.

        Raises:
            ValueError: one is longer than prompts may be, or the template refuses it.
        """
        prompts = self._encode([problem.question for problem in problems])
        for problem, ids in zip(problems, prompts, strict=True):
            if len(ids) > self._max_tokens:
                raise ValueError(
                    f"problem {problem.id} has a prompt of {len(ids)} tokens, above the {self._max_tokens} that are "
                    "left: raise model.max_length, lower sampling.max_tokens and evaluate.max_tokens (of a run with "
                    "episodes: episodes.max_tokens), or take the problem out"
                )
        return prompts

    def longest(self, problems: Sequence[Problem]) -> int:
        """Return the tokens of the longest prompt; 0 without problems.

        Every prompt is encoded, because a short text may have the most tokens.

        Raises:
            ValueError: as `encode`.
        """
        return max((len(ids) for batch in batches(problems) for ids in self.encode(batch)), default=0)

    def _encode(self, questions: Sequence[str]) -> list[list[int]]:
        encode = self._encode_chats if self._config.chat_template else self._encode_texts
        return encode(questions)

    def _encode_chats(self, questions: Sequence[str]) -> list[list[int]]:
        try:
            ids = self._tokenizer.apply_chat_template(
                [chat(self._config, question) for question in questions],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=False,
                **self._tools,
                **self._config.template_options,
            )
        except TemplateError as error:
            raise ValueError(
                f"the model's chat template refuses the prompt: {error}; change prompt.system or prompt.shots, "
                "or set prompt.chat_template = false"
            ) from error
        return cast("list[list[int]]", ids)

    def _encode_texts(self, questions: Sequence[str]) -> list[list[int]]:
        texts = [plain_text(self._config, question) for question in questions]
        return cast("list[list[int]]", self._tokenizer(texts)["input_ids"])

    def _check_template(self) -> None:
        if not self._tokenizer.chat_template:
            raise ValueError("the model's tokenizer has no chat template; set prompt.chat_template = false")
        own = inspect.signature(self._tokenizer.apply_chat_template).parameters
        taken = sorted(set(self._config.template_options) & (set(own) | {"messages"}))
        if taken:
            raise ValueError(f"prompt.template_options: {', '.join(taken)} is set by rankone itself; leave it out")


def batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield up to `BATCH` of them at a time."""
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))


def chat(config: PromptConfig, question: str) -> list[Turn]:
    """Return the turns before the policy's: system text, worked examples as turns of their own, and the question."""
    turns = [] if config.system is None else [_turn("system", config.system)]
    for shot in config.shots:
        turns += [_turn("user", shot.question + config.suffix), _turn("assistant", shot.answer)]
    return [*turns, _turn("user", question + config.suffix)]


def plain_text(config: PromptConfig, question: str) -> str:
    """Return the same as text, for a base model: paragraphs, each shot's answer right behind its question."""
    parts = [] if config.system is None else [config.system]
    for shot in config.shots:
        asked = shot.question + config.suffix
        parts.append(asked + ("" if asked[-1:].isspace() else " ") + shot.answer)
    return "\n\n".join([*parts, question + config.suffix])


def _turn(role: str, content: str) -> Turn:
    return {"role": role, "content": content}
