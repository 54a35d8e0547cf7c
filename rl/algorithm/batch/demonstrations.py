"""Given completions: what a policy should have written, as the tokens that it would have written it with.

A demonstration is trained on as a sampled completion is. Its sampler was certain of every token, so the rollout
logprobs are 0 and `log_ratio` is the policy's own logprob; its weight (an advantage elsewhere) is 1; and the prompt is
context alone, no token of it a target.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any, cast

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from rewards.types import Problem
from rl.algorithm.batch.packing import pack_rows
from rl.config import PromptConfig, SftConfig
from rl.data.columns import fill
from rl.data.prompts import Encoder, batches, chat
from rl.types import TrainBatch
from rollout.types import Completion


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A prompt and the completion that is right behind it, its end-of-sequence token included.

    Example: ``Demonstration(prompt=[1, 4093, 198], completion=[33, 24, 2])``
    """

    prompt: list[int]
    completion: list[int]


class SftEncoder:
    """Makes demonstrations of problems, the prompt being the very one that a run by reinforcement learning has."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        prompt: PromptConfig,
        sft: SftConfig,
        *,
        max_length: int,
        end_tokens: Set[int],
    ) -> None:
        """At `end_tokens`, engines end a completion; a demonstration has at most `max_length` tokens.

        Raises:
            ValueError: the tokenizer has no end-of-sequence token, or lacks the chat template that is asked for.
        """
        self._tokenizer: Any = tokenizer
        self._prompt = prompt
        self._sft = sft
        self._max_length = max_length
        self._encode = Encoder(tokenizer, prompt, max_tokens=2**31)  # the sum of both lengths is checked here
        self._end = _end_token(tokenizer, prompt, end_tokens)

    def __call__(self, problem: Problem) -> Demonstration:
        """Make a demonstration. Raises ValueError if the problem lacks a column of the completion's, or is too long."""
        return self._show([problem])[0]

    def longest(self, problems: Sequence[Problem]) -> int:
        """Return the tokens of the longest demonstration, prompt and completion; 0 without problems.

        Raises:
            ValueError: one lacks a column of the completion's, or is too long.
        """
        demonstrations = (shown for batch in batches(problems) for shown in self._show(batch))
        return max((len(shown.prompt) + len(shown.completion) for shown in demonstrations), default=0)

    def _show(self, problems: Sequence[Problem]) -> list[Demonstration]:
        texts = [self.text(problem) for problem in problems]
        completions = cast("list[list[int]]", self._tokenizer(texts, add_special_tokens=False)["input_ids"])
        demonstrations = [
            Demonstration(prompt, [*ids, self._end])
            for prompt, ids in zip(self._encode.encode(problems), completions, strict=True)
        ]
        for problem, shown in zip(problems, demonstrations, strict=True):
            if len(shown.prompt) + len(shown.completion) > self._max_length:
                raise ValueError(
                    f"problem {problem.id} has {len(shown.prompt)} tokens of prompt and {len(shown.completion)} of "
                    f"completion, more than model.max_length = {self._max_length}: raise it, or take the problem out"
                )
        return demonstrations

    def text(self, problem: Problem) -> str:
        """Return the completion as text. Raises ValueError when the problem lacks a column of it."""
        columns = {**problem.metadata, "question": problem.question, "answer": problem.answer}
        text = fill(self._sft.completion, columns, f"sft.completion: problem {problem.id}")
        asked = problem.question + self._prompt.suffix
        plain = not self._prompt.chat_template
        return f" {text}" if plain and not asked[-1:].isspace() else text  # as behind a shot's question


def build_sft_batch(demonstrations: Sequence[Demonstration], tokens_per_row: int) -> TrainBatch:
    """Build one step's rows; demonstrations with the same prompt share it."""
    by_prompt: dict[tuple[int, ...], list[Demonstration]] = {}
    for demonstration in demonstrations:
        by_prompt.setdefault(tuple(demonstration.prompt), []).append(demonstration)
    rows = [
        row
        for prompt, group in by_prompt.items()
        for row in pack_rows(list(prompt), [(_certain(demonstration), 1.0) for demonstration in group], tokens_per_row)
    ]
    num_tokens = sum(len(demonstration.completion) for demonstration in demonstrations)
    return TrainBatch(rows, num_tokens, len(demonstrations))


def _certain(demonstration: Demonstration) -> Completion:
    ids = tuple(demonstration.completion)
    return Completion(ids, (0.0,) * len(ids), "", "stop", 0)


def _end_token(tokenizer: Any, config: PromptConfig, end_tokens: Set[int]) -> int:
    """Return the end token that the chat template puts behind an answer (ChatML: `<|im_end|>`), else the tokenizer's.

    Raises:
        ValueError: there is neither.
    """
    if config.chat_template:
        behind = tokenizer.encode(_behind_an_answer(tokenizer, config), add_special_tokens=False)
        if behind and behind[0] in end_tokens:
            return int(behind[0])
    if tokenizer.eos_token_id is None:
        raise ValueError("the model's tokenizer has no end-of-sequence token, with which a completion could end")
    return int(tokenizer.eos_token_id)


def _behind_an_answer(tokenizer: Any, config: PromptConfig, answer: str = "the-answer") -> str:
    """Return the text that the chat template writes after the policy's turn; empty if it does not say."""
    turns = [*chat(config, "1 + 1 ="), {"role": "assistant", "content": answer}]
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False, **config.template_options)
    except TemplateError:
        return ""
    _, separator, rest = text.rpartition(answer)
    return rest if separator else ""
