"""Rows of equal length that a model reads on from, one more token in each at a time."""

import inspect
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.03}
"""Largest KL divergence, in nats a token, between a row read on from its cache and one read anew."""


class RowReader:
    """A model in the middle of its rows.

    Keys and values of a prompt are computed once a group and then repeated. A recurrent layer's state has no common way
    of being repeated, so there each completion reads its prompt itself; and without a cache that can be trusted, the
    whole row is read anew for every token.
    """

    def __init__(self, model: Any, *, cached: bool, attends_only: bool) -> None:
        self._model = model
        self._cached = cached
        self._attends_only = attends_only
        self._counts = "position_ids" in inspect.signature(model.forward).parameters
        self._cache: Any = None
        self._rows = torch.empty(0)

    def begin(
        self, prompts: Int[Tensor, "prompts length"], group_size: int
    ) -> Float[Tensor, "prompts_times_group_size vocabulary"]:
        """Return the logits behind each prompt, `group_size` times over."""
        self._rows = prompts.repeat_interleave(group_size, dim=0)
        if not self._attends_only:
            return self._read(self._rows)
        logits = self._read(prompts)
        if self._cached:
            self._cache.batch_repeat_interleave(group_size)
        return logits.repeat_interleave(group_size, dim=0)

    def go_on(self, tokens: Int[Tensor, " rows"]) -> Float[Tensor, "rows vocabulary"]:
        """Return the logits behind one more token in every row."""
        self._rows = torch.cat([self._rows, tokens[:, None]], dim=1)
        return self._read(tokens[:, None] if self._cached else self._rows)

    def _read(self, ids: Int[Tensor, "rows inputs"]) -> Float[Tensor, "rows vocabulary"]:
        if not self._cached:
            return self._model(ids, use_cache=False).logits[:, -1]
        more: dict[str, Any] = {"past_key_values": self._cache} if self._cache is not None else {}
        if self._counts:  # some hybrids would count from 0 again
            last = self._rows.shape[1]
            more["position_ids"] = torch.arange(last - ids.shape[1], last, device=ids.device).expand(len(ids), -1)
        output = self._model(ids, use_cache=True, **more)
        self._cache = output.past_key_values
        return output.logits[:, -1]


@torch.no_grad()
def reads_on(model: Any, *, attends_only: bool) -> bool:
    """Return True if reading on from a cache gives what the whole row gives; some of transformers' hybrids fail."""
    device = next(model.parameters()).device
    ids = torch.tensor([[3, 5, 4, 9, 7], [8, 2, 6, 3, 5]], device=device)
    reader = RowReader(model, cached=True, attends_only=attends_only)
    try:
        reader.begin(ids[:, :3], 1)
        seen = [reader.go_on(ids[:, i]).float().log_softmax(-1) for i in (3, 4)]
    except Exception:  # a state of the family's own in place of transformers' cache ends in any of a dozen ways
        return False
    expected = model(ids, use_cache=False).logits[:, 3:].float().log_softmax(-1).unbind(1)
    divergence = sum((e.exp() * (e - s)).sum(-1).mean().item() for e, s in zip(expected, seen, strict=True)) / len(seen)
    return divergence <= TOLERANCE[model.dtype]
