"""Drawing tokens on a CPU with one random number a row.

vLLM draws by Gumbel noise on every logit: a logarithm of a random number for each token of the vocabulary, in every
row, a tenth of a decoding step. The probabilities are needed anyway, for the logprob that is kept; their running sum
and one uniform number say the same. The sum is taken in two levels, of blocks and within the one that is hit.

Every row is drawn so, with or without top-k and top-p: what a request draws must not depend on who shares its batch.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from rollout.calls.seeds import mix

BLOCK = 256


def install() -> None:
    """Make engines that start in this process from now on draw so, and give every request the logprobs it asked for."""
    from vllm.v1.sample.ops.topk_topp_sampler import TopKTopPSampler
    from vllm.v1.sample.sampler import Sampler

    original = TopKTopPSampler.forward_cpu
    if original.__module__ == __name__:  # installed already
        return

    def forward_cpu(
        self: Any, logits: Tensor, generators: dict[int, torch.Generator], k: Tensor | None, p: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        if self.logprobs_mode != "processed_logprobs":
            return original(self, logits, generators, k, p)
        logprobs = truncate(logits, k, p).log_softmax(-1, dtype=torch.float32)
        return draw(logprobs.exp(), uniform(len(logits), generators)), logprobs

    TopKTopPSampler.forward_cpu = forward_cpu  # pyright: ignore[reportAttributeAccessIssue]
    _keep_the_likeliest(Sampler)


def _keep_the_likeliest(sampler: Any) -> None:
    """Let requests for the likeliest tokens share a step with requests for tokens by their ids (`logprob_token_ids`).

    vLLM 0.32's sampler for CPUs leaves the likeliest ones out of such a step, for every request in it.
    """
    forward, gather = sampler.forward, sampler.gather_specific_token_logprobs

    def noting_forward(self: Any, logits: Tensor, sampling_metadata: Any, *args: Any, **kwargs: Any) -> Any:
        self.num_likeliest = sampling_metadata.max_num_logprobs or 0
        return forward(self, logits, sampling_metadata, *args, **kwargs)

    def gather_both(self: Any, logprobs: Tensor, token_ids: dict[int, list[int]], sampled: Tensor) -> Any:
        by_id = gather(self, logprobs, token_ids, sampled)
        if not self.num_likeliest:
            return by_id
        return joined(by_id, self.gather_logprobs(logprobs, self.num_likeliest, token_ids=sampled), list(token_ids))

    sampler.forward, sampler.gather_specific_token_logprobs = noting_forward, gather_both


def joined(by_id: Any, likeliest: Any, rows: list[int]) -> Any:
    """Return vLLM's `LogprobsTensors` with `rows` of `by_id` and all others of `likeliest`, padded to the wider one.

    Each request reads as many columns of its row as it asked for.
    """
    width = max(by_id.logprobs.shape[1], likeliest.logprobs.shape[1])
    index = torch.tensor(rows)

    def join(some: Tensor, others: Tensor, filler: float) -> Tensor:
        some, others = (torch.nn.functional.pad(t, (0, width - t.shape[1]), value=filler) for t in (some, others))
        others[index] = some[index]
        return others

    tokens = join(by_id.logprob_token_ids, likeliest.logprob_token_ids, 0)
    logprobs = join(by_id.logprobs, likeliest.logprobs, float("-inf"))
    return likeliest._replace(logprob_token_ids=tokens, logprobs=logprobs)


def truncate(
    logits: Float[Tensor, "rows vocabulary"], k: Int[Tensor, " rows"] | None, p: Float[Tensor, " rows"] | None
) -> Float[Tensor, "rows vocabulary"]:
    """Set to -inf, in place, what each row's top-k and top-p leave out.

    Other rows are let alone: in vLLM a top-p of 1 takes away tokens whose probability rounds to 0, whose logprobs may
    still be asked for.
    """
    from vllm.v1.sample.ops.topk_topp_sampler import apply_top_k_top_p

    cut = torch.zeros(len(logits), dtype=torch.bool)
    if k is not None:
        cut |= k < logits.shape[1]
    if p is not None:
        cut |= p < 1
    if cut.any():
        logits[cut] = apply_top_k_top_p(logits[cut], None if k is None else k[cut], None if p is None else p[cut])
    return logits


def uniform(rows: int, generators: dict[int, torch.Generator]) -> Float[Tensor, " rows"]:
    """Return a number in [0, 1) a row: from the generator of the row's request, if that has one."""
    numbers = torch.rand(rows)
    if generators:
        numbers[list(generators)] = seeded(generators.values())
    return numbers


def seeded(generators: Iterable[torch.Generator]) -> Float[Tensor, " generators"]:
    """Return the next number in [0, 1) of each generator, in which all bits of its seed count.

    torch's own numbers depend on the low 32 bits alone. Each is mixed with the whole seed, so that two generators that
    run side by side give numbers that have nothing to do with each other.
    """
    pairs = [(g.initial_seed(), int(torch.empty((), dtype=torch.int64).random_(generator=g))) for g in generators]
    seeds, drawn = np.array(pairs, dtype=np.uint64).T
    mixed = mix(mix(seeds) ^ drawn)
    return torch.from_numpy((mixed >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24))


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
