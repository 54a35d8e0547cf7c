"""Seeds of 64 bits, so spread that calls whose seeds are neighbours have no random stream in common.

vLLM 0.32 draws completion i of a prompt from the prompt's seed plus i: calls with the seeds 1 and 2 would share all of
their completions but one. It adds without looking, keeps seeds on a GPU as signed 64-bit numbers, and takes -1 for
none. torch's generator on a CPU remembers a seed of 64 bits, and begins from its low 32 alone: the others are mixed
into what it draws, here and in `rollout.vllm.patches.cpu_sampler`.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt64
from torch import Tensor

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


class Stream:
    """Uniform numbers of one seed. Those of a seed below 2^32 are torch's own."""

    def __init__(self, seed: int) -> None:
        self._seed = np.array([seed % ALL], dtype=np.uint64)
        self._generator = torch.Generator().manual_seed(seed % 2**32)

    def draw(self, count: int) -> Float[Tensor, " count"]:
        """Return the next numbers, float64 in [0, 1)."""
        numbers = torch.rand(count, generator=self._generator, dtype=torch.float64)
        if self._seed[0] < 2**32:
            return numbers
        mixed = mix(mix(self._seed) ^ (numbers.numpy() * 2.0**53).astype(np.uint64))
        return torch.from_numpy((mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def vllm_seed(seed: int) -> int:
    """Return the seed that vLLM is given for one of ours, of which the low 64 bits count."""
    mixed: Any = mix(np.array([seed % ALL], dtype=np.uint64))[0]
    return int(mixed) % END
