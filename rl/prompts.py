"""How a problem becomes the token ids that a policy continues.

A few lines of chat, put together from the configuration and written out by the model's own template. The ids are made
here once, so that the engine that samples and the learner that scores see the same ones.
"""

import inspect
from typing import Any, cast

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from rewards.types import Problem
from rl.config import PromptConfig

Turn = dict[str, str]


class Encoder:
    """Makes prompts. Example: ``Encoder(tokenizer, PromptConfig(), 512)(problem) -> [1, 4093, ...]``."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, config: PromptConfig, max_tokens: int) -> None:
        """Prompts may have at most `max_tokens` tokens.

        Raises ValueError when the tokenizer lacks the chat template that is asked for, or the template refuses it.
        """
        # Transformers leaves parts of its types unknown.
        self._tokenizer: Any = tokenizer
        self._config = config
        self._max_tokens = max_tokens
        if config.chat_template:
            self._check_template()
            self._encode_chat("1 + 1 =")

    def __call__(self, problem: Problem) -> list[int]:
        """The problem's prompt. Raises ValueError when it is longer than prompts may be."""
        encode = self._encode_chat if self._config.chat_template else self._encode_text
        ids = encode(problem.question)
        if len(ids) > self._max_tokens:
            raise ValueError(
                f"problem {problem.id} has a prompt of {len(ids)} tokens, above the {self._max_tokens} that are left: "
                "raise model.max_length, lower sampling.max_tokens, or take the problem out"
            )
        return ids

    def _encode_chat(self, question: str) -> list[int]:
        try:
            ids = self._tokenizer.apply_chat_template(
                chat(self._config, question),
                add_generation_prompt=True,
                tokenize=True,
                return_dict=False,
                **self._config.template_options,
            )
        except TemplateError as error:
            raise ValueError(
                f"the model's chat template refuses the prompt: {error}; change prompt.system or prompt.shots, "
                "or set prompt.chat_template = false"
            ) from error
        return cast("list[int]", ids)

    def _encode_text(self, question: str) -> list[int]:
        return cast("list[int]", self._tokenizer.encode(plain_text(self._config, question)))

    def _check_template(self) -> None:
        if not self._tokenizer.chat_template:
            raise ValueError("the model's tokenizer has no chat template; set prompt.chat_template = false")
        own = inspect.signature(self._tokenizer.apply_chat_template).parameters
        taken = sorted(set(self._config.template_options) & (set(own) | {"messages"}))
        if taken:
            raise ValueError(f"prompt.template_options: {', '.join(taken)} is set by rankone itself; leave it out")


def chat(config: PromptConfig, question: str) -> list[Turn]:
    """The turns before the policy's: system text, worked examples as turns of their own, and the question."""
    turns = [] if config.system is None else [_turn("system", config.system)]
    for shot in config.shots:
        turns += [_turn("user", shot.question + config.suffix), _turn("assistant", shot.answer)]
    return [*turns, _turn("user", question + config.suffix)]


def plain_text(config: PromptConfig, question: str) -> str:
    """The same for a base model: paragraphs, each shot's answer right behind its question."""
    parts = [] if config.system is None else [config.system]
    for shot in config.shots:
        asked = shot.question + config.suffix
        parts.append(asked + ("" if asked[-1:].isspace() else " ") + shot.answer)
    return "\n\n".join([*parts, question + config.suffix])


def _turn(role: str, content: str) -> Turn:
    return {"role": role, "content": content}
