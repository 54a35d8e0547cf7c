"""A reward model of `transformers` as a term of the reward: a classifier with one output, read off question and answer.

`rewards` knows no tensors, so it gets this scorer from here (`open_pool`). It computes in the run's own process, or in
an actor on a cluster (`rl.cluster.reward_models`), group by group: which completions share a batch then depends on
nothing but the group, and so do the rewards' bits.
"""

import asyncio
import math
import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from lora.messages import first_line
from rewards.config import RewardConfig, RewardTerm
from rewards.functions.scores import RewardFunctionError
from rewards.grading.panel import Scorer, Verdict
from rewards.grading.pool import GraderPool
from rewards.types import Problem

MARKED = re.compile(r"<[|\N{FULLWIDTH VERTICAL LINE}].*[|\N{FULLWIDTH VERTICAL LINE}]>", re.DOTALL)
"""Control tokens by their marks: DeepSeek's are not said to be special."""


def open_pool(config: RewardConfig, reward_model: Callable[[RewardTerm], Scorer] | None = None) -> GraderPool:
    """Open a pool of graders that can have a reward model, in this process unless `reward_model` makes it elsewhere.

    Raises ValueError as the pool does, and without a model.
    """
    return GraderPool(config, reward_model=reward_model or RewardModel)


def check_reward_model(term: RewardTerm) -> None:
    """See that a reward model is there and has one output, without its weights. Raises ValueError of one line."""
    from transformers import AutoConfig

    assert term.reward_model is not None
    try:
        labels: Any = AutoConfig.from_pretrained(term.reward_model).num_labels
    except Exception as error:
        raise ValueError(f"could not load reward model {term.reward_model!r}: {first_line(error)}") from error
    _check_outputs(term.reward_model, labels)


def _check_outputs(path: str, labels: int) -> None:
    if labels != 1:
        raise ValueError(f"reward model {path!r} has {labels} outputs; it must have one")


class RewardModel:
    """A `Scorer`. A process loads each model once, whatever the number of terms and pools with it.

    Raises ValueError of one line if there is no such model, or it has another number of outputs than one.
    """

    def __init__(self, term: RewardTerm) -> None:
        assert term.reward_model is not None
        self._term = term
        self._tokenizer, self._model = _load(term.reward_model, term.reward_model_device)
        self._controls = _controls(self._tokenizer)
        self._free = asyncio.Lock()

    async def score(self, problem: Problem, texts: Sequence[str]) -> list[Verdict]:
        """Return the model's output for each text. What fails is returned, not raised."""
        async with self._free:
            return await asyncio.to_thread(self.verdicts, problem.question, texts)

    def verdicts(self, question: str, texts: Sequence[str]) -> list[Verdict]:
        """Return the same, at once."""
        try:
            return [self._verdict(output) for output in self._outputs(question, texts)]
        except Exception as error:
            message = f"{self._term.name}: {type(error).__name__}: {first_line(error)}"
            return [RewardFunctionError(message, f"{self._term.name}: {type(error).__name__}") for _ in texts]

    async def close(self) -> None:
        """Keep the model: the next pool may want it."""

    def _verdict(self, output: float) -> Verdict:
        """Return an output, or its failure: a NaN would spoil the advantages of its whole group."""
        if math.isfinite(output):
            return output
        return RewardFunctionError(f"{self._term.name}: gave {output}", f"{self._term.name}: not finite")

    def _outputs(self, question: str, texts: Sequence[str]) -> list[float]:
        inputs = [self._ids(question, text) for text in texts]
        size = self._term.reward_model_batch if self._tokenizer.pad_token_id is not None else 1
        return [o for i in range(0, len(inputs), size) for o in self._forward(inputs[i : i + size])]

    def _ids(self, question: str, text: str) -> list[int]:
        """Return the tokens of the chat, or of both texts; of too many, the last ones that the model can read."""
        question, text = self._without_controls(question), self._without_controls(text)
        if self._tokenizer.chat_template:
            chat = [{"role": "user", "content": question}, {"role": "assistant", "content": text}]
            shown = self._tokenizer.apply_chat_template(chat, tokenize=False)
            ids = self._tokenizer(shown, add_special_tokens=False)["input_ids"]
        else:
            ids = self._tokenizer(f"{question}\n{text}")["input_ids"]
        return ids[-self._model.config.max_position_embeddings :]

    def _without_controls(self, text: str) -> str:
        """Return a text that cannot end its turn: its control tokens are spelt with a space behind their first sign."""
        return self._controls.sub(lambda match: f"{match[0][0]} {match[0][1:]}", text)

    def _forward(self, inputs: Sequence[Sequence[int]]) -> list[float]:
        import torch

        longest = max(map(len, inputs))
        pad = self._tokenizer.pad_token_id or 0
        ids = torch.tensor([[*row, *[pad] * (longest - len(row))] for row in inputs], device=self._model.device)
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in inputs], device=self._model.device)
        with torch.inference_mode():
            return self._model(input_ids=ids, attention_mask=mask).logits[:, 0].float().tolist()


def _controls(tokenizer: Any) -> re.Pattern[str]:
    """Return what finds a tokenizer's control tokens, of which many name but two or three as their special ones."""
    added = [str(token.content) for token in tokenizer.added_tokens_decoder.values() if token.special]
    marked = [token for token in tokenizer.get_added_vocab() if MARKED.fullmatch(token)]
    controls = sorted({*tokenizer.all_special_tokens, *added, *marked}, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, controls)) or r"(?!)")


@cache
def _load(path: str, device: str) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    place = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(path)
        loaded: Any = AutoModelForSequenceClassification.from_pretrained(path, dtype="auto", output_loading_info=True)
        model, about = loaded
        model = model.eval().to(place)
    except Exception as error:  # it is the family's own code that fails, in any way
        raise ValueError(f"could not load reward model {path!r}: {first_line(error)}") from error
    if missing := sorted(about["missing_keys"]):  # transformers makes them up, at random
        raise ValueError(f"reward model {path!r} lacks weights, such as {missing[0]}: it is no trained classifier")
    _check_outputs(path, model.config.num_labels)
    model.config.pad_token_id = tokenizer.pad_token_id
    return tokenizer, model
