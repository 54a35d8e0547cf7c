"""Tiny random models of the families that people fine-tune, with heads of 32 dimensions, the fewest of vLLM's CPU build."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora.base.tiny_model import tiny_tokenizer

SHAPE: dict[str, Any] = {
    "vocab_size": len(tiny_tokenizer()), "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "initializer_range": 0.1, "max_position_embeddings": 512,
    "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0,
}  # fmt: skip
HEAD: dict[str, Any] = {"head_dim": 32}
SLIDING: dict[str, Any] = {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}
HYBRID: dict[str, Any] = {"layer_types": ["linear_attention", "full_attention"]}
DELTA: dict[str, Any] = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 32, "linear_value_head_dim": 32
}  # fmt: skip
MAMBA: dict[str, Any] = {
    "mamba_n_heads": 4, "mamba_d_head": 32, "mamba_d_state": 16, "mamba_n_groups": 1, "mamba_chunk_size": 8
}  # fmt: skip
BLOCK: dict[str, Any] = {"block_dim": 64, "block_ff_dim": 64, "conv_dim": 64}
"""Names that the files of LFM2 have for `SHAPE`'s sizes, and vLLM reads."""
ACTIVE: dict[str, Any] = {"num_experts_per_tok": 2}
EXPERTS: dict[str, Any] = {**ACTIVE, "num_experts": 4, "moe_intermediate_size": 32, "norm_topk_prob": True}
SHARED: dict[str, Any] = {"shared_expert_intermediate_size": 32}
LATENT: dict[str, Any] = {
    **ACTIVE, "num_key_value_heads": 2, "kv_lora_rank": 512, "q_lora_rank": None, "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 16, "v_head_dim": 32, "n_routed_experts": 4, "n_shared_experts": 1,
    "moe_intermediate_size": 32, "first_k_dense_replace": 1,
}  # fmt: skip
"""512 + 64 is the one size of latent keys that vLLM's CPU build has."""


@dataclass(frozen=True, slots=True)
class Family:
    """A family by its name in the table, its class of configuration, and what that takes besides `SHAPE`."""

    name: str
    config: str
    settings: Callable[[], dict[str, Any]] = dict


FAMILIES = (
    Family("Llama 2 and 3", "LlamaConfig"),
    Family("Qwen2 and 2.5", "Qwen2Config"),
    Family("Qwen3", "Qwen3Config", lambda: HEAD),
    Family("Mistral", "MistralConfig", lambda: HEAD | {"sliding_window": 4}),
    Family("Gemma", "GemmaConfig", lambda: HEAD),
    Family("Gemma 2", "Gemma2Config", lambda: HEAD | SLIDING | {"final_logit_softcapping": 3.0}),
    Family("Gemma 3", "Gemma3TextConfig", lambda: HEAD | SLIDING),
    Family("Phi-3 and 4", "Phi3Config"),
    Family("OLMo 2", "Olmo2Config"),
    Family("OLMo 3", "Olmo3Config", lambda: SLIDING),
    Family("Granite 3", "GraniteConfig", lambda: {"logits_scaling": 4.0, "residual_multiplier": 0.5}),
    Family("Cohere 2", "Cohere2Config", lambda: HEAD | SLIDING | {"logit_scale": 0.3}),
    Family("GLM", "GlmConfig", lambda: HEAD),
    Family("GLM-4", "Glm4Config", lambda: HEAD),
    Family("SmolLM3", "SmolLM3Config"),
    Family("Qwen2-MoE", "Qwen2MoeConfig", lambda: EXPERTS | SHARED),
    Family("Qwen3-MoE", "Qwen3MoeConfig", lambda: HEAD | EXPERTS),
    Family("Mixtral", "MixtralConfig", lambda: ACTIVE | {"num_local_experts": 4}),
    Family("OLMoE", "OlmoeConfig", lambda: ACTIVE | {"num_experts": 4}),
    Family("Granite-MoE", "GraniteMoeConfig", lambda: ACTIVE | {"num_local_experts": 4}),
    Family("DeepSeek-V2", "DeepseekV2Config", lambda: LATENT | {"n_group": 1, "topk_group": 1}),
    Family("DeepSeek-V3", "DeepseekV3Config", lambda: LATENT | {"n_group": 2, "topk_group": 1, "topk_method": "noaux_tc"}),
    Family("Granite SWA", "GraniteSWAConfig", lambda: HEAD | SLIDING),
    Family("GPT-OSS", "GptOssConfig", lambda: HEAD | SLIDING | ACTIVE | {"num_local_experts": 4}),
    Family(
        "Llama 4 (text)", "Llama4TextConfig",
        lambda: HEAD | {
            "attention_chunk_size": 32, "layer_types": ["chunked_attention", "full_attention"], "num_local_experts": 2,
            "intermediate_size_mlp": 64,
        },
    ),
    Family("Qwen3.5", "Qwen3_5TextConfig", lambda: HEAD | HYBRID | DELTA),
    Family("Qwen3-Next", "Qwen3NextConfig", lambda: HEAD | HYBRID | DELTA | EXPERTS | SHARED),
    Family("LFM2", "Lfm2Config", lambda: {"layer_types": ["conv", "full_attention"], "block_multiple_of": 8} | BLOCK),
    Family("Bamba", "BambaConfig", lambda: MAMBA | {"attn_layer_indices": [1]}),
    Family(
        "Granite 4 (hybrid)", "GraniteMoeHybridConfig",
        lambda: MAMBA | HYBRID | ACTIVE | {
            "num_local_experts": 4, "shared_intermediate_size": 64, "logits_scaling": 2.0
        },
    ),
    Family("Falcon-H1", "FalconH1Config", lambda: HEAD | MAMBA | {"mamba_d_ssm": 128}),
    Family(
        "Nemotron-H", "NemotronHConfig",
        lambda: HEAD | {
            "layers_block_type": HYBRID["layer_types"], "mamba_num_heads": 4, "mamba_head_dim": 32,
            "ssm_state_size": 16, "n_groups": 1, "chunk_size": 8, "rescale_prenorm_residual": False,
        },
    ),
)  # fmt: skip


def write_model(family: Family, directory: Path) -> None:
    """Write a random model and its tokenizer; the weights are the same every time."""
    import torch
    import transformers

    settings = SHAPE | family.settings()
    if "layers_block_type" in settings:
        del settings["num_hidden_layers"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = getattr(transformers, family.config)(**settings)
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(str(directory))
    tiny_tokenizer().save_pretrained(str(directory))
