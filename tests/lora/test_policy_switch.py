"""One model that computes as any policy: adapters of several shapes, and all weights."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lora.base.load import load_base
from lora.config import LoraConfig, ModelConfig
from lora.load import load_adapted
from lora.peft.description import Description
from lora.peft.files import pack, read_peft, unpack, write_peft
from lora.policy_switch import PolicySwitcher
from lora.types import Adapter

IDS = torch.tensor([[5, 6, 7, 8]])


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        return model(IDS).logits


def whole(model: ModelConfig, seed: int) -> Adapter:
    """Return all weights, each moved a little."""
    torch.manual_seed(seed)
    base: Any = load_base(model)
    moved = {name: weight + 0.1 * torch.randn_like(weight) for name, weight in base.named_parameters()}
    return Adapter("whole", seed, pack(moved, Description(model.name, 0, 0.0, ())))


def test_whole_weights_and_adapters_take_turns(tiny_model: ModelConfig, make_adapter: Callable[..., Adapter]) -> None:
    base: Any = load_base(tiny_model).eval()
    plain = logits(base)
    served = PolicySwitcher(base, LoraConfig())
    adapter = make_adapter(tiny_model, LoraConfig(rank=2))
    alone = load_adapted(tiny_model, LoraConfig(rank=2))
    alone.layers.load(unpack(adapter.payload)[0])
    for policy in (adapter, whole(tiny_model, 1), whole(tiny_model, 2), adapter):
        with served.policy(policy):
            got = logits(base)
        if policy is adapter:
            assert torch.equal(got, logits(alone.model))
        else:
            expected: Any = load_base(tiny_model).eval()
            with torch.no_grad():
                for name, weight in expected.named_parameters():
                    weight.copy_(unpack(policy.payload)[0][name])
            assert torch.equal(got, logits(expected))
        assert not torch.equal(got, plain)


def test_weights_of_another_model_are_refused(tiny_model: ModelConfig) -> None:
    served = PolicySwitcher(load_base(tiny_model), LoraConfig())
    strange = Adapter("r", 0, pack({"x": torch.zeros(1)}, Description("other", 0, 0.0, ())))
    with pytest.raises(ValueError, match="do not have the same names"), served.policy(strange):
        pass


def test_an_adapter_that_is_refused_leaves_nothing_behind(
    tiny_model: ModelConfig, make_adapter: Callable[..., Adapter]
) -> None:
    """Half of one would be in the place of the adapter that was served before it, under that one's name."""
    base: Any = load_base(tiny_model).eval()
    served, adapter = PolicySwitcher(base, LoraConfig()), make_adapter(tiny_model, LoraConfig())
    with served.policy(adapter):
        before = logits(base)
    tensors, description = unpack(make_adapter(tiny_model, LoraConfig(), seed=7).payload)
    last = list(tensors)[-1]
    strange = Adapter("r", 1, pack(tensors | {last: tensors[last][:-1]}, description))
    with pytest.raises(ValueError, match="has shape"), served.policy(strange):
        pass
    with served.policy(adapter):
        assert torch.equal(logits(base), before)


def test_an_adapter_of_a_layer_that_is_not_called_is_refused_each_time(
    tiny_model: ModelConfig, monkeypatch: pytest.MonkeyPatch, make_adapter: Callable[..., Adapter]
) -> None:
    base: Any = load_base(tiny_model).eval()
    served, adapter = PolicySwitcher(base, LoraConfig()), make_adapter(tiny_model, LoraConfig(targets=("up_proj",)))
    mlp = base.model.layers[0].mlp
    for layer in base.model.layers:  # as families do whose kernels take weights
        monkeypatch.setattr(layer.mlp, "forward", lambda x: x @ mlp.up_proj.weight.T @ mlp.down_proj.base.weight.T)
    for _ in range(2):
        with pytest.raises(ValueError, match="'up_proj'"), served.policy(adapter):
            pass


def test_whole_weights_are_written_and_read_back(tiny_model: ModelConfig, tmp_path: Any) -> None:
    policy = whole(tiny_model, 3)
    write_peft(policy, tmp_path / "last")
    assert [file.name for file in (tmp_path / "last").iterdir()] == ["policy.safetensors"]
    assert read_peft(tmp_path / "last", run="whole", version=3) == policy
    place = (tmp_path / "last").stat().st_ino
    write_peft(whole(tiny_model, 4), tmp_path / "last")
    assert (tmp_path / "last").stat().st_ino == place, "a kill in between leaves one or the other"
    assert read_peft(tmp_path / "last", run="whole", version=4) == whole(tiny_model, 4)
