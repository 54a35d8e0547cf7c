"""Base models whose files are quantised: read as the plain weights that their codes stand for."""

from typing import Any

import torch
from torch import nn

from lora.base.architecture import UnsupportedModel
from lora.messages import shortened

DEQUANTISED = {"mxfp4": "Mxfp4Config", "fp8": "FineGrainedFP8Config"}
"""Methods of quantisation, and the classes of transformers that undo them while files are read."""


def stored_quantization(config: Any) -> str | None:
    """Return the method by which a model's files are quantised; None if they are not."""
    stored: Any = getattr(config, "quantization_config", None)
    if stored is None:
        return None
    return str(stored["quant_method"] if isinstance(stored, dict) else stored.quant_method)


def check_stored(name: str, config: Any) -> None:
    """Raises UnsupportedModel if the files are quantised by a method whose codes are not undone here."""
    method = stored_quantization(config)
    if method is not None and method not in DEQUANTISED:
        raise UnsupportedModel(
            f"the files of model {shortened(name, 200)!r} are quantised by {shortened(method, 40)!r}, which is not "
            "undone here: give a model in bfloat16, and model.quantization keeps it in fewer bits"
        )


def dequantizing(config: Any) -> dict[str, Any]:
    """Return the arguments of `from_pretrained` that undo the quantisation of a model's files, if there is one.

    Left alone, transformers keeps the codes where it has kernels for them, through which no gradient passes.
    """
    import transformers

    method = stored_quantization(config)
    if method is None:
        return {}
    return {"quantization_config": getattr(transformers, DEQUANTISED[method])(dequantize=True)}


def cast_dequantised(model: nn.Module, config: Any, dtype: torch.dtype) -> None:
    """Give weights that were made from codes the model's type: transformers makes them in bfloat16."""
    if stored_quantization(config) is None:
        return
    for parameter in model.parameters():
        if parameter.dtype == torch.bfloat16:
            parameter.data = parameter.data.to(dtype)
