"""The problems of a run: a configuration becomes a checked split."""

from pathlib import Path
from typing import assert_never

from rl.config import Addition, DataConfig, Gsm8k, Hub, JsonLines, Math, ReasoningGym
from rl.data.addition import load_addition
from rl.data.gsm8k import load_gsm8k
from rl.data.hub import load_hub
from rl.data.json_lines import load_json_lines
from rl.data.math import load_math
from rl.data.reasoning_gym import load_reasoning_gym
from rl.data.split import Split, check_disjoint, set_test_apart


def load_problems(config: DataConfig, seed: int, base: Path, num_test: int = 0) -> Split:
    """Load the problems of a run, the same ones for the same seed; `num_test` held-out ones are set apart for its end.

    Relative paths start at `base`, the configuration file's directory, and then at the current directory.

    Raises:
        ValueError: something is wrong with the data, or held-out problems are also in the training set.
    """
    split = _load(config, seed, base)
    assert split.train, "a source returned nothing to train on"
    assert split.held_out, "a source returned nothing to hold out"
    check_disjoint(split, _remedy(config))
    return set_test_apart(split, num_test, seed) if num_test else split


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
