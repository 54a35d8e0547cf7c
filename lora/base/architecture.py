"""The way a model reads a row, as its class and configuration tell before any weight is read."""

import inspect
from collections.abc import Collection, Generator
from contextlib import contextmanager
from typing import Any, TypeGuard

import torch
from torch import nn

from lora.layers.quantized import QuantizedLinear
from lora.layers.wide_head import WideHead
from lora.messages import first_line

KNOWN = "docs/models.md lists families that can be trained, such as Llama, Qwen, Gemma, Mistral, OLMo, Phi and Granite"

PAIRWISE = {"full_attention", "sliding_attention"}
"""Kinds of layers in which a position takes something from another only where a mask says that it sees it."""


class UnsupportedModel(ValueError):
    """A model of a family that is not known well enough, or set up in a way that is not."""


@contextmanager
def in_one_line(kind: str) -> Generator[None]:
    """Turn whatever a family's own code raises inside the block into one line.

    Raises:
        UnsupportedModel: something was raised, and not for want of memory.
    """
    try:
        yield
    except (UnsupportedModel, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise UnsupportedModel(
            f"models of type {kind!r} cannot be trained here: {type(error).__name__}: {first_line(error)}; {KNOWN}"
        ) from error


def check_positions(config: Any, max_length: int) -> None:
    """Refuse lengths at which a token's position depends on the other rows of its batch.

    Dynamic-NTK RoPE stretches with the longest row, and LongRoPE takes other factors from some length on. Up to the
    length that the model was trained at first, both stand still.

    Raises:
        UnsupportedModel: sequences may become longer than that.
    """
    text = config.get_text_config()
    given: dict[str, Any] = getattr(text, "rope_parameters", None) or {}
    for rope in [given, *(kind for kind in given.values() if isinstance(kind, dict))]:
        name: str = rope.get("rope_type") or "default"
        if name == "longrope":
            limit = rope.get("original_max_position_embeddings") or text.max_position_embeddings
        elif "dynamic" in name:
            limit = text.max_position_embeddings
        else:
            continue
        if max_length > limit:
            raise UnsupportedModel(
                f"model.max_length = {max_length}: this model's positions ({name} RoPE) depend on the longest row of a "
                f"batch beyond {limit} tokens, so logprobs would, too; set model.max_length to at most {limit}"
            )


def language_model(model: nn.Module) -> nn.Module:
    """Return the part of a causal language model that makes hidden states of tokens: no output layer, no vision tower.

    Raises:
        UnsupportedModel: there is no such part.
    """
    from transformers import PreTrainedModel

    causal_lm: Any = model
    for part in (causal_lm.get_decoder(), causal_lm.base_model, getattr(causal_lm, "model", None)):
        if isinstance(part, PreTrainedModel) and part is not model:
            return part
    raise UnsupportedModel(
        f"models of type {causal_lm.config.model_type!r} have no part that is known to read tokens; {KNOWN}"
    )


def reads_text(model: nn.Module) -> set[nn.Module]:
    """Return the modules that text goes through: the language model's and the output layer, and no vision tower's."""
    causal_lm: Any = model
    return {*language_model(model).modules(), *(causal_lm.get_output_embeddings() or nn.Identity()).modules()}


def is_linear(module: nn.Module) -> TypeGuard[nn.Linear]:
    """True if the module computes y = W x + b. Subclasses may quantise, or multiply group by group."""
    known = nn.Linear.forward, WideHead.forward, QuantizedLinear.forward
    return isinstance(module, nn.Linear) and type(module).forward in known


def check_linears(model: nn.Module, targets: Collection[str]) -> None:
    """Raises ValueError if a target names a layer that only looks linear: an adapter would replace what it does."""
    text_modules = reads_text(model)
    for name, module in model.named_modules():
        leaf = name.rpartition(".")[2]
        if leaf in targets and isinstance(module, nn.Linear) and not is_linear(module) and module in text_modules:
            raise ValueError(
                f"lora.targets names {leaf!r}, and {type(module).__name__} computes in a way that is not known; "
                "take it out of lora.targets, or name it in lora.exclude"
            )


def attends_only(model: nn.Module) -> bool:
    """True if attention over visible pairs is all that passes between positions, in every layer.

    Recurrent layers, linear attention and convolutions carry what no mask sees, and chunks and compressed keys count
    positions by their place in the row. What is not known counts as one of these.
    """
    whole: Any = model
    part: Any = language_model(model)
    kinds: set[str] = set(getattr(whole.config.get_text_config(), "layer_types", None) or ())
    return (
        kinds <= PAIRWISE
        and bool(part._supports_attention_backend and (part._supports_sdpa or _has_sinks(part)))
        and not (part._is_stateful or whole._is_stateful)
        and not any(isinstance(module, nn.Conv1d) for module in part.modules())
        and "position_ids" in inspect.signature(part.forward).parameters
    )


def _has_sinks(part: Any) -> bool:
    """True if attention has a sink a head, which torch's own attention lacks, and the learner's has."""
    return bool(part._supports_flex_attn) and any(name.endswith(".sinks") for name, _ in part.named_parameters())
