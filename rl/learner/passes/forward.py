"""Logprobs of targets under the policy, without ever holding logits of positions that predict nothing.

The body of the model runs on whole rows; the output layer only on the positions that predict a completion's token,
a chunk at a time: the [tokens, vocabulary] matrix never exists at once, and its gradient is made on the way or by
recomputation.
"""

import inspect
import itertools
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lora.base.architecture import KNOWN, UnsupportedModel, language_model
from lora.trainable.lora_layers import LoraLayers, routed
from rl.algorithm.batch.packing import attention_mask
from rl.learner.model.block_mask import Runs, block_mask
from rl.learner.model.output_layer import Scores, adapts_head, head_logprobs, output_logits, shared_head_logprobs
from rl.learner.passes.microbatch import Microbatch, Segment, join, pad
from rl.learner.policies.policy import TrainableWeights
from rl.types import Row


def microbatches(
    rows: Sequence[Row],
    tokens: int,
    device: str,
    policy_indices: Sequence[int] | None = None,
    *,
    joined: bool = False,
) -> list[Microbatch]:
    """Return microbatches of at most `tokens` inputs, or of one row; a policy's longest rows come first.

    Rows are padded to one length, and the padding counts; `joined` puts them one behind the other in one line instead.
    Rows of several policies share a microbatch only where the end of one leaves room in it.
    """
    indexed = list(zip(policy_indices or [0] * len(rows), rows, strict=True))
    groups: list[list[tuple[int, Row]]] = []
    inputs = 0
    for policy_index, row in sorted(indexed, key=lambda pair: (pair[0], -len(pair[1].token_ids))):
        members = [*(groups[-1] if groups else ()), (policy_index, row)]
        lengths = [len(member.token_ids) for _, member in members]
        inputs = inputs + len(row.token_ids) if joined else len(members) * max(lengths)
        if groups and inputs <= tokens:
            groups[-1].append((policy_index, row))
        else:
            groups.append([(policy_index, row)])
            inputs = len(row.token_ids)
    return [join(members, device) if joined else pad(members, device) for members in groups]


def target_logprobs(
    model: nn.Module,
    batch: Microbatch,
    temperature: float | Float[Tensor, " targets"] = 1.0,
    policies: Sequence[TrainableWeights] = (),
    *,
    packed: bool = True,
    entropy_gradients: bool = False,
) -> Scores:
    """Return each target's logprob at its temperature and its distribution's entropy, in nats, this without gradient
    unless it is asked for.

    Each of the `policies` computes its own segments; without them the model computes everything as it stands.
    """
    causal_lm: Any = model
    predictors, states = batch.predictors, None
    if batch.shares_predictors:
        predictors, states = torch.unique_consecutive(predictors, return_inverse=True)
    with _divided(policies, batch):
        hidden = hidden_states(causal_lm, replace(batch, predictors=predictors), packed=packed)
    temperatures = torch.as_tensor(temperature, device=hidden.device).float().expand(len(batch.targets))
    parts: list[Scores] = []
    for route, part in _head_parts(causal_lm, batch, policies):
        with route:
            arguments = causal_lm, hidden, states, part, batch.targets, temperatures
            parts.append(_part_logprobs(*arguments, entropy_gradients=entropy_gradients))
    return torch.cat([logprobs for logprobs, _ in parts]), torch.cat([entropies for _, entropies in parts])


def hidden_states(model: nn.Module, batch: Microbatch, *, packed: bool = True) -> Float[Tensor, "predictors hidden"]:
    """Return the state of each predictor. Rows of one completion need no mask but the model's own, which every
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


def _divided(policies: Sequence[TrainableWeights], batch: Microbatch) -> AbstractContextManager[None]:
    """Send each policy's rows through its own adapter, inside the block."""
    if not policies:
        return nullcontext()
    pairs = [(policies[segment.policy_index], segment.inputs) for segment in batch.segments]
    if len(pairs) == 1:
        return pairs[0][0].exclusively()
    parts = [(layers, part) for layers, part in pairs if isinstance(layers, LoraLayers)]
    return routed(parts, batch.token_ids.numel())


def _head_parts(
    model: Any, batch: Microbatch, policies: Sequence[TrainableWeights]
) -> Iterator[tuple[AbstractContextManager[None], slice]]:
    """Yield parts of the targets that go through the output layer by one route, and the route.

    Policies that do not adapt the layer go together, because its weights are read anew for every part.
    """
    if not policies:
        yield nullcontext(), slice(0, len(batch.targets))
        return

    def adapts(segment: Segment) -> bool:
        with policies[segment.policy_index].exclusively():
            return adapts_head(model)

    for is_adapted, neighbours in itertools.groupby(batch.segments, key=adapts):
        segments = list(neighbours)
        for run in [[segment] for segment in segments] if is_adapted else [segments]:
            route = policies[run[0].policy_index].exclusively()
            yield route, slice(run[0].targets.start, run[-1].targets.stop)


def _part_logprobs(
    model: Any, hidden: Tensor, states: Tensor | None, part: slice, targets: Tensor, temperatures: Tensor, *,
    entropy_gradients: bool,
) -> Scores:  # fmt: skip
    """Return the scores of a part of the targets, from their own states or from the `states` that they share."""
    if states is None:
        arguments = model, hidden[part], targets[part], temperatures[part]
        return head_logprobs(*arguments, entropy_gradients=entropy_gradients)
    indices = states[part]
    first, last = int(indices[0]), int(indices[-1])
    arguments = model, hidden[first : last + 1], indices - first, targets[part], temperatures[part]
    return shared_head_logprobs(*arguments, entropy_gradients=entropy_gradients)


def _masks(config: Any, batch: Microbatch) -> Any:
    """The rows' mask in the form the model takes: one of its own for layers that see a sliding window."""
    config = config.get_text_config()
    kinds: set[str] = set(getattr(config, "layer_types", None) or ())
    window = getattr(config, "sliding_window", None)
    if window is None or (kinds and "sliding_attention" not in kinds):
        return _mask(batch)
    if not kinds:  # such a model, Mistral for one, slides in all of its layers
        return _mask(batch, window)
    return {"full_attention": _mask(batch), "sliding_attention": _mask(batch, window)}


def _mask(batch: Microbatch, window: int | None = None) -> Any:
    """The pairs of inputs that see each other: by blocks of joined rows, else bool, [rows, 1, inputs, inputs]."""
    if batch.row_ids is not None:
        return block_mask(Runs.of(batch.row_ids[0], batch.segment_ids[0], batch.position_ids[0]), window)
    mask = attention_mask(batch.segment_ids)[:, None]
    if window is None:
        return mask
    return mask & (batch.position_ids[:, None, :, None] - batch.position_ids[:, None, None, :] < window)
