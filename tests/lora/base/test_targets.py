"""The layers that "all-linear" stands for: each of them learns, and none is adapted that must not be."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.hybrids import HYBRIDS, save_hybrid
from helpers.reference import FAMILIES, MIXTURES
from peft import PeftModel
from pydantic import ValidationError
from torch import nn
from transformers import AutoModelForCausalLM

from lora.base.linear_names import NOT_MEANT, NOT_MEANT_IN, ROUTERS, all_linear
from lora.base.load import load_base
from lora.base.targets import resolve_lora, resolve_targets
from lora.config import ALL_LINEAR, LoraConfig, ModelConfig
from lora.layers.experts import PROJECTIONS
from lora.peft.description import Description
from lora.peft.files import pack, write_peft
from lora.trainable.inject import inject
from lora.types import Adapter

IDS = torch.randint(3, 44, (2, 24), generator=torch.Generator().manual_seed(0))
EVERY = LoraConfig(rank=2, targets=(ALL_LINEAR,))


def tiny(config: Any) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()


def skeleton(config: Any) -> Any:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def test_a_text_is_the_same_as_a_list_of_it() -> None:
    assert LoraConfig.model_validate({"targets": "all-linear"}).targets == (ALL_LINEAR,)
    assert LoraConfig.model_validate({"targets": ["all-linear"]}).targets == (ALL_LINEAR,)
    with pytest.raises(ValidationError, match="not both"):
        LoraConfig(targets=(ALL_LINEAR, "q_proj"))


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "mistral-sliding", "gemma2-sliding-softcap"])
def test_on_the_families_of_the_default_it_is_the_default(family: str) -> None:
    assert resolve_targets(skeleton(FAMILIES[family]()), LoraConfig(targets=(ALL_LINEAR,))) == LoraConfig()


@pytest.mark.parametrize("family", FAMILIES | MIXTURES)
def test_every_layer_of_it_learns_from_the_first_step_on(family: str) -> None:
    model = tiny((FAMILIES | MIXTURES)[family]())
    for name, parameter in model.named_parameters():
        if name.endswith("correct_output_scale"):  # Gemma 3n's, which is 0 before the first step of pretraining
            nn.init.ones_(parameter)
    layers = inject(model, resolve_targets(model, EVERY))
    model(input_ids=IDS, use_cache=False).logits.log_softmax(-1)[0, :-1].gather(1, IDS[0, 1:, None]).sum().backward()
    moved = {name: tensor.grad is not None and bool(tensor.grad.any()) for name, tensor in layers.tensors().items()}
    assert [name for name, has_moved in moved.items() if name.endswith("lora_B") and not has_moved] == []


@pytest.mark.parametrize("family", HYBRIDS)
def test_what_must_not_be_adapted_is_left_out(family: str) -> None:
    make, by_hand = HYBRIDS[family]
    config = make()
    names = all_linear(skeleton(config))
    not_meant = NOT_MEANT | NOT_MEANT_IN.get(config.model_type, frozenset())
    assert set(by_hand) - not_meant <= set(names)
    assert not {*names} & (ROUTERS | not_meant)
    assert not any(name.isdecimal() for name in names), "PEFT would take it for a block's"


def test_a_name_that_a_router_has_too_is_left_out() -> None:
    model = skeleton(FAMILIES["llama"]())
    model.model.layers[0].mlp.router = nn.ModuleDict({"up_proj": nn.Linear(32, 4, device="meta")})
    assert {*LoraConfig().targets} - {*all_linear(model)} == {"up_proj"}


@pytest.mark.parametrize("targets", [(ALL_LINEAR,), LoraConfig().targets], ids=["all-linear", "names"])
def test_names_can_be_excluded(targets: tuple[str, ...]) -> None:
    model = skeleton(FAMILIES["llama"]())
    resolved = resolve_targets(model, LoraConfig(targets=targets, exclude=PROJECTIONS))
    assert (resolved.targets, resolved.exclude) == (("q_proj", "k_proj", "v_proj", "o_proj"), ())
    assert resolve_targets(model, resolved) == resolved
    for exclude, complaint in {
        ("q_proj", "w9"): "lora.exclude names w9, and the layers that would be adapted are: q_proj, k_proj, ",
        LoraConfig().targets: "names every layer",
    }.items():
        with pytest.raises(ValueError, match=complaint) as caught:
            resolve_targets(model, LoraConfig(targets=targets, exclude=exclude))
        assert "\n" not in str(caught.value)


def test_a_model_is_not_looked_at_where_nothing_depends_on_it() -> None:
    assert resolve_lora(ModelConfig(name="/nowhere"), LoraConfig(rank=3)) == LoraConfig(rank=3)


@pytest.mark.parametrize("family", ["gpt-oss-sinks", "llama4-chunks"])
def test_experts_that_are_not_known_are_refused_with_the_setting_that_leaves_them_out(
    family: str, tmp_path: Path
) -> None:
    save_hybrid(family, tmp_path)
    model = ModelConfig(name=str(tmp_path), dtype="float32")
    with pytest.raises(ValueError, match="in a way that is not known") as caught:
        inject(load_base(model), resolve_lora(model, EVERY))
    setting = str(caught.value).rpartition("; set ")[2]
    assert setting == 'lora.exclude = ["gate_proj", "up_proj", "down_proj"]'
    resolved = resolve_lora(model, LoraConfig(targets=(ALL_LINEAR,), exclude=PROJECTIONS))
    assert {"q_proj", "k_proj", "v_proj", "o_proj"} <= set(resolved.targets)
    assert len(inject(load_base(model), resolved)) >= 8


@pytest.mark.parametrize("family", ["qwen3.5", "bamba", "lfm2", "falcon-h1", "olmo-hybrid", "zamba2"])
def test_peft_computes_the_same_from_what_is_saved(family: str, tmp_path: Path) -> None:
    save_hybrid(family, tmp_path / "model")
    config = ModelConfig(name=str(tmp_path / "model"), dtype="float32")
    lora = resolve_lora(config, EVERY)
    model: Any = load_base(config).eval()
    layers = inject(model, lora)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in layers.values():
            layer.lora_B.copy_(torch.randn(layer.lora_B.shape, generator=generator) * 0.02)
        payload = pack(layers.tensors(), Description(config.name, lora.rank, lora.alpha, lora.targets))
        write_peft(Adapter("run", 1, payload), tmp_path / "adapter")
        peft_model: Any = PeftModel.from_pretrained(load_base(config).eval(), str(tmp_path / "adapter"))
        assert len([name for name, _ in peft_model.named_parameters() if "lora_" in name]) == len(layers.tensors())
        logits = model(input_ids=IDS, use_cache=False).logits
        torch.testing.assert_close(peft_model(input_ids=IDS, use_cache=False).logits, logits, rtol=1e-4, atol=1e-4)
        with layers.disabled():
            assert not torch.allclose(logits, model(input_ids=IDS, use_cache=False).logits, atol=1e-3)
