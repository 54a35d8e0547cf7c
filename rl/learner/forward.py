"""Logprobs of targets under the policy, without ever holding logits of positions that predict nothing.

The body of the model runs on whole rows; the output layer only on the positions that predict a completion's token,
a chunk at a time: the [tokens, vocabulary] matrix never exists at once, and its gradient is made on the way or by
recomputation.
"""

import inspect
import itertools
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lora.architecture import KNOWN, UnsupportedModel, language_model
from lora.inject import LoraLayers, routed
from rl.algorithm.batch import attention_mask
from rl.learner.frozen_head import frozen_head_logprobs
from rl.learner.policy import TrainableWeights
from rl.learner.recompute import recomputed
from rl.types import Row

CHUNK = 512
"""Positions whose logits exist at once."""


@dataclass(frozen=True, slots=True)
class Segment:
    """The inputs and targets of one policy in a microbatch."""

    policy_index: int
    inputs: slice
    """Into the flattened rows."""
    targets: slice


@dataclass(frozen=True, slots=True)
class Microbatch:
    """Rows of similar length, padded to one shape; those of one policy stand together."""

    token_ids: Int[Tensor, "rows inputs"]
    position_ids: Int[Tensor, "rows inputs"]
    segment_ids: Int[Tensor, "rows inputs"]
    predictors: Int[Tensor, " targets"]
    """Into the flattened rows."""
    targets: Int[Tensor, " targets"]
    sequence_ids: Int[Tensor, " targets"]
    rollout_logprobs: Float[Tensor, " targets"]
    advantages: Float[Tensor, " targets"]
    segments: tuple[Segment, ...]


def microbatches(
    rows: Sequence[Row], tokens: int, device: str, policy_indices: Sequence[int] | None = None
) -> list[Microbatch]:
    """Return microbatches of at most `tokens` padded inputs, or of one row; a policy's longest rows come first.

    Rows of several policies share a microbatch only where the end of one leaves room in it.
    """
    indexed = list(zip(policy_indices or [0] * len(rows), rows, strict=True))
    groups: list[list[tuple[int, Row]]] = []
    for policy_index, row in sorted(indexed, key=lambda pair: (pair[0], -len(pair[1].token_ids))):
        width = max([len(row.token_ids), *(len(member.token_ids) for _, member in groups[-1])]) if groups else 0
        if groups and (len(groups[-1]) + 1) * width <= tokens:
            groups[-1].append((policy_index, row))
        else:
            groups.append([(policy_index, row)])
    return [_pad(members, device) for members in groups]


def target_logprobs(
    model: nn.Module,
    batch: Microbatch,
    temperature: float | Float[Tensor, " targets"] = 1.0,
    policies: Sequence[TrainableWeights] = (),
    *,
    packed: bool = True,
) -> tuple[Float[Tensor, " targets"], Float[Tensor, " targets"]]:
    """Return each target's logprob at its temperature and (without gradient) its distribution's entropy, in nats.

    Each of the `policies` computes its own segments; without them the model computes everything as it stands.
    """
    causal_lm: Any = model
    inputs = [(segment.policy_index, segment.inputs) for segment in batch.segments]
    with _divided(policies, inputs, batch.token_ids.numel()):
        predicting = hidden_states(causal_lm, batch, packed=packed)
    temperatures = torch.as_tensor(temperature, device=predicting.device).float().expand(len(predicting))
    if (weight := _frozen_head(causal_lm)) is not None:
        return frozen_head_logprobs(predicting, weight, batch.targets, temperatures / _logit_scale(causal_lm))
    chunks: list[tuple[Tensor, Tensor]] = []
    for start in range(0, len(predicting), CHUNK):
        part = slice(start, min(start + CHUNK, len(predicting)))
        with _divided(policies, list(_targets_within(batch, part)), part.stop - part.start):
            arguments = predicting[part], batch.targets[part], temperatures[part, None]
            chunks.append(recomputed(causal_lm, _head_logprobs, causal_lm, *arguments))
    return torch.cat([logprobs for logprobs, _ in chunks]), torch.cat([entropies for _, entropies in chunks])


def hidden_states(model: nn.Module, batch: Microbatch, *, packed: bool = True) -> Float[Tensor, "targets hidden"]:
    """Return the state that predicts each target. Rows of one completion need no mask but the model's own, which every
    kind of layer knows; `packed` says that there may be several in a row, for a model that attends only."""
    causal_lm: Any = model
    masks = _masks(causal_lm.config, batch) if packed else (batch.segment_ids >= 0).long()
    hidden = read(model, batch.token_ids, attention_mask=masks, position_ids=batch.position_ids)
    return hidden.flatten(0, 1).index_select(0, batch.predictors)


def read(model: nn.Module, token_ids: Int[Tensor, "rows inputs"], **more: Any) -> Float[Tensor, "rows inputs hidden"]:
    """Return the last hidden states of all inputs; what the model does not take of `more` is left out."""
    part = language_model(model)
    known = inspect.signature(part.forward).parameters
    given = {name: value for name, value in (more | {"use_cache": False}).items() if name in known}
    return part(input_ids=token_ids, **given).last_hidden_state


