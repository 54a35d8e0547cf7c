"""Logprobs of whole sequences under a model as it stands, without gradients."""

from collections.abc import Sequence

import torch
from torch import nn

from rl.learner.passes.forward import microbatches, target_logprobs
from rl.types import Row


@torch.no_grad()
def score_sequences(
    model: nn.Module,
    sequences: Sequence[Sequence[int]],
    tokens_per_microbatch: int,
    device: str,
    *,
    packed: bool,
    joined: bool,
) -> list[list[float]]:
    """Return logprobs of every token but the first, in nats, at temperature 1.

    `packed` and `joined` are as the model is prepared to read rows (`rl.learner.passes.forward`).
    """
    by_length = sorted(range(len(sequences)), key=lambda i: -len(sequences[i]))  # the microbatches' own order
    rows = [row_to_score(sequences[i]) for i in by_length]
    parts = microbatches(rows, tokens_per_microbatch, device, joined=joined)
    logprobs = torch.cat([target_logprobs(model, part, packed=packed)[0] for part in parts])
    scores = dict(zip(by_length, logprobs.split([len(sequences[i]) - 1 for i in by_length]), strict=True))
    return [scores[i].tolist() for i in range(len(sequences))]


def row_to_score(sequence: Sequence[int]) -> Row:
    """A row whose 'prompt' is the first token and whose 'completion' is all the rest."""
    rest = torch.tensor(sequence[1:])
    return Row(
        token_ids=torch.tensor(sequence[:-1]),
        position_ids=torch.arange(len(sequence) - 1),
        segment_ids=torch.zeros(len(sequence) - 1, dtype=torch.long),
        predictors=torch.arange(len(rest)),
        targets=rest,
        sequence_ids=torch.zeros_like(rest),
        rollout_logprobs=torch.zeros(len(rest)),
        advantages=torch.zeros(len(rest)),
    )
