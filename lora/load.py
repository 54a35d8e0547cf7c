"""Load a base model with a fresh adapter on it."""

import contextlib
import os
from dataclasses import dataclass
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import nn

from lora.architecture import KNOWN, UnsupportedModel, check_positions
from lora.base_model import resolve_model
from lora.config import LoraConfig, ModelConfig
from lora.description import Description
from lora.dtype import torch_dtype
from lora.inject import LoraLayers, inject
from lora.messages import first_line
from lora.quantize import check_quantization, quantize
from lora.quantized_files import cast_dequantised, check_stored, dequantizing
from lora.wide_head import widen_head

UNLOADABLE = (OSError, ValueError, SafetensorError)
"""Errors that transformers raises, often in many lines, for files that are missing, of an unknown type, or damaged."""


@dataclass(frozen=True, slots=True)
class AdaptedModel:
    """A frozen base model and the adapter on it."""

    model: nn.Module
    layers: LoraLayers
    description: Description


def load_adapted(model: ModelConfig, lora: LoraConfig, *, device: str = "cpu", seed: int = 0) -> AdaptedModel:
    """Return the model in `model.dtype`, in evaluation mode, with an adapter whose A is drawn from `seed`.

    Raises:
        ValueError: there is no such model, or it lacks a target layer.
    """
    return adapt(load_base(model, device), model, lora, seed=seed)


def adapt(base: nn.Module, model: ModelConfig, lora: LoraConfig, *, seed: int = 0) -> AdaptedModel:
    """Return a loaded base with a fresh adapter. Raises ValueError if it lacks a target layer."""
    layers = inject(base, lora, seed=seed)
    targets = lora.all_targets
    description = Description(model.name, lora.rank, lora.alpha, targets, layers.expert_rank)
    return AdaptedModel(base.eval(), layers, description)


def load_base(model: ModelConfig, device: str = "cpu") -> nn.Module:
    """Return the base model alone, read onto a device tensor by tensor: the host never holds all of it for a GPU.

    What is to be quantised is read onto the host, and goes to the device in codes.

    Raises:
        ValueError: it cannot be had; in one line.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    config = _read_config(model)
    logging.disable_progress_bar()  # a run has a display of its own
    # torch's own attention has no soft cap, and leaves it out without a word.
    capped = getattr(config.get_text_config(), "attn_logit_softcapping", None) is not None
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            resolve_model(model.name),
            dtype=torch_dtype(model),
            attn_implementation="eager" if capped else None,
            **dequantizing(config),
            device_map=None if device == "cpu" or model.quantization else {"": device},
            output_loading_info=True,
        )
    except Exception as error:  # it is the family's own code that fails, in any way
        raise ValueError(f"could not load model {model.name!r}: {first_line(error)}") from error
    whole, about = loaded
    if missing := sorted(about["missing_keys"]):  # transformers makes them up, at random
        raise ValueError(
            f"the files of model {model.name!r} lack {len(missing)} of its weights, such as {missing[0]}; get them anew"
        )
    cast_dequantised(whole, config, torch_dtype(model))
    if model.head_dtype == "float32":
        widen_head(whole)
    if model.quantization is not None:
        quantize(whole, model.quantization, device)
    return whole.to(device)


def check_base(model: ModelConfig) -> None:
    """Refuse a base that `load_base` could not quantise, before any weight is read; the configuration alone is.

    Raises:
        ValueError: it is such a one, a library is missing, or there is no such model.
    """
    if model.quantization is not None:
        check_quantization(load_skeleton(model), model.quantization)


def load_skeleton(model: ModelConfig) -> nn.Module:
    """The model without its weights, on torch's meta device: names, shapes and `config`, from the configuration alone.

    Raises:
        ValueError: there is no such model.
    """
    from transformers import AutoModelForCausalLM

    config = _read_config(model)
    try:
        with torch.device("meta"):
            skeleton: Any = AutoModelForCausalLM.from_config(config)
    except Exception as error:  # as above
        raise ValueError(f"could not read the configuration of model {model.name!r}: {first_line(error)}") from error
    skeleton.tie_weights()
    return skeleton


def files_dtype(name: str) -> Literal["bfloat16", "float32"]:
    """Return the type that holds the weights of a model's files. Raises ValueError if there is no such model."""
    config = _read_config(ModelConfig(name=name, max_length=8))
    return "float32" if config.get_text_config().dtype == torch.float32 else "bfloat16"


def _read_config(model: ModelConfig) -> Any:
    """The model's configuration. Raises ValueError if there is none, or no causal language model has such a one."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, __version__

    path = resolve_model(model.name)
    try:
        config: Any = AutoConfig.from_pretrained(path)
    except Exception as error:  # configurations check themselves, in their own ways
        raise ValueError(f"could not read the configuration of model {model.name!r}: {first_line(error)}") from error
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise UnsupportedModel(
            f"{model.name!r} is a model of type {config.model_type!r}, which is no causal language model to "
            f"transformers {__version__}; {KNOWN}"
        )
    check_positions(config, model.max_length)
    check_stored(model.name, config)
    return config


def load_tokenizer(model: ModelConfig) -> Any:
    """Return the model's tokenizer. Raises ValueError, in one line, if it cannot be had."""
    from transformers import AutoTokenizer

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    path = resolve_model(model.name)
    try:
        return AutoTokenizer.from_pretrained(path)
    except Exception as error:  # as above: a file may lack any key
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
