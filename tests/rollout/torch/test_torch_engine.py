"""The reference sampler keeps nothing for a gradient."""

from collections.abc import Callable

import torch

from lora.config import LoraConfig, ModelConfig
from lora.types import Adapter
from rollout.config import SamplingConfig
from rollout.torch.engine import TorchEngine


async def test_sampling_and_scoring_build_no_graph(
    tiny_model: ModelConfig, make_adapter: Callable[..., Adapter]
) -> None:
    engine = TorchEngine(tiny_model, LoraConfig())
    seen: list[tuple[bool, bool]] = []
    engine._model.register_forward_hook(
        lambda _module, _arguments, output: seen.append((output.logits.requires_grad, torch.is_grad_enabled()))
    )
    adapter = make_adapter(tiny_model, LoraConfig())
    await engine.sample([[5, 6, 7]], adapter, SamplingConfig(group_size=2, max_tokens=3), seeds=[0])
    sampling = len(seen)
    await engine.score([[5, 6, 7]], adapter)
    assert 0 < sampling < len(seen)
    assert set(seen) == {(False, False)}
    assert torch.is_grad_enabled()