def check_head(model: nn.Module) -> None:
    """Raises UnsupportedModel if this model makes logits in a way that `target_logprobs` does not reproduce."""
    causal_lm: Any = model
    device = next(model.parameters()).device
    ids = torch.arange(1, 9, device=device)[None] % causal_lm.config.get_text_config().vocab_size
    with torch.no_grad():
        whole = causal_lm(input_ids=ids, use_cache=False).logits[0].float()
        split = output_logits(causal_lm, read(model, ids)[0])
    if not torch.allclose(whole, split, rtol=1e-2, atol=1e-2):
        kind = causal_lm.config.model_type
        raise UnsupportedModel(f"models of type {kind!r} treat their logits in a way that is not known; {KNOWN}")


def _divided(
    policies: Sequence[TrainableWeights], parts: Sequence[tuple[int, slice]], positions: int
) -> AbstractContextManager[None]:
    """Send each policy's part of the `positions` through its own adapter, inside the block."""
    if not policies:
        return nullcontext()
    if len(parts) == 1:
        return policies[parts[0][0]].exclusively()
    pairs = [(policies[index], part) for index, part in parts]
    return routed([(layers, part) for layers, part in pairs if isinstance(layers, LoraLayers)], positions)


def _targets_within(batch: Microbatch, chunk: slice) -> Iterator[tuple[int, slice]]:
    """Yield the policies of a chunk of the targets, and where theirs are in it."""
    for segment in batch.segments:
        start, stop = max(segment.targets.start, chunk.start), min(segment.targets.stop, chunk.stop)
        if start < stop:
            yield segment.policy_index, slice(start - chunk.start, stop - chunk.start)


def _frozen_head(model: Any) -> Tensor | None:
    """The output layer's weight, if it is one plain matrix that is not trained and nothing comes after it."""
    head = model.get_output_embeddings()
    plain = type(head) is nn.Linear and getattr(head, "bias", None) is None and not head.weight.requires_grad
    return head.weight if plain and not _softcap(model) else None


def _softcap(model: Any) -> float | None:
    return getattr(model.config.get_text_config(), "final_logit_softcapping", None)


def _logit_scale(model: Any) -> float:
    """Return the factor of a family's logits, under any of the names that there are for it."""
    config = model.config.get_text_config()
    scale = (getattr(config, "logit_scale", None) or 1.0) * (getattr(config, "lm_head_multiplier", None) or 1.0)
    return scale / (getattr(config, "logits_scaling", None) or 1.0)


def _head_logprobs(model: Any, hidden: Tensor, targets: Tensor, temperatures: Tensor) -> tuple[Tensor, Tensor]:
    logprobs = (output_logits(model, hidden) / temperatures).log_softmax(-1)
    with torch.no_grad():
        entropies = -(logprobs.exp() * logprobs).sum(-1)
    return logprobs.gather(1, targets[:, None])[:, 0], entropies


def output_logits(model: Any, hidden: Tensor) -> Float[Tensor, "*positions vocabulary"]:
    """Return float32 logits of hidden states, as `check_head` found the whole model to make them."""
    logits = model.get_output_embeddings()(hidden).float() * _logit_scale(model)
    cap = _softcap(model)
    return cap * torch.tanh(logits / cap) if cap else logits


def _masks(config: Any, batch: Microbatch) -> Any:
    """The rows' mask in the form the model takes: one of its own for layers that see a sliding window."""
    mask = attention_mask(batch.segment_ids)[:, None]
    config = config.get_text_config()
    kinds: set[str] = set(getattr(config, "layer_types", None) or ())
    window = getattr(config, "sliding_window", None)
    if window is None or (kinds and "sliding_attention" not in kinds):
        return mask
    distance = batch.position_ids[:, None, :, None] - batch.position_ids[:, None, None, :]
    sliding = mask & (distance < window)
    # A model without kinds of layers, such as Mistral, slides in all of them.
    return {"full_attention": mask, "sliding_attention": sliding} if kinds else sliding


def _pad(members: Sequence[tuple[int, Row]], device: str) -> Microbatch:
    rows = [row for _, row in members]
    width = max(len(row.token_ids) for row in rows)

    def stack(name: str, value: int | None = None) -> Tensor:
        parts = [getattr(row, name) for row in rows]
        ends = [int(part[-1]) if value is None else value for part in parts]
        padded = [
            nn.functional.pad(part, (0, width - len(part)), value=end) for part, end in zip(parts, ends, strict=True)
        ]
        return torch.stack(padded).to(device)

    def join(name: str) -> Tensor:
        return torch.cat([getattr(row, name) for row in rows]).to(device)

    ends = torch.tensor([0, *(int(row.sequence_ids[-1]) + 1 for row in rows)]).cumsum(0)
    return Microbatch(
        token_ids=stack("token_ids"),  # a row's own last token: from a zero embedding some families' gradient is NaN
        position_ids=stack("position_ids", 0),
        segment_ids=stack("segment_ids", -1),
        predictors=torch.cat([row.predictors + i * width for i, row in enumerate(rows)]).to(device),
        targets=join("targets"),
        sequence_ids=torch.cat([row.sequence_ids + ends[i] for i, row in enumerate(rows)]).to(device),
        rollout_logprobs=join("rollout_logprobs"),
        advantages=join("advantages"),
        segments=_segments(members, width),
    )


def _segments(members: Sequence[tuple[int, Row]], width: int) -> tuple[Segment, ...]:
    segments: list[Segment] = []
    row = target = 0
    for policy_index, rows_of_policy in itertools.groupby(members, key=lambda pair: pair[0]):
        lengths = [len(r.targets) for _, r in rows_of_policy]
        rows, targets = row + len(lengths), target + sum(lengths)
        segments.append(Segment(policy_index, slice(row * width, rows * width), slice(target, targets)))
        row, target = rows, targets
    return tuple(segments)
