"""Models of known shapes with random weights, which is all that speed needs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a Qwen3 model."""

    hidden: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    vocabulary: int
    tied: bool


SHAPES = {
    "tiny": Shape(64, 128, 2, 4, 2, 32, 512, True),
    "qwen3-0.6b": Shape(1024, 3072, 28, 16, 8, 128, 151_936, True),
    "qwen3-8b": Shape(4096, 12_288, 36, 32, 8, 128, 151_936, False),
}
POSITIONS = 40_960


def write_model(shape: Shape, directory: Path, device: str) -> Path:
    """Write a model of that shape, in bfloat16, and a tokenizer of as many words; return the directory."""
    from transformers import AutoModelForCausalLM

    with torch.device(device):
        model: Any = AutoModelForCausalLM.from_config(write_outline(shape, directory), dtype=torch.bfloat16)
    model.save_pretrained(str(directory), max_shard_size="4GB")
    return directory


def write_outline(shape: Shape, directory: Path) -> Any:
    """Write what there is besides the weights, which is all that an engine with dummy weights needs; return the config."""
    from transformers import Qwen3Config

    config: Any = Qwen3Config(
        vocab_size=shape.vocabulary, hidden_size=shape.hidden, intermediate_size=shape.inner,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_width, max_position_embeddings=POSITIONS, tie_word_embeddings=shape.tied,
        bos_token_id=None, eos_token_id=1, pad_token_id=0, architectures=["Qwen3ForCausalLM"], dtype="bfloat16",
    )  # fmt: skip
    config.save_pretrained(str(directory))
    _tokenizer(shape.vocabulary).save_pretrained(str(directory))
    return config


def _tokenizer(vocabulary: int) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {word: i for i, word in enumerate(["<pad>", "<eos>", "<unk>", *(f"w{i}" for i in range(3, vocabulary))])}
    core: Any = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
        chat_template="{% for message in messages %}{{ message['content'] }} {% endfor %}",
    )
