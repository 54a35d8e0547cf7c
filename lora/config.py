"""Settings of the base model and of the adapter on it."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

MAX_RANK = 8
"""Largest rank. In RL an episode teaches about one bit, so more buys nothing ("LoRA Without Regret", 2025)."""

U, TYING = 13, 1.0
"""A whole model has 13 numbers."""
MOST_RANK, MOST_ALPHA = 65_536, 1e6
"""Beyond what any study needs: a layer's own rank is lower."""
ATTENTION: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP: tuple[str, ...] = ("gate_proj", "up_proj", "down_proj")
Quantization = Literal["int8", "fp8", "nf4"]
ALL_LINEAR = "all-linear"
"""Stands in `lora.targets` for the linear layers that a model has; `resolve_targets` names them."""


class ModelConfig(BaseModel):
    """The frozen base model."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    name: str = Field(default="smollm2-135m", min_length=1)
    """A built-in name (`smollm2-135m`, `tiny-random`), a local directory, or a model hub's id."""
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Type of the weights and activations; the adapter is trained in float32 anyway. `auto` is bfloat16, or float32
    for a run that has this machine alone, if it has no GPU and its processor no products in bfloat16."""
    max_length: int = Field(default=1024, ge=8, le=2**24)
    """Most tokens of prompt and completion together."""
    head_dtype: Literal["float32", "model"] = "float32"
    """Type of the logits, which sampler and learner round differently in bfloat16: "model" is `dtype`."""
    quantization: Quantization | None = None
    """Keep the weights of linear layers in fewer bits, in learner and engines alike: "int8" and "fp8" in 8 (torchao),
    "nf4" in 4.5 (bitsandbytes). The adapter, the embeddings and the output layer stay as they are."""


class LoraConfig(BaseModel):
    """The adapter: W' = W + (alpha / rank) B A."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    kind: Literal["lora", "tiny"] = "lora"
    """Trained numbers: "lora" trains A and B; "tiny" is TinyLoRA, which makes both from the `rank` largest singular
    vectors of W and a few numbers, and trains those."""
    rank: int = Field(default=1, ge=1, le=MOST_RANK)
    """Rank of A and B: 1 to 8."""
    alpha: float = Field(default=32.0, gt=0, le=MOST_ALPHA)
    """The same at every rank: it makes the best learning rate nearly independent of the rank. For
    "tiny" it is `rank`, and so has no effect."""
    u: int = Field(default=U, ge=1, le=MOST_RANK)
    """Trained numbers of a vector, for "tiny"."""
    weight_tying: float = Field(default=TYING, ge=0, le=1)
    """Part of the layers that have no vector of their own, for "tiny": at 1 one is for all, at 0 each has one."""
    targets: tuple[str, ...] = (*ATTENTION, *MLP)
    """Names of the linear layers that are adapted, each in every block of the model; or "all-linear" for every name
    that the model has, but for the output layer's and those of what chooses experts."""
    exclude: tuple[str, ...] = ()
    """Names in `targets` that are not adapted after all."""
    lm_head: bool = False
    """Adapt the output layer too."""
    init: str | None = None
    """The adapter to begin from: a run's directory, or a PEFT adapter's. Its rank and alpha may be others, and layers
    that it lacks begin fresh."""
    init_fit: Literal["exact", "nearest"] = "exact"
    """`nearest` lets an adapter of a higher rank be cut to `rank`, by the singular values of its products."""
    allow_large_rank: bool = False
    """Permit ranks above 8, for studies."""

    @property
    def all_targets(self) -> tuple[str, ...]:
        """`targets`, and the output layer where it is adapted."""
        return (*self.targets, "lm_head") if self.lm_head else self.targets

    @field_validator("targets", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        return (ALL_LINEAR,) if value == ALL_LINEAR else value

    @model_validator(mode="before")
    @classmethod
    def _scale_of_tiny(cls, given: Any) -> Any:
        """Let alpha be the rank, if it is not said, as TinyLoRA has no scale."""
        if isinstance(given, dict) and given.get("kind") == "tiny" and isinstance(given.get("rank", 1), int):
            return {"alpha": given.get("rank", 1), **given}
        return given

    @model_validator(mode="after")
    def _is_meant(self) -> Self:
        for misfit in self._misfits_of_kind():
            raise ValueError(misfit)
        if ALL_LINEAR in self.targets and len(self.targets) > 1:
            raise ValueError(f'lora.targets is "{ALL_LINEAR}" or a list of names, not both: leave one out')
        if self.rank > MAX_RANK and not self.allow_large_rank:
            raise ValueError(
                f"rank {self.rank} is above {MAX_RANK}, more than RL can fill; "
                "choose 1 to 8, or set lora.allow_large_rank = true for a study"
            )
        if not self.all_targets:
            raise ValueError("lora.targets is empty, so nothing would be trained: name a layer, or leave the key out")
        return self

    def _misfits_of_kind(self) -> Iterator[str]:
        if self.kind == "lora" and (self.u, self.weight_tying) != (U, TYING):
            yield 'lora.u and lora.weight_tying are of lora.kind = "tiny": set that, or leave them out'
        if self.kind == "tiny" and self.alpha != self.rank:
            yield f'lora.kind = "tiny" has no scale: leave lora.alpha out, or set it to lora.rank = {self.rank}'
        if self.kind == "tiny" and self.init is not None:
            yield (
                'lora.kind = "tiny" begins from the base model, because no vector makes an adapter that is there: '
                "leave lora.init out, or merge the adapter with `rankone export --merge` and name that as model.name"
            )


def layers_label(targets: Sequence[str]) -> str:
    """A short name of a set of adapted layers: `all`, `mlp`, `attention`, or their names joined."""
    labels: dict[frozenset[str], str] = {
        frozenset((*ATTENTION, *MLP)): "all",
        frozenset(MLP): "mlp",
        frozenset(ATTENTION): "attention",
    }
    return labels.get(frozenset(targets)) or "+".join(target.removesuffix("_proj") for target in targets)
