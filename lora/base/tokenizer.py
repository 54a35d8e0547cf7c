"""A base model's tokenizer, and the tokens that end what the model writes."""

import contextlib
import os
from typing import Any

from safetensors import SafetensorError

from lora.base.resolve import resolve_model
from lora.config import ModelConfig
from lora.messages import first_line

UNLOADABLE = (OSError, ValueError, SafetensorError)
"""Errors that transformers raises, often in many lines, for files that are missing, of an unknown type, or damaged."""


def load_tokenizer(model: ModelConfig) -> Any:
    """Return the model's tokenizer. Raises ValueError, in one line, if it cannot be had."""
    from transformers import AutoTokenizer

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    path = resolve_model(model.name)
    try:
        return AutoTokenizer.from_pretrained(path)
    except Exception as error:  # a file may lack any key
        raise ValueError(f"could not load the tokenizer of model {model.name!r}: {first_line(error)}") from error


def load_end_tokens(model: ModelConfig, tokenizer: Any) -> set[int]:
    """Return the tokens at which engines end a completion: the tokenizer's, the generation settings', the model's own.

    Raises:
        ValueError: there is no such model.
    """
    from transformers import AutoConfig, GenerationConfig

    path = resolve_model(model.name)
    ends: list[Any] = [tokenizer.eos_token_id]
    try:
        config: Any = AutoConfig.from_pretrained(path)
        ends.append(config.get_text_config().eos_token_id)
    except UNLOADABLE as error:
        raise ValueError(f"could not read the configuration of model {model.name!r}: {first_line(error)}") from error
    with contextlib.suppress(*UNLOADABLE):  # many models have no such file
        ends.append(GenerationConfig.from_pretrained(path).eos_token_id)
    return token_set(*ends)


def token_set(*ids: int | list[int] | None) -> set[int]:
    """Return the tokens of several settings, each of which may be one id, several, or None."""
    return {token for part in ids for token in (part if isinstance(part, list) else [part]) if token is not None}
