"""Adapters as vLLM's classes of models name and divide their layers."""

import pytest
import torch

from bench.families.measure import begin, model_config
from bench.families.shapes import FAMILIES, write_model
from lora.peft.files import read_peft, unpack, write_peft
from rollout.vllm.served_names import as_served


def _adapter(name, directory):
    """An adapter of random numbers on every linear layer of a family's tiny model."""
    write_model(next(family for family in FAMILIES if family.name == name), directory)
    _, policy = begin(model_config(directory))
    adapter = policy.publish(torch.float32)
    return adapter, unpack(adapter.payload)[0]


@pytest.mark.parametrize(("family", "model_type"), [("Llama 2 and 3", "llama"), ("GLM", "glm")])
def test_an_adapter_goes_as_it_is_to_a_family_with_the_same_names(family, model_type, tmp_path):
    adapter, _ = _adapter(family, tmp_path)
    assert as_served(adapter, model_type) is adapter


def test_an_adapter_on_experts_that_would_be_left_out_is_refused(tmp_path):
    adapter, _ = _adapter("Mixtral", tmp_path)
    with pytest.raises(ValueError, match="experts of gpt_oss cannot be served"):
        as_served(adapter, "gpt_oss")


def test_mixtrals_experts_have_the_place_that_vllm_keeps_them_in(tmp_path):
    adapter, tensors = _adapter("Mixtral", tmp_path)
    served, description = unpack(as_served(adapter, "mixtral").payload)
    assert description == unpack(adapter.payload)[1]
    names = {name.replace(".mlp.experts", ".block_sparse_moe.experts"): name for name in tensors}
    assert any(name != ours for name, ours in names.items())
    assert set(served) == set(names)
    assert all(torch.equal(served[name], tensors[ours]) for name, ours in names.items())


def test_glm4s_fused_layer_is_divided_into_parts_that_add_the_same(tmp_path):
    adapter, tensors = _adapter("GLM-4", tmp_path)
    sent = as_served(adapter, "glm4")
    served, description = unpack(sent.payload)
    assert {"gate_proj", "up_proj", "o_proj"} <= set(description.targets)
    assert "gate_up_proj" not in description.targets
    fused = [name for name in tensors if name.endswith("gate_up_proj.lora_A")]
    assert fused
    for name in fused:
        added = tensors[name.replace("lora_A", "lora_B")] @ tensors[name]
        parts = [name.replace("gate_up_proj", part) for part in ("gate_proj", "up_proj")]
        divided = torch.cat([served[part.replace("lora_A", "lora_B")] @ served[part] for part in parts])
        assert torch.equal(divided, added)
    assert all(torch.equal(served[name], tensors[name]) for name in tensors if "gate_up_proj" not in name)
    assert not any("gate_up_proj" in name for name in served)
    assert unpack(read_peft(write_peft(sent, tmp_path / "served")).payload)[1].rank == 2
