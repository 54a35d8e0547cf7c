"""The type of a base model's weights where the configuration leaves it open."""

import pytest
import torch

from lora.base import dtype
from lora.base.dtype import emulates_bfloat16, fastest_dtype, torch_dtype
from lora.config import ModelConfig

AVX2, AVX512, ARM = {"avx2": True, "avx512_bf16": False}, {"avx512_f": True, "avx512_bf16": True}, {"bf16": True}


@pytest.mark.parametrize(
    ("processor", "expected"), [(AVX2, "float32"), (AVX512, "bfloat16"), ({"amx_bf16": True}, "bfloat16"), (ARM, "bfloat16"), ({}, "float32")]
)  # fmt: skip
def test_a_processor_computes_in_what_it_multiplies(
    processor: dict[str, bool], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: processor)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert fastest_dtype() == expected
    assert torch_dtype(ModelConfig()) is getattr(torch, expected)
    assert emulates_bfloat16(torch.bfloat16, "cpu") == (expected == "float32")
    assert not emulates_bfloat16(torch.bfloat16, "cuda")
    assert not emulates_bfloat16(torch.float32, "cpu")


def test_a_gpu_computes_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dtype, "multiplies_bfloat16", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert fastest_dtype() == "bfloat16"
    assert fastest_dtype(gpu=False) == "float32"


def test_what_is_said_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: AVX2)
    assert torch_dtype(ModelConfig(dtype="bfloat16")) is torch.bfloat16
    assert torch_dtype(ModelConfig(dtype="float32")) is torch.float32


def test_the_processor_is_asked() -> None:
    assert isinstance(dtype.multiplies_bfloat16(), bool)
    assert "architecture" in torch.cpu.get_capabilities()
