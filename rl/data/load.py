"""The problems of a run: a configuration of one source or several becomes a checked split."""

from dataclasses import replace
from pathlib import Path
from typing import assert_never

from rewards.types import Problem
from rl.config import (
    Addition,
    DataConfig,
    Gsm8k,
    Hub,
    JsonLines,
    Math,
    Mixture,
    ProblemsConfig,
    ReasoningGym,
    Verifiers,
)
from rl.data.addition import load_addition
from rl.data.gsm8k import load_gsm8k
from rl.data.hub import load_hub
from rl.data.json_lines import load_json_lines
from rl.data.math import load_math
from rl.data.reasoning_gym import load_reasoning_gym
from rl.data.split import Split, check_disjoint, set_test_apart
from rl.data.verifiers import load_verifiers


def load_problems(config: ProblemsConfig, seed: int, base: Path, num_test: int = 0) -> Split:
    """Load the problems of a run, the same ones for the same seed; `num_test` held-out ones are set apart for its end.

    Relative paths start at `base`, the configuration file's directory, and then at the current directory.

    Raises:
        ValueError: something is wrong with the data, or held-out problems are also in the training set.
    """
    return _mixture(config, seed, base, num_test) if isinstance(config, tuple) else _one(config, seed, base, num_test)


def _one(config: DataConfig, seed: int, base: Path, num_test: int) -> Split:
    split = _load(config, seed, base)
    assert split.train, "a source returned nothing to train on"
    assert split.held_out, "a source returned nothing to hold out"
    check_disjoint(split, _remedy(config))
    return set_test_apart(split, num_test, seed) if num_test else split


def _mixture(sources: Mixture, seed: int, base: Path, num_test: int) -> Split:
    """Return the problems of all sources together, each with its source's name; an equal part of the test is of each.

    No source's held-out problem is another's training problem.
    """
    parts: list[Split] = []
    for index, source in enumerate(sources):
        share = num_test // len(sources) + (index < num_test % len(sources))
        try:
            parts.append(_named(_one(source, seed, base, share), source.key))
        except ValueError as error:
            raise ValueError(f"source {source.key!r} of [[data]]: {error}") from error
    joint = Split(*(tuple(p for part in parts for p in getattr(part, name)) for name in ("train", "held_out", "test")))
    check_disjoint(Split(joint.train, (*joint.held_out, *joint.test)), "take them out of one of the two sources")
    return joint


def _named(split: Split, source: str) -> Split:
    def named(problems: tuple[Problem, ...]) -> tuple[Problem, ...]:
        return tuple(replace(problem, id=f"{source}/{problem.id}", source=source) for problem in problems)

    return Split(named(split.train), named(split.held_out), named(split.test))


def _load(config: DataConfig, seed: int, base: Path) -> Split:
    match config:
        case Addition():
            return load_addition(config, seed)
        case JsonLines():
            return load_json_lines(config, seed, base)
        case Gsm8k():
            return load_gsm8k(config, base)
        case Math():
            return load_math(config, seed, base)
        case Hub():
            return load_hub(config, seed, base)
        case ReasoningGym():
            return load_reasoning_gym(config, seed)
        case Verifiers():
            return load_verifiers(config, seed, base)
        case _:
            assert_never(config)


def _remedy(config: DataConfig) -> str:
    match config:
        case JsonLines() | Math():
            return (
                "take them out of the file that data.train names, or leave data.held_out away to have "
                "data.num_held_out problems taken out of it"
            )
        case Hub():
            return 'set data.held_out_split = "none" to have data.num_held_out problems taken out of the training split'
        case _:
            return "take the shared ones out of one of the two"
