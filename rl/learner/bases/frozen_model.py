"""A model beside the one that policies share, which scores and learns nothing: a teacher larger than its student."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from lora.accounting import linear_kinds
from lora.base.architecture import in_one_line
from lora.base.load import load_base, load_skeleton
from lora.base.quantize import weight_bytes
from lora.base.targets import resolve_targets
from lora.config import ALL_LINEAR, LoraConfig, ModelConfig
from lora.peft.files import unpack
from lora.trainable.inject import inject
from lora.types import Adapter
from rl.learner.passes.forward import check_head
from rl.learner.passes.packing_check import check_rows, read_alone
from rl.learner.passes.scoring import score_sequences

EVERY_LAYER = LoraConfig(targets=(ALL_LINEAR,))


@dataclass(frozen=True, slots=True)
class FrozenSpec:
    """A model, and the adapter that it has, if any."""

    model: ModelConfig
    adapter: Adapter | None = None

    @property
    def bytes(self) -> float:
        """Bytes of the model's weights. Raises ValueError if there is no such model."""
        return float(weight_bytes(load_skeleton(self.model), self.model))

    @property
    def linear_weights(self) -> int:
        """Numbers in the linear layers that a token meets. Raises ValueError if there is no such model."""
        skeleton = load_skeleton(self.model)
        return sum(kind.weights for kind in linear_kinds(skeleton, resolve_targets(skeleton, EVERY_LAYER)))


class FrozenModel:
    """Such a model, whole, on one device. Every learner has its own, so that they divide what is to be scored."""

    def __init__(self, spec: FrozenSpec, *, device: str, tokens_per_microbatch: int) -> None:
        """Load it. Raises ValueError of one line if there is no such model, or it would score wrong numbers."""
        self._device = device
        self._tokens_per_microbatch = tokens_per_microbatch
        self._model: nn.Module = load_base(spec.model, device).eval()
        with in_one_line(self._model.config.model_type):  # pyright: ignore[reportArgumentType, reportAttributeAccessIssue]
            check_head(self._model)
            check_rows(self._model, read_alone(self._model, device), device, packed=False)
        if spec.adapter is not None:
            self._adapt(spec.adapter)

    def score(self, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        """Return logprobs of every token but the first, in nats, at temperature 1."""
        return score_sequences(
            self._model, sequences, self._tokens_per_microbatch, self._device, packed=False, joined=False
        )

    def _adapt(self, adapter: Adapter) -> None:
        tensors, about = unpack(adapter.payload)
        lora = LoraConfig(rank=about.rank, alpha=about.alpha, targets=tuple(about.targets), allow_large_rank=True)
        layers = inject(self._model, lora)
        layers.load(tensors)
        for tensor in layers.tensors().values():
            tensor.requires_grad_(False)
