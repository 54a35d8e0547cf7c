"""Seeds of prompts, such that no two completions of a run draw from the same random stream.

A prompt's seed stands for as many consecutive numbers as the prompt has completions, so that all of a run's numbers are
different: the run's seed says where they begin; training counts upwards from there, step by step and prompt by prompt,
and evaluation downwards, the same at every evaluation. Engines take seeds of 64 bits and spread them
(`rollout.calls.seeds`). A run's numbers have 32, which are all that torch's own generators on a CPU keep: it has
`MAX_COMPLETIONS` (2^32) of them, and a configuration that may need more is refused.
"""

from collections.abc import Sequence
from random import Random

from rl.config import MAX_COMPLETIONS, RunConfig


def group_seeds(config: RunConfig, numbers: Sequence[int], offset: int = 0) -> list[int]:
    """Return the seeds of a run's groups by their numbers, in [0, 2^32); the first number has the `offset`-th one."""
    first, group_size = _start(config.seed) + offset, config.sampling.group_size
    return [(first + number * group_size) % MAX_COMPLETIONS for number in numbers]


def seeds_used(config: RunConfig, step: int, unlearned: Sequence[int], offset: int = 0) -> int:
    """Return how many seeds, from the run's first on, belong to groups that may have begun before `step`."""
    begun = step * (1 + config.curriculum.refill_rounds) * config.problems_per_step + len(unlearned)
    return offset + max([begun, *(number + 1 for number in unlearned)]) * config.sampling.group_size


def seed_offset(config: RunConfig, step: int, unlearned: Sequence[int], used: int) -> int:
    """Return the offset with which a run goes on at `step` where its groups have `used` so many seeds.

    It is the one that it had, unless steps now have fewer groups, or groups fewer completions: then it is as much more
    as keeps the groups to come from seeds of earlier ones.

    Raises:
        ValueError: so many seeds are not left.
    """
    offset = max(0, used - seeds_used(config, step, unlearned))
    if offset + config.num_completions > MAX_COMPLETIONS:
        raise ValueError(
            f"a run has at most {MAX_COMPLETIONS:,} random streams, and {offset + config.num_completions:,} would be "
            "needed with those that earlier settings have used: lower num_steps"
        )
    return offset


def evaluation_seeds(config: RunConfig, count: int, first: int = 0) -> list[int]:
    """Return one seed for each of `count` held-out prompts from the `first` on, in [0, 2^32)."""
    start, samples = _start(config.seed), config.evaluate.samples_per_problem
    return [(start - (i + 1) * samples) % MAX_COMPLETIONS for i in range(first, first + count)]


def turn_seed(group_seed: int, place: int, turn: int) -> int:
    """Return the seed of a later turn of the completion at `place` of a group, in [2^32, 2^64); turns count from 0.

    Turn 0 is drawn from the group's own seed, as a completion of one turn is. The run's number of the completion is the
    low half of a later turn's seed and the turn is the high one, so no two of a run are the same, nor one of turn 0.
    """
    assert turn > 0
    return turn * MAX_COMPLETIONS + environment_seed(group_seed, place)


def environment_seed(group_seed: int, place: int) -> int:
    """Return the run's number of the completion at `place` of a group, in [0, 2^32): an environment's seed."""
    return (group_seed + place) % MAX_COMPLETIONS


def _start(seed: int) -> int:
    return Random(f"streams/{seed}").randrange(2**60)
