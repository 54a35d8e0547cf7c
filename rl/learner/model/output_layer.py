"""The output layer: logprobs of targets from the states that predict them, a chunk of logits at a time."""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lora.layers.linear import LoraLinear
from lora.layers.wide_head import WideHead
from rl.learner.model.frozen_head import frozen_head_logprobs
from rl.learner.model.recompute import recomputed

CHUNK = 512
"""Positions whose logits exist at once."""

Scores = tuple[Float[Tensor, " targets"], Float[Tensor, " targets"]]
"""Logprobs of targets and the entropies of their distributions, in nats; these have a gradient only where one is asked
for."""


def head_logprobs(
    model: Any,
    hidden: Float[Tensor, "targets hidden"],
    targets: Int[Tensor, " targets"],
    temperatures: Float[Tensor, " targets"],
    *,
    entropy_gradients: bool = False,
) -> Scores:
    """Return the scores of targets, each predicted by its own state, by the route that the model is on.

    A policy that does not adapt the layer takes the same way whether or not others do, so that it gets the same bits.
    """
    if (head := _frozen_head(model)) is not None:
        scaled, wide = temperatures / _logit_scale(model), isinstance(head, WideHead)
        return frozen_head_logprobs(
            hidden, head.weight, targets, scaled, wide=wide, entropy_gradients=entropy_gradients
        )
    parts = [
        recomputed(
            model, _scores, model, hidden[part], None, targets[part], temperatures[part],
            entropy_gradients=entropy_gradients,
        )
        for part in _chunks(len(hidden))
    ]  # fmt: skip
    return _joined(parts)


def shared_head_logprobs(
    model: Any,
    hidden: Float[Tensor, "states hidden"],
    states: Int[Tensor, " targets"],
    targets: Int[Tensor, " targets"],
    temperatures: Float[Tensor, " targets"],
    *,
    entropy_gradients: bool = False,
) -> Scores:
    """Return the scores of targets, several of which are predicted by one state, whose logits are made once.

    `states` are indices into `hidden`, and ascend.
    """
    of_states = temperatures.new_empty(len(hidden)).index_copy(0, states, temperatures)
    parts: list[Scores] = []
    for part in _chunks(len(hidden)):
        first, last = torch.searchsorted(states, torch.tensor([part.start, part.stop], device=states.device)).tolist()
        inside = slice(first, last)
        arguments = hidden[part], states[inside] - part.start, targets[inside], of_states[part]
        parts.append(recomputed(model, _scores, model, *arguments, entropy_gradients=entropy_gradients))
    return _joined(parts)


def output_logits(model: Any, hidden: Tensor) -> Float[Tensor, "*positions vocabulary"]:
    """Return float32 logits of hidden states, as `check_head` found the whole model to make them."""
    logits = model.get_output_embeddings()(hidden).float() * _logit_scale(model)
    cap = _softcap(model)
    return cap * torch.tanh(logits / cap) if cap else logits


def adapts_head(model: Any) -> bool:
    """Return True if the model goes through an adapter of its output layer, by the route that it is on."""
    head = model.get_output_embeddings()
    return isinstance(head, LoraLinear) and head.is_used


def _chunks(length: int) -> Iterator[slice]:
    for start in range(0, length, CHUNK):
        yield slice(start, min(start + CHUNK, length))


def _joined(parts: list[Scores]) -> Scores:
    return torch.cat([logprobs for logprobs, _ in parts]), torch.cat([entropies for _, entropies in parts])


def _scores(
    model: Any, hidden: Tensor, states: Tensor | None, targets: Tensor, temperatures: Tensor, *, entropy_gradients: bool
) -> Scores:
    """Return the scores of targets that are predicted by those states, or by one each."""
    logprobs = (output_logits(model, hidden) / temperatures[:, None]).log_softmax(-1)
    with nullcontext() if entropy_gradients else torch.no_grad():
        entropies = -(logprobs.exp() * logprobs).sum(-1)
    if states is None:
        return logprobs.gather(1, targets[:, None])[:, 0], entropies
    return logprobs[states, targets], entropies[states]


def _frozen_head(model: Any) -> nn.Linear | None:
    """Return the output layer, if it is one plain matrix that is not trained and nothing comes after it."""
    head = model.get_output_embeddings()
    if isinstance(head, LoraLinear) and not head.is_used:
        head = head.base
    plain = (
        type(head) in (nn.Linear, WideHead) and getattr(head, "bias", None) is None and not head.weight.requires_grad
    )
    return cast(nn.Linear, head) if plain and not _softcap(model) else None


def _softcap(model: Any) -> float | None:
    return getattr(model.config.get_text_config(), "final_logit_softcapping", None)


def _logit_scale(model: Any) -> float:
    """Return the factor of a family's logits, under any of the names that there are for it."""
    config = model.config.get_text_config()
    scale = (getattr(config, "logit_scale", None) or 1.0) * (getattr(config, "lm_head_multiplier", None) or 1.0)
    return scale / (getattr(config, "logits_scaling", None) or 1.0)
