"""Settings of evaluation."""

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rl.config.data import MOST_PROBLEMS
from rl.config.strict import Strict
from rollout.config import MOST_OF_A_PROBLEM, MinP, Temperature, TopK, TopP


class EvaluationSet(Strict):
    """Other problems that every evaluation looks at, in a file of JSON lines; the best policy is not chosen by them."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=40)
    """Its accuracy is `eval/<name>/accuracy`."""
    file: str
    """The file."""
    layout: Literal["jsonl", "gsm8k", "math"] = "jsonl"
    """`gsm8k` has the answer behind `####`, and `math` (MATH-500 and AIME, too) a `problem` and its `answer`, or a
    `solution` with a box."""
    question: str = "question"
    """With `jsonl`, the column that holds the question, or a text with several columns in it."""
    answer: str = "answer"
    """With `jsonl`, the column that holds the answer."""
    answer_after: str | None = Field(default=None, min_length=1)
    """With `jsonl`, only what follows this text's last occurrence in the answer column is the answer."""


class EvaluateConfig(Strict):
    """Accuracy on held-out problems."""

    every: int = Field(default=10, ge=1)
    """Steps between evaluations; the first and last policies are always evaluated."""
    num_problems: int = Field(default=256, ge=1)
    """Held-out problems that are answered, a random sample drawn once; all where there are fewer."""
    num_test: int = Field(default=0, ge=0, le=MOST_PROBLEMS)
    """Held-out problems set apart for the end, where the best policy answers each of them once: `test/accuracy` is of
    problems that nothing was chosen by, which `eval/accuracy` of the best policy is not."""
    sets: tuple[EvaluationSet, ...] = ()
    samples_per_problem: int = Field(default=1, ge=1, le=MOST_OF_A_PROBLEM)
    """Answers to each; above 1, `eval/pass_at_k` is measured."""
    pass_at: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Numbers k of answers for which `eval/pass_at/<k>` is measured, the chance that one of k is right; each at most
    `samples_per_problem`."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Most tokens of an answer; by default `sampling.max_tokens`."""
    temperature: Temperature = 0.0
    """Sampling temperature; 0 is greedy."""
    top_p: TopP = 1.0
    """Answer with the likeliest tokens alone that together have this probability."""
    top_k: TopK = 0
    """Answer with so many of the likeliest tokens alone; 0 is all of them."""
    min_p: MinP = 0.0
    """Answer with those tokens alone whose probability is at least this share of the likeliest one's."""

    @model_validator(mode="after")
    def _pass_at_fits(self) -> Self:
        for reason in self._misfits_of_pass_at():
            raise ValueError(reason)
        return self

    def _misfits_of_pass_at(self) -> Iterator[str]:
        names = [each.name for each in self.sets]
        if len(set(names)) < len(names) or "pass_at" in names:
            yield "evaluate.sets need different names, none of them pass_at, which is a metric's"
        most = max(self.pass_at, default=1)
        if most > self.samples_per_problem:
            yield (
                f"evaluate.pass_at has {most}, above evaluate.samples_per_problem = {self.samples_per_problem}: raise "
                f"samples_per_problem to {most}, or leave it out"
            )
        if most > 1 and self.temperature == 0:
            yield (
                "evaluate.pass_at above 1 needs answers that differ, and evaluate.temperature 0 makes them equal: set "
                "evaluate.temperature, such as 0.6"
            )
        if most > 1 and self.top_k == 1:
            yield (
                "evaluate.pass_at above 1 needs answers that differ, and evaluate.top_k 1 makes them equal: set "
                "evaluate.top_k to 0"
            )
