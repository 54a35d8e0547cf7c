"""The check that a model reads a learner's rows as it reads each completion alone.

What carries something from one completion of a packed row into the next would be learned from wrong logprobs, without
a sign of it anywhere: what samples and what scores does not pack. So each model shows at load, on a few tokens, that
it keeps them apart.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lora.base.architecture import KNOWN, UnsupportedModel
from rl.algorithm.batch.packing import pack_rows, unpack_rows
from rl.learner.model.output_layer import output_logits
from rl.learner.passes.forward import hidden_states, microbatches
from rollout.types import Completion

GROUPS = (((3, 5, 4, 9, 7), ((6, 8, 1, 5, 7, 2), (9, 4, 4, 6), (2, 7, 5))), ((8, 2), ((5, 3, 6),)))
"""Prompts and completions, in elevenths of the vocabulary: special tokens are at its ends, and on those rounding alone
moves a model in bfloat16 by 0.7 nats. The first three completions share a row if any do, and the last one's row is
shorter, so that it is padded."""
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.1}
"""Of the KL divergence a token, in nats. Rounding makes 1e-7 and 0.01 of it, and a leak tenths and more."""


Distribution = Float[Tensor, "targets vocabulary"]
"""Logprobs of all that could stand in each target's place."""


@torch.no_grad()
def read_alone(model: nn.Module, device: str) -> list[Distribution]:
    """Return what the model, as transformers loads it, makes of each completion alone."""
    causal_lm: Any = model
    groups = _groups(causal_lm.config.get_text_config().vocab_size)
    return [
        _alone(causal_lm, [*prompt, *completion], len(completion), device)
        for prompt, completions in groups
        for completion in completions
    ]


@torch.no_grad()
def check_rows(
    model: nn.Module, alone: Sequence[Distribution], device: str, *, packed: bool, joined: bool = False
) -> None:
    """Compare that with what the learner makes of them in rows, several to each if `packed`, in one line if `joined`.

    Raises:
        UnsupportedModel: they differ.
    """
    causal_lm: Any = model
    groups = _groups(causal_lm.config.get_text_config().vocab_size)
    packed_logprobs = _in_rows(model, groups, device, packed=packed, joined=joined)
    divergence = max(_kl(single, packed_row) for single, packed_row in zip(alone, packed_logprobs, strict=True))
    if not divergence <= TOLERANCE[next(model.parameters()).dtype]:
        kind = causal_lm.config.model_type
        raise UnsupportedModel(
            f"models of type {kind!r} cannot be trained here: a completion in a row has other logprobs than alone (by "
            f"{divergence:.2g} nats a token), and the learner would learn from wrong ones; {KNOWN}"
        )


def _groups(vocabulary: int) -> list[tuple[list[int], list[list[int]]]]:
    def ids(elevenths: tuple[int, ...]) -> list[int]:
        return [(vocabulary * eleventh) // 11 for eleventh in elevenths]

    return [(ids(prompt), [ids(completion) for completion in written]) for prompt, written in GROUPS]


def _alone(model: Any, sequence: list[int], length: int, device: str) -> Distribution:
    """Logprobs where a sequence's last `length` tokens are predicted."""
    logits = model(input_ids=torch.tensor([sequence], device=device)).logits[0, -length - 1 : -1]
    return logits.float().log_softmax(-1)


def _in_rows(
    model: nn.Module, groups: list[tuple[list[int], list[list[int]]]], device: str, *, packed: bool, joined: bool
) -> list[Distribution]:
    """The same by the learner's way. A completion's number goes along as its advantage."""
    rows, count = [], 0
    for prompt, written in groups:
        numbered = [
            (Completion(tuple(completion), (0.0,) * len(completion), "", "stop", 0), count + i)
            for i, completion in enumerate(written)
        ]
        rows += pack_rows(prompt, numbered, tokens_per_row=1024)
        count += len(written)
    (batch,) = microbatches(rows if packed else unpack_rows(rows), 1024, device, joined=joined)
    logprobs = output_logits(model, hidden_states(model, batch, packed=packed)).log_softmax(-1)
    return [logprobs[batch.advantages == number] for number in range(count)]


def _kl(expected: Tensor, actual: Tensor) -> float:
    return (expected.exp() * (expected - actual)).sum(-1).mean().item()
