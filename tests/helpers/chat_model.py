"""A tiny random model whose tokenizer has the tokens of Qwen's chats and calls of tools, a token a character else."""

import json
import string
from pathlib import Path
from typing import Any

import pytest

from lora.base import tiny_model

SPECIAL = (
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<think>", "</think>",
    "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>",
)  # fmt: skip
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build(directory: Path, *, max_length: int = 1024) -> None:
    """Write the model to `directory`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_model, "tiny_tokenizer", chat_tokenizer)
        tiny_model.build(directory)
    path = directory / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"max_position_embeddings": max_length}))


def chat_tokenizer() -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = [letter for letter in string.printable if letter.isprintable() or letter == "\n"]
    vocabulary = {token: i for i, token in enumerate(["<unk>", *letters])}
    core: Any = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    core.decoder = decoders.Fuse()
    tokenizer: Any = PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token="<unk>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL),
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer
