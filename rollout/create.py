"""Make the engine that a configuration names."""

from lora.base.resolve import resolve_model
from lora.config import LoraConfig, ModelConfig
from rollout.config import RolloutConfig
from rollout.types import Engine


def create_engine(model: ModelConfig, lora: LoraConfig, config: RolloutConfig, *, seed: int, device: str) -> Engine:
    """An engine in this process. vLLM needs `rollout.environment.worker_environment` set before it starts."""
    if config.engine == "torch":
        from rollout.torch.engine import TorchEngine

        return TorchEngine(model, lora, device, return_routed_experts=config.return_routed_experts)
    from rollout.vllm.engine import VllmEngine

    return VllmEngine(resolve_model(model.name), model, lora, config, seed)
