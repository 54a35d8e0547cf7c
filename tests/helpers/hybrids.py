"""Tiny random models of families whose layers carry more along a row than attention over visible pairs does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    BambaConfig,
    FalconH1Config,
    FalconMambaConfig,
    GptOssConfig,
    GraniteMoeHybridConfig,
    JambaConfig,
    KimiLinearConfig,
    Lfm2Config,
    Llama4TextConfig,
    Mamba2Config,
    MiniMaxConfig,
    NemotronHConfig,
    OlmoHybridConfig,
    Qwen3_5TextConfig,
    Qwen3NextConfig,
    RecurrentGemmaConfig,
    RwkvConfig,
    Zamba2Config,
)

from lora.base.tiny_model import tiny_tokenizer

SHAPE: dict[str, Any] = {
    "vocab_size": len(tiny_tokenizer()), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.2, "max_position_embeddings": 128,
    "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 1,
}  # fmt: skip
LINEAR: dict[str, Any] = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8
}  # fmt: skip
MAMBA: dict[str, Any] = {
    "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_chunk_size": 8
}  # fmt: skip
EXPERTS: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
KINDS = ["linear_attention", "full_attention"]
QKV = ("q_proj", "k_proj", "v_proj", "o_proj")

HYBRIDS: dict[str, tuple[Callable[[], Any], tuple[str, ...]]] = {
    "qwen3.5": (
        lambda: Qwen3_5TextConfig(**SHAPE, **LINEAR, head_dim=8, layer_types=KINDS),
        (*QKV, "in_proj_qkv", "out_proj", "gate_proj"),
    ),
    "qwen3-next": (
        lambda: Qwen3NextConfig(
            **SHAPE, **LINEAR, **EXPERTS, head_dim=8, layer_types=KINDS, shared_expert_intermediate_size=16
        ),
        (*QKV, "in_proj_qkvz", "out_proj"),
    ),
    "minimax": (
        lambda: MiniMaxConfig(
            **SHAPE, head_dim=8, layer_types=KINDS, block_size=4, num_local_experts=4, num_experts_per_tok=2
        ),
        (*QKV, "qkv_proj", "out_proj"),
    ),
    "bamba": (lambda: BambaConfig(**SHAPE, **MAMBA, attn_layer_indices=[1]), (*QKV, "in_proj", "out_proj")),
    "jamba": (
        lambda: JambaConfig(
            **SHAPE, mamba_d_state=8, mamba_dt_rank=4, attn_layer_period=2, attn_layer_offset=1, num_experts=2
        ),
        (*QKV, "in_proj", "out_proj"),
    ),
    "falcon-h1": (
        lambda: FalconH1Config(**SHAPE, **MAMBA, mamba_d_ssm=64, head_dim=8, lm_head_multiplier=0.5),
        (*QKV, "in_proj", "out_proj", "gate_proj"),
    ),
    "lfm2": (
        lambda: Lfm2Config(**SHAPE, layer_types=["conv", "full_attention"], block_multiple_of=8),
        ("q_proj", "in_proj", "out_proj", "w1"),
    ),
    "granite-hybrid": (
        lambda: GraniteMoeHybridConfig(
            **SHAPE, **MAMBA, layer_types=KINDS, num_local_experts=2, num_experts_per_tok=1,
            shared_intermediate_size=48, logits_scaling=2.0,
        ),
        (*QKV, "in_proj", "out_proj"),
    ),
    "nemotron-h": (
        lambda: NemotronHConfig(
            **{name: value for name, value in SHAPE.items() if name != "num_hidden_layers"},
            layers_block_type=KINDS, head_dim=8, mamba_num_heads=4, mamba_head_dim=16, ssm_state_size=8, n_groups=1,
            chunk_size=8, rescale_prenorm_residual=False,
        ),
        (*QKV, "in_proj", "out_proj"),
    ),
    "olmo-hybrid": (
        lambda: OlmoHybridConfig(
            **SHAPE, linear_num_heads=2, linear_key_head_dim=8, linear_value_head_dim=8, layer_types=KINDS
        ),
        (*QKV, "gate_proj"),
    ),
    "kimi-linear": (
        lambda: KimiLinearConfig(
            **SHAPE | {"num_key_value_heads": 4}, layer_types=KINDS, kv_lora_rank=8, qk_rope_head_dim=4,
            qk_nope_head_dim=4, v_head_dim=8, linear_num_heads=2, linear_head_dim=8, num_local_experts=4,
            num_experts_per_tok=2, moe_intermediate_size=16,
        ),
        ("q_proj", "o_proj"),
    ),
    "recurrent-gemma": (
        lambda: RecurrentGemmaConfig(**SHAPE | {"num_hidden_layers": 3}, lru_width=32, attention_window_size=8, head_dim=8),
        ("q_proj", "linear_x", "linear_out", "up_proj"),
    ),
    "zamba2": (
        lambda: Zamba2Config(
            **SHAPE | {"num_hidden_layers": 3, "num_key_value_heads": 4, "initializer_range": 0.05},
            layers_block_type=["linear_attention", "hybrid", "hybrid"], mamba_d_state=8, n_mamba_heads=4, chunk_size=8,
        ),
        ("q_proj", "in_proj"),
    ),
    "mamba2": (
        lambda: Mamba2Config(
            **{name: SHAPE[name] for name in ("vocab_size", "hidden_size", "num_hidden_layers", "eos_token_id")},
            num_heads=4, head_dim=16, state_size=8, n_groups=1, chunk_size=8, initializer_range=0.2, pad_token_id=0,
        ),
        ("in_proj", "out_proj"),
    ),
    "falcon-mamba": (
        lambda: FalconMambaConfig(
            **{name: SHAPE[name] for name in ("vocab_size", "hidden_size", "num_hidden_layers", "eos_token_id")},
            state_size=8, initializer_range=0.2, pad_token_id=0,
        ),
        ("in_proj", "out_proj"),
    ),
    "rwkv": (
        lambda: RwkvConfig(
            **{name: SHAPE[name] for name in ("vocab_size", "hidden_size", "num_hidden_layers", "eos_token_id")}
        ),
        ("key", "receptance"),
    ),
    "llama4-chunks": (
        lambda: Llama4TextConfig(
            **SHAPE, head_dim=8, attention_chunk_size=4, num_local_experts=2, intermediate_size_mlp=48,
            layer_types=["chunked_attention", "full_attention"],
        ),
        QKV,
    ),
    "gpt-oss-sinks": (
        lambda: GptOssConfig(
            **SHAPE, head_dim=8, sliding_window=4, num_local_experts=4,
            layer_types=["sliding_attention", "full_attention"],
        ),
        QKV,
    ),
}  # fmt: skip
"""By family: its configuration, and targets for adapters in its layers of every kind."""


def save_hybrid(family: str, directory: Path) -> tuple[str, ...]:
    """A tiny random model and its tokenizer, as a directory; its targets."""
    make, targets = HYBRIDS[family]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(make()).save_pretrained(str(directory))
    tiny_tokenizer().save_pretrained(str(directory))
    return targets
