"""Tasks of `reasoning-gym`: problems made by a program, in as many numbers as a task has different ones."""

import difflib
from collections.abc import Iterator
from importlib import import_module
from itertools import islice
from random import Random
from typing import Any, cast

from rewards.types import Problem
from rl.config import ReasoningGym
from rl.data.split import Split, question_key

TRIES_PER_PROBLEM = 4
"""Problems that a task is asked for, for each different one that is needed."""


def load_reasoning_gym(config: ReasoningGym, seed: int) -> Split:
    """Make different problems of one task, held-out and training ones generated from seeds of their own.

    Raises:
        ValueError: the task is unknown, refuses its options, or has too few different problems.
    """
    asked: set[str] = set()
    held_out = tuple(islice(_different(config, seed, "held_out", config.num_held_out, asked), config.num_held_out))
    if len(held_out) < config.num_held_out:
        raise ValueError(_too_few(config, "num_held_out", len(held_out)))
    train = tuple(islice(_different(config, seed, "train", config.num_train, asked), config.num_train))
    if len(train) < config.num_train:
        raise ValueError(_too_few(config, "num_train", len(train)))
    return Split(train, held_out)


def _different(config: ReasoningGym, seed: int, part: str, count: int, asked: set[str]) -> Iterator[Problem]:
    """Yield problems whose question was not `asked` before, generated one by one as they are taken."""
    # Most tasks seed problem i with seed + i: neighbouring seeds would share nearly all of their problems.
    start = Random(f"reasoning_gym/{config.task}/{part}/{seed}").randrange(2**31)
    entries = _task(config, start, count * TRIES_PER_PROBLEM)
    for number in range(count * TRIES_PER_PROBLEM):
        problem = _problem(config.task, part, number, entries[number])
        key = question_key(problem.question)
        if key not in asked:
            asked.add(key)
            yield problem


def _task(config: ReasoningGym, seed: int, size: int) -> Any:
    # Late, because it takes seconds that only runs which need it should pay; by name, because it has no types.
    factory: Any = import_module("reasoning_gym.factory")
    tasks = cast("dict[str, tuple[Any, type]]", factory.DATASETS)
    if config.task not in tasks:
        near = difflib.get_close_matches(config.task, tasks, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "its documentation lists them"
        raise ValueError(f"data.task: reasoning-gym has no task {config.task!r}; {hint}")
    taken = sorted({"seed", "size"} & set(config.options))
    if taken:
        raise ValueError(
            f"data.options: {taken[0]!r} is set by rankone itself; use seed, data.num_train and num_held_out"
        )
    try:
        return factory.create_dataset(config.task, seed=seed, size=size, **config.options)
    except (TypeError, ValueError, AssertionError) as error:
        options = ", ".join(_option_names(tasks[config.task][1]))
        raise ValueError(f"data.options: {config.task} refuses them: {error}; its options are {options}") from error


def _option_names(config_class: type) -> list[str]:
    fields = cast("dict[str, Any]", getattr(config_class, "__dataclass_fields__", {}))
    return [name for name in fields if name not in ("seed", "size")]


def _problem(task: str, part: str, number: int, entry: dict[str, Any]) -> Problem:
    question, answer = entry["question"], entry["answer"]
    if not isinstance(answer, str) or not answer.strip():
        raise ValueError(
            f"data.task: {task} makes problems with no single right answer (its number {number} of {part}), "
            "and a reference answer is needed; choose another task"
        )
    return Problem(f"{task}/{part}/{number}", str(question).strip(), answer.strip(), dict(entry["metadata"]))


def _too_few(config: ReasoningGym, key: str, count: int) -> str:
    return (
        f"data.{key} = {getattr(config, key)}: {config.task} gave only {count} different problems in "
        f"{getattr(config, key) * TRIES_PER_PROBLEM} tries; lower data.{key}, or widen the task with data.options"
    )
