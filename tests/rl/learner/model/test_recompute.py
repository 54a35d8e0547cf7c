"""Activations that are computed again are those of the first time: no dropout, no router's noise, no other adapter."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.fakes import cores, made_groups
from helpers.torch_learner import TorchLearner
from transformers import (
    AutoModelForCausalLM,
    GPTNeoXConfig,
    GPTNeoXJapaneseConfig,
    MixtralConfig,
    OPTConfig,
    PhiConfig,
    PhimoeConfig,
    Starcoder2Config,
)

from lora.config import LoraConfig, ModelConfig
from rl.algorithm.advantage.estimators import advantages
from rl.algorithm.batch.packing import build_batch
from rl.config import LearnerConfig
from rl.learner.model.recompute import recompute_blocks

SHAPE: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "initializer_range": 0.2,
}  # fmt: skip
NARROW: dict[str, Any] = SHAPE | {"intermediate_size": 48}
OPT = {"ffn_dim": 48, "word_embed_proj_dim": 32, "max_position_embeddings": 64, "init_std": 0.2}
NOISY: dict[str, tuple[Any, tuple[str, ...]]] = {
    "phi": (
        lambda: PhiConfig(**NARROW, resid_pdrop=0.3, embd_pdrop=0.3, attention_dropout=0.3),
        ("q_proj", "v_proj", "dense", "fc1", "fc2"),
    ),
    "gpt-neox": (
        lambda: GPTNeoXConfig(**NARROW, hidden_dropout=0.3, attention_dropout=0.3),
        ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"),
    ),
    "starcoder2": (
        lambda: Starcoder2Config(
            **NARROW, num_key_value_heads=2, residual_dropout=0.3, embedding_dropout=0.3, attention_dropout=0.3
        ),
        ("q_proj", "o_proj", "c_fc", "c_proj"),
    ),
    "opt": (
        lambda: OPTConfig(**SHAPE, **OPT, dropout=0.3, attention_dropout=0.3),
        ("q_proj", "out_proj", "fc1", "fc2"),
    ),
    "mixtral": (
        lambda: MixtralConfig(
            **NARROW, num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2, router_jitter_noise=0.3,
            attention_dropout=0.3,
        ),
        LoraConfig().targets,
    ),
    "phimoe": (
        lambda: PhimoeConfig(
            **NARROW, num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2, router_jitter_noise=0.3,
            input_jitter_noise=0.3, attention_dropout=0.3,
        ),
        LoraConfig().targets,
    ),
}  # fmt: skip
"""Families with everything that training mode turns on, and their linear layers."""


def learner(family: str, directory: Path, **settings: Any) -> TorchLearner:
    made, targets = NOISY[family]
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(made()).save_pretrained(str(directory))
    model = ModelConfig(name=str(directory), dtype="float32", max_length=64)
    lora = LoraConfig(rank=2, targets=targets)
    return TorchLearner("run", model, lora, LearnerConfig(lr=1e-2, **settings), temperature=1.0, seed=0)


@pytest.mark.parametrize("family", NOISY)
async def test_what_is_computed_again_has_neither_dropout_nor_noise(tmp_path: Path, family: str) -> None:
    groups = made_groups(0, groups=3)
    batch = build_batch(groups, [advantages(group.rewards) for group in groups], 64)
    sequences = [[5, 6, 7, 8, 9], [10, 11, 12]]
    kept = learner(family, tmp_path)
    again = learner(family, tmp_path, gradient_checkpointing=True)
    for _ in range(3):
        for mine, theirs in zip(await again.score(sequences), await kept.score(sequences), strict=True):
            assert mine == pytest.approx(theirs, abs=1e-4)
        assert await again.update(batch) == pytest.approx(await kept.update(batch), rel=1e-3, abs=1e-5)
        for name, tensor in kept.policy.weights.tensors().items():
            torch.testing.assert_close(again.policy.weights.tensors()[name].grad, tensor.grad, rtol=1e-3, atol=1e-6)


async def test_a_blocks_activations_are_not_kept(tmp_path: Path) -> None:
    """What autograd holds for the backward pass, in numbers; the first input of each block is all there is of it."""
    groups = made_groups(0, groups=8, length=(6, 7))
    batch = build_batch(groups, [advantages(group.rewards) for group in groups], 64)
    held: dict[bool, int] = {}
    for checkpointing in (False, True):
        trained = learner("phi", tmp_path, gradient_checkpointing=checkpointing)
        saved: dict[int, int] = {}

        def note(tensor: torch.Tensor, saved: dict[int, int] = saved) -> torch.Tensor:
            saved[tensor.data_ptr()] = tensor.numel()
            return tensor

        with cores(1), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            await trained.update(batch)
        held[checkpointing] = sum(saved.values())
    assert held[True] < held[False] / 3


def test_a_model_without_blocks_is_refused() -> None:
    config = GPTNeoXJapaneseConfig(vocab_size=64, hidden_size=32, num_hidden_layers=1, num_attention_heads=4)
    model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(ValueError, match=r"'gpt_neox_japanese' have no blocks .*gradient_checkpointing = false"):
        recompute_blocks(model)
