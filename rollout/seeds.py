"""Seeds of 64 bits, so spread that calls whose seeds are neighbours have no random stream in common.

vLLM 0.32 draws completion i of a prompt from the prompt's seed plus i: calls with the seeds 1 and 2 would share all of
their completions but one. It adds without looking, keeps seeds on a GPU as signed 64-bit numbers, and takes -1 for
none. torch's generator on a CPU remembers a seed of 64 bits, and begins from its low 32 alone; `rollout.cpu_sampler`
mixes the others in.
"""

from typing import Any

import numpy as np
from jaxtyping import UInt64

from rollout.config import MOST_OF_A_PROBLEM

ALL = 2**64
END = 2**63 - MOST_OF_A_PROBLEM
"""The seeds that vLLM is given end here: it adds a completion's index to them."""
GAMMA, FIRST, SECOND = (np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def mix(numbers: UInt64[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    """Return another number for each, of which every bit depends on all bits; two are never the same.

    The step of SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators", fig. 17).
    """
    numbers = numbers + GAMMA  # arrays wrap around
    numbers = (numbers ^ (numbers >> np.uint64(30))) * FIRST
    numbers = (numbers ^ (numbers >> np.uint64(27))) * SECOND
    return numbers ^ (numbers >> np.uint64(31))


def vllm_seed(seed: int) -> int:
    """Return the seed that vLLM is given for one of ours, of which the low 64 bits count."""
    mixed: Any = mix(np.array([seed % ALL], dtype=np.uint64))[0]
    return int(mixed) % END
