"""Drawing tokens on a CPU with one random number a row.

vLLM draws by Gumbel noise on every logit: a logarithm of a random number for each token of the vocabulary, in every
row, a tenth of a decoding step. The probabilities are needed anyway, for the logprob that is kept; their running sum
and one uniform number say the same. The sum is taken in two levels, of blocks and within the one that is hit.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

BLOCK = 256


def install() -> None:
    """Make engines that start in this process from now on draw so."""
    from vllm.v1.sample.ops.topk_topp_sampler import TopKTopPSampler

    original = TopKTopPSampler.forward_cpu
    if original.__module__ == __name__:  # installed already
        return

    def forward_cpu(
        self: Any, logits: Tensor, generators: dict[int, torch.Generator], k: Tensor | None, p: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        if k is not None or p is not None or self.logprobs_mode != "processed_logprobs":
            return original(self, logits, generators, k, p)
        logprobs = logits.log_softmax(-1, dtype=torch.float32)
        return draw(logprobs.exp(), uniform(len(logits), generators)), logprobs

    TopKTopPSampler.forward_cpu = forward_cpu  # pyright: ignore[reportAttributeAccessIssue]


def uniform(rows: int, generators: dict[int, torch.Generator]) -> Float[Tensor, " rows"]:
    """Return a number in [0, 1) a row: from the generator of the row's request, if that has one."""
    numbers = torch.rand(rows)
    for row, generator in generators.items():
        numbers[row] = torch.rand((), generator=generator)
    return numbers


def draw(probabilities: Float[Tensor, "rows vocabulary"], numbers: Float[Tensor, " rows"]) -> Int[Tensor, " rows"]:
    """Return the first token whose running sum of probabilities reaches 1 - number of the whole.

    A token of probability 0 is never drawn, whatever rounding does: every search is for a positive sum that is reached.
    """
    rows, size = probabilities.shape
    # Two levels: a running sum of single tokens is needed inside one block of a row, not over the whole vocabulary.
    blocks = torch.nn.functional.pad(probabilities, (0, -size % BLOCK)).view(rows, -1, BLOCK)
    sums = blocks.sum(-1).cumsum(-1)
    # Of the sum as it was rounded, not of 1, so that some block reaches it. 1 - number is in (0, 1]: never 0, which a
    # leading token of probability 0 would reach.
    target = (1 - numbers[:, None]) * sums[:, -1:]
    block = torch.searchsorted(sums, target)
    before = torch.where(block > 0, sums.gather(1, (block - 1).clamp_(min=0)), 0.0)
    within = blocks.gather(1, block[:, :, None].expand(-1, -1, BLOCK))[:, 0].cumsum(-1)
    smallest = torch.finfo(within.dtype).tiny
    # The block's own running sum is rounded otherwise than `sums`: what is left must be positive, and within reach.
    rest = (target - before).clamp_(min=smallest).minimum(within[:, -1:])
    return (block * BLOCK + torch.searchsorted(within, rest))[:, 0]
