"""Load a base model: whole, or without its weights."""

from typing import Any, Literal

import torch
from torch import nn

from lora.base.architecture import KNOWN, UnsupportedModel, check_positions
from lora.base.dtype import torch_dtype
from lora.base.quantize import check_quantization, quantize
from lora.base.quantized_files import cast_dequantised, check_stored, dequantizing
from lora.base.resolve import resolve_model
from lora.config import ModelConfig
from lora.layers.wide_head import widen_head
from lora.messages import first_line


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
