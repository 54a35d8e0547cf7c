"""The facts of an adapter besides its tensors, and how PEFT's configuration file has them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lora.layers.experts import PROJECTIONS

EXPERT_WEIGHTS = ("experts.gate_up_proj", "experts.down_proj")
"""PEFT's names for the stacked weights of a layer's experts."""


@dataclass(frozen=True, slots=True)
class Description:
    """The facts that a reader of an adapter must know besides its tensors."""

    base_model: str
    rank: int
    alpha: float
    targets: tuple[str, ...]
    expert_rank: int | None = None
    """Rank of the adapters on experts, if there are any."""

    def to_peft(self) -> dict[str, Any]:
        """PEFT's `adapter_config.json`."""
        modules, experts = self.targets, dict[str, Any]()
        if self.expert_rank is not None:
            # PEFT takes a module's name of these for an adapter of a time when experts were modules.
            modules = tuple(target for target in self.targets if target not in PROJECTIONS)
            ranks = dict.fromkeys(EXPERT_WEIGHTS, self.expert_rank)
            experts = {"target_parameters": list(EXPERT_WEIGHTS), "rank_pattern": ranks}
        return {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": self.base_model,
            "r": self.rank,
            "lora_alpha": self.alpha if self.alpha % 1 else int(self.alpha),
            "target_modules": list(modules),
            "lora_dropout": 0.0,
            "bias": "none",
            "inference_mode": True,
            "use_rslora": False,
            **experts,
        }

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> "Description":
        """Read back from JSON what `asdict` gave. Raises ValueError if it is something else."""
        named = {name: facts.get(name) for name in ("base_model", "rank", "alpha", "targets", "expert_rank")}
        kinds = {"base_model": str, "rank": int, "alpha": int | float, "targets": list, "expert_rank": int | None}
        wrong = [name for name, kind in kinds.items() if not isinstance(named[name], kind)]
        if wrong or not all(isinstance(target, str) for target in facts["targets"]):
            raise ValueError(f"its header does not say the adapter's {' and '.join(wrong) or 'targets'}")
        return cls(**{**named, "targets": tuple(facts["targets"])})  # pyright: ignore[reportArgumentType]
