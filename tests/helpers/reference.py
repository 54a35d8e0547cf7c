"""The learner's mathematics done the slow and obvious way: one completion at a time, all logits at once."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma2Config,
    Gemma3nTextConfig,
    Gemma3TextConfig,
    GraniteConfig,
    GraniteSWAConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Qwen2Config,
    Qwen2MoeConfig,
    Qwen3Config,
)

from rl.types import Group

SHAPE: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "initializer_range": 0.2,
}
KINDS = ["full_attention", "sliding_attention", "sliding_attention"]
FAMILIES: dict[str, Any] = {
    "llama": lambda: LlamaConfig(**SHAPE),
    "qwen2": lambda: Qwen2Config(**SHAPE),
    "qwen2-sliding": lambda: Qwen2Config(
        **SHAPE, use_sliding_window=True, sliding_window=4, max_window_layers=1, layer_types=KINDS
    ),
    "qwen3": lambda: Qwen3Config(**SHAPE),
    "mistral-sliding": lambda: MistralConfig(**SHAPE, sliding_window=4),
    "gemma2-sliding-softcap": lambda: Gemma2Config(**SHAPE, sliding_window=4, final_logit_softcapping=3.0),
    "cohere-scaled-logits": lambda: CohereConfig(
        **{name: value for name, value in SHAPE.items() if name != "head_dim"}, logit_scale=0.3
    ),
    "granite-scaled-logits": lambda: GraniteConfig(
        **{name: value for name, value in SHAPE.items() if name != "head_dim"}, logits_scaling=4.0
    ),
    "granite-sliding-sinks": lambda: GraniteSWAConfig(**SHAPE, sliding_window=4, layer_types=KINDS),
    "gemma3-sliding": lambda: Gemma3TextConfig(**SHAPE, sliding_window=4, layer_types=KINDS),
    "gemma3n-zero-padding": lambda: Gemma3nTextConfig(  # its padding token's embedding is 0, where norms have no slope
        **SHAPE,
        sliding_window=4,
        layer_types=KINDS,
        pad_token_id=0,
        vocab_size_per_layer_input=64,
        laurel_rank=4,
        hidden_size_per_layer_input=8,
        num_kv_shared_layers=0,
        activation_sparsity_pattern=[0.0] * 3,
    ),
}
EXPERTS: dict[str, Any] = {"num_experts_per_tok": 2, "norm_topk_prob": True}
MIXTURES: dict[str, Any] = {
    "mixtral": lambda: MixtralConfig(**SHAPE, num_local_experts=4, num_experts_per_tok=2),
    "qwen2-moe": lambda: Qwen2MoeConfig(  # its shared expert is a dense one that sees flattened tokens
        **SHAPE | EXPERTS, num_experts=4, moe_intermediate_size=24, shared_expert_intermediate_size=24
    ),
}


def save_tiny(family: str, directory: Path) -> None:
    """A tiny random model of a family, as a directory."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config((FAMILIES | MIXTURES)[family]())
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if name.endswith(".sinks"):  # all zero at first
                tensor.normal_()
    model.save_pretrained(str(directory))


def logprobs(model: Any, prompt: list[int], completion: tuple[int, ...], temperature: float = 1.0) -> Tensor:
    """Return the logprobs of a completion's tokens behind a prompt."""
    ids = torch.tensor([[*prompt, *completion]])
    logits = model(ids, use_cache=False).logits[0, len(prompt) - 1 : -1].float() / temperature
    return logits.log_softmax(-1).gather(1, torch.tensor(completion)[:, None])[:, 0]


def surrogate(
    model: Any, groups: list[Group], advantages_P_G: list[list[float]], *, temperature: float, max_ratio: float
) -> Tensor:
    """Truncated importance sampling: sum of -min(p / q, C) A log p's gradient, over the step's tokens."""
    total, tokens = torch.zeros(()), 0
    for group, advantages in zip(groups, advantages_P_G, strict=True):
        for completion, advantage in zip(group.completions, advantages, strict=True):
            policy = logprobs(model, group.prompt, completion.token_ids, temperature)
            ratio = (policy.detach() - torch.tensor(completion.logprobs)).exp()
            total = total - (ratio.clamp(max=max_ratio) * advantage * policy).sum()
            tokens += len(completion.token_ids)
    return total / tokens
