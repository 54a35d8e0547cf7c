"""Seeds of prompts, such that no two completions of a run draw from the same random stream.

A prompt's seed stands for as many consecutive numbers as the prompt has completions, so that all of a run's numbers are
different: the run's seed says where they begin; training counts upwards from there, step by step and prompt by prompt,
and evaluation downwards, the same at every evaluation. Engines spread seeds over 64 bits (`rollout.seeds`). Counting
keeps a run's numbers apart in their low 32 bits too, which are all that torch's own generators on a CPU keep, so a run
has `MAX_COMPLETIONS` (2^32) of them, and a configuration that may need more is refused.
"""

from random import Random

from rl.config import RunConfig

FIRST = 2**61
"""Numbers are from 0 to 2^62. Half-way between them, neither direction can leave that range."""


def training_seeds(config: RunConfig, step: int) -> list[int]:
    """Return one seed for each prompt of a step, in [0, 2^62)."""
    group_size = config.sampling.group_size
    first = _start(config.seed) + step * config.problems_per_step * group_size
    return [first + i * group_size for i in range(config.problems_per_step)]


def evaluation_seeds(config: RunConfig, count: int) -> list[int]:
    """Return one seed for each of the first `count` held-out prompts, in [0, 2^62)."""
    start, samples = _start(config.seed), config.evaluate.samples_per_problem
    return [start - (i + 1) * samples for i in range(count)]


def _start(seed: int) -> int:
    return FIRST + Random(f"streams/{seed}").randrange(2**60)
