"""Settings of the problems, and of the chat that each becomes."""

from typing import Annotated, Any, Literal

from pydantic import Field

from rl.config.strict import Strict

MOST_PROBLEMS = 1_000_000
"""Most problems that may be made up or held out."""


class Addition(Strict):
    """Additions made by the program: a + b with numbers of `digits` digits."""

    source: Literal["addition"] = "addition"
    """Additions made by the program."""
    digits: int = Field(default=2, ge=1, le=9)
    """Digits of both numbers."""
    num_train: int = Field(default=4000, ge=1, le=MOST_PROBLEMS)
    """Problems made for training."""
    num_held_out: int = Field(default=256, ge=1, le=MOST_PROBLEMS)
    """Problems made for evaluation; none of them is trained on."""


class JsonLines(Strict):
    """JSON lines of your own, one problem a line."""

    source: Literal["jsonl"]
    """A file of JSON lines."""
    train: str
    """The file."""
    held_out: str | None = None
    """A second file; without one, `num_held_out` problems are taken from the first."""
    question: str = "question"
    """The column that holds the question, or a text with several columns in it: `"{Body} {Question}"`."""
    answer: str = "answer"
    """The column that holds the answer."""
    answer_after: str | None = Field(default=None, min_length=1)
    """Only what follows this text's last occurrence in the answer column is the answer, as in `#### 72`."""
    num_held_out: int = Field(default=256, ge=1, le=MOST_PROBLEMS)
    """Problems set apart for evaluation."""


class Gsm8k(Strict):
    """A directory in GSM8K's layout: train.jsonl and test.jsonl, the answer behind `####`."""

    source: Literal["gsm8k"]
    """A directory in GSM8K's layout."""
    path: str
    """The directory that holds train.jsonl and test.jsonl."""


class Math(Strict):
    """MATH's layout: JSON lines with `problem` and `answer` (or a `solution` with a box)."""

    source: Literal["math"]
    """Files in MATH's layout."""
    train: str
    """The file."""
    held_out: str | None = None
    """A second file; without one, `num_held_out` problems are taken from the first."""
    num_held_out: int = Field(default=256, ge=1, le=MOST_PROBLEMS)
    """Problems set apart for evaluation."""


class Hub(Strict):
    """A data set of a hub, or a local one, through the `datasets` library."""

    source: Literal["hub"]
    """The `datasets` library."""
    path: str
    """The id of a data set on a hub, or a local directory or file."""
    name: str | None = None
    """The data set's configuration, where it has several (such as GSM8K's `main`)."""
    train_split: str = "train"
    """The split to train on."""
    held_out_split: str | None = "test"
    """A split of that name; `"none"` takes `num_held_out` problems from the first instead."""
    question: str = "question"
    """A column, or a text with several columns in it, as in `jsonl`."""
    answer: str = "answer"
    """The column that holds the answer."""
    answer_after: str | None = Field(default=None, min_length=1)
    """Only what follows this text's last occurrence in the answer column is the answer."""
    num_held_out: int = Field(default=256, ge=1, le=MOST_PROBLEMS)
    """Problems set apart for evaluation."""


class ReasoningGym(Strict):
    """A task of `reasoning-gym` by its name, graded by the default reward unless you name another."""

    source: Literal["reasoning_gym"]
    """A task of reasoning-gym."""
    task: str
    """The task's name, such as `chain_sum`."""
    options: dict[str, int | float | str | bool] = Field(default_factory=dict)
    """The task's own settings, such as `max_terms = 4`."""
    num_train: int = Field(default=4000, ge=1, le=MOST_PROBLEMS)
    """Problems made for training."""
    num_held_out: int = Field(default=256, ge=1, le=MOST_PROBLEMS)
    """Problems made for evaluation; none of them is trained on."""


class Verifiers(Strict):
    """The tasks of an environment of `verifiers`, which `episodes.environment = "verifiers:NAME"` plays."""

    source: Literal["verifiers"]
    """A taskset of verifiers."""
    taskset: str = Field(min_length=1)
    """The taskset's name, as verifiers has it: an installed module, or a file `tasks.py` beside the configuration."""
    env: dict[str, Any] = Field(default_factory=dict)
    """The `[env]` table as verifiers reads it, without `taskset.id`: harness, runtime, options of the taskset."""
    python: str | None = None
    """The Python that has verifiers; by default `VERIFIERS_PYTHON`, then `.venv-verifiers/bin/python` here."""
    num_train: int = Field(default=4000, ge=1, le=MOST_PROBLEMS)
    """Most tasks that are trained on; a taskset may have fewer."""
    num_held_out: int = Field(default=256, ge=1, le=MOST_PROBLEMS)
    """Tasks set apart for evaluation; none of them is trained on."""


DataConfig = Annotated[
    Addition | JsonLines | Gsm8k | Math | Hub | ReasoningGym | Verifiers, Field(discriminator="source")
]


class Shot(Strict):
    """One worked example, shown as an earlier turn of the chat."""

    question: str
    """The user's question."""
    answer: str
    """The model's answer."""


class PromptConfig(Strict):
    """The chat that a problem becomes."""

    system: str | None = None
    """The system turn; without it, the chat template's own default applies."""
    suffix: str = ""
    """Appended to every question as it stands: begin it with a space or a line break."""
    shots: tuple[Shot, ...] = ()
    chat_template: bool = True
    """Off for base models: system text, shots and question are then plain text, a blank line between them."""
    template_options: dict[str, bool | int | float | str] = Field(default_factory=dict)
    """Variables for the chat template, such as Qwen3's `enable_thinking = false`."""
