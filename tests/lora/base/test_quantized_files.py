"""Files that are quantised are read as the weights that their codes stand for, and written plain."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.reference import save_tiny
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, GptOssConfig

from lora.base.load import load_base, load_skeleton
from lora.base.tiny_model import tiny_tokenizer
from lora.config import LoraConfig, ModelConfig
from rl.run.export import export_merged, untrained_adapter

E2M1 = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0])
"""The numbers that the sixteen codes of four bits stand for (OCP Microscaling Formats, 2023)."""
IDS = torch.tensor([[3, 9, 27, 40, 5, 11, 60]])


def rewrite(directory: Path, tensors: dict[str, torch.Tensor], quantization: dict[str, Any]) -> None:
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"quantization_config": quantization}))


def save_mxfp4(directory: Path) -> dict[str, torch.Tensor]:
    """A tiny GPT-OSS with its experts as OpenAI's files have them; the plain weights."""
    config = GptOssConfig(
        vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, sliding_window=4, num_local_experts=4, num_experts_per_tok=2,
    )  # fmt: skip
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(directory)
    stored, plain = dict[str, torch.Tensor](), dict[str, torch.Tensor]()
    for name, tensor in load_file(directory / "model.safetensors").items():
        if not name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            stored[name] = plain[name] = tensor
            continue
        experts, d_in, d_out = tensor.shape
        blocks = torch.randint(0, 256, (experts, d_out, d_in // 32, 16), dtype=torch.uint8)
        scales = torch.randint(120, 126, (experts, d_out, d_in // 32), dtype=torch.uint8)
        stored |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
        values = torch.stack([E2M1[(blocks & 15).long()], E2M1[(blocks >> 4).long()]], -1).flatten(-2)
        values = values * torch.exp2(scales.float() - 127)[..., None]
        plain[name] = values.flatten(-2).transpose(1, 2)
    rewrite(directory, stored, {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn"]})
    return plain


def save_fp8(directory: Path) -> dict[str, torch.Tensor]:
    """A tiny Qwen 3 in blocks of 8 bits; the plain weights."""
    save_tiny("qwen3", directory)
    stored, plain = dict[str, torch.Tensor](), dict[str, torch.Tensor]()
    for name, tensor in load_file(directory / "model.safetensors").items():
        stored[name] = plain[name] = tensor
        if name.endswith("proj.weight"):
            scale = torch.full((1, 1), float(tensor.abs().max()) / 448)
            stored |= {name: (tensor / scale).to(torch.float8_e4m3fn), f"{name}_scale_inv": scale}
            plain[name] = stored[name].float() * scale
    rewrite(directory, stored, {"quant_method": "fp8", "weight_block_size": [128, 128]})
    return plain


@pytest.mark.parametrize("save", [save_mxfp4, save_fp8])
def test_codes_are_read_as_what_they_stand_for(save: Any, tmp_path: Path) -> None:
    plain = save(tmp_path)
    model: Any = load_base(ModelConfig(name=str(tmp_path), dtype="float32", head_dtype="model"))
    tensors = dict(model.named_parameters())
    for name, tensor in tensors.items():
        assert tensor.dtype == torch.float32, name
        torch.testing.assert_close(tensor.detach(), plain[name], rtol=2**-8, atol=0)  # bfloat16 on the way
    config: Any = AutoConfig.from_pretrained(tmp_path)
    del config.quantization_config
    expected: Any = AutoModelForCausalLM.from_config(config).eval()
    expected.load_state_dict({name: tensor.detach() for name, tensor in tensors.items()}, strict=False)
    assert torch.equal(model.eval()(IDS).logits, expected(IDS).logits)


def test_the_merged_model_is_plain_and_answers_the_same(tmp_path: Path) -> None:
    save_fp8(tmp_path / "base")
    base = ModelConfig(name=str(tmp_path / "base"), dtype="float32")
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    export_merged(untrained_adapter(base, LoraConfig()), base, tmp_path / "merged")
    assert "quantization_config" not in json.loads((tmp_path / "merged" / "config.json").read_text())
    merged: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32).eval()
    model: Any = load_base(base).eval()
    torch.testing.assert_close(merged(IDS).logits, model(IDS).logits)


def test_other_methods_are_refused_before_any_weight_is_read(tmp_path: Path) -> None:
    save_tiny("qwen3", tmp_path)
    rewrite(tmp_path, {}, {"quant_method": "awq", "bits": 4})
    for load in (load_base, load_skeleton):
        with pytest.raises(ValueError, match="quantised by 'awq', which is not undone here: give a model in bfloat16"):
            load(ModelConfig(name=str(tmp_path), dtype="float32"))
