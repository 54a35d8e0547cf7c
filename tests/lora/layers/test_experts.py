"""Adapters on a mixture's experts: a fresh one is the base, PEFT computes the same from the same numbers, and policies on
one batch do not meet."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.torch_learner import TorchLearner
from peft import PeftModel
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, MixtralConfig, OlmoeConfig, Qwen2MoeConfig, Qwen3MoeConfig

from lora.accounting import linear_kinds
from lora.base.load import load_base, load_skeleton
from lora.base.tiny_model import tiny_tokenizer
from lora.config import LoraConfig, ModelConfig
from lora.layers.experts import ExpertsLowRank
from lora.peft.description import Description
from lora.peft.files import pack, read_peft, unpack, write_peft
from lora.trainable.inject import eject, inject
from lora.trainable.lora_layers import LoraLayers, routed
from lora.types import Adapter
from rewards.types import Outcome, Problem, Reward
from rl.algorithm.batch.packing import build_batch
from rl.config import LearnerConfig
from rl.run.export import export_merged, lora_config
from rl.types import Group
from rollout.config import SamplingConfig
from rollout.torch.engine import TorchEngine
from rollout.types import Completion

SHAPE: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "initializer_range": 0.2, "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0,
}  # fmt: skip
IDS = torch.randint(3, 60, (3, 9), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> ModelConfig:
    """A tiny random Qwen3-MoE: 6 experts of which 2 are active."""
    path = tmp_path_factory.mktemp("models") / "qwen3-moe"
    torch.manual_seed(0)
    config = Qwen3MoeConfig(
        **SHAPE, head_dim=16, moe_intermediate_size=24, num_experts=6, num_experts_per_tok=2, norm_topk_prob=True
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(str(path))
    tiny_tokenizer().save_pretrained(str(path))
    return ModelConfig(name=str(path), dtype="float32", max_length=64)


def logits(model: nn.Module, ids: Tensor = IDS) -> Tensor:
    with torch.no_grad():
        return model(ids).logits


def moved(layers: LoraLayers, seed: int = 1, size: float = 0.05) -> LoraLayers:
    """The same adapter with B random."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in layers.tensors().items():
            if name.endswith("lora_B"):
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * size)
    return layers


def made_group(prompt: list[int]) -> Group:
    texts = [(9, 4), (10, 11, 12), (13,), (14, 15, 1)]
    completions = [Completion(ids, (-3.0,) * len(ids), "", "stop", 0) for ids in texts]
    return Group(Problem("p", "q", "a"), prompt, completions, [Reward(1.0, Outcome.CORRECT)] * 4)


def adapter_of(layers: LoraLayers, model: ModelConfig, lora: LoraConfig) -> Adapter:
    description = Description(model.name, lora.rank, lora.alpha, lora.targets, layers.expert_rank)
    return Adapter("run", 1, pack(layers.tensors(), description))


def test_a_fresh_adapter_is_the_base_bit_for_bit(mixture: ModelConfig) -> None:
    untouched: Any = load_base(mixture)
    untouched.set_experts_implementation("eager")
    model = load_base(mixture)
    layers = inject(model, LoraConfig(rank=4))
    assert torch.equal(logits(model), logits(untouched))
    with moved(layers).disabled():
        assert torch.equal(logits(model), logits(untouched))
    assert not torch.allclose(logits(model), logits(untouched))


@pytest.mark.parametrize(("rank", "each"), [(1, 1), (2, 1), (8, 4)])
def test_each_expert_has_the_rank_over_the_active_experts(mixture: ModelConfig, rank: int, each: int) -> None:
    lora = LoraConfig(rank=rank)
    layers = inject(load_base(mixture), lora)
    experts = {name: layer for name, layer in layers.items() if isinstance(layer, ExpertsLowRank)}
    assert list(experts) == [f"model.layers.{i}.mlp.experts{part}" for i in range(2) for part in (".base_layer", "")]
    assert {layer.scale for layer in experts.values()} == {32 / each}
    gate_up, down = layers["model.layers.0.mlp.experts.base_layer"], layers["model.layers.0.mlp.experts"]
    assert (gate_up.lora_A.shape, gate_up.lora_B.shape) == ((6 * each, 32), (48, 6 * each))
    assert (down.lora_A.shape, down.lora_B.shape) == ((6 * each, 24), (32, 6 * each))
    counted = sum(kind.trained(rank) for kind in linear_kinds(load_skeleton(mixture), lora))
    assert counted == sum(tensor.numel() for tensor in layers.tensors().values())


def test_a_token_meets_the_active_experts_alone(mixture: ModelConfig) -> None:
    kinds = {kind.name: kind for kind in linear_kinds(load_skeleton(mixture), LoraConfig(rank=2))}
    gate_up = kinds["experts.gate_up_proj"]
    assert gate_up.weights == 2 * 2 * 32 * 48
    assert gate_up.multiply_adds(None) == 3 * gate_up.weights
    assert gate_up.multiply_adds(2) == 2 * gate_up.weights + 3 * 2 * 2 * (32 + 48)


@pytest.mark.parametrize("rank", [1, 4])
def test_peft_computes_the_same_from_what_we_save(mixture: ModelConfig, tmp_path: Path, rank: int) -> None:
    lora = LoraConfig(rank=rank)
    model = load_base(mixture)
    layers = moved(inject(model, lora))
    directory = write_peft(adapter_of(layers, mixture, lora), tmp_path / "adapter")
    theirs: Any = PeftModel.from_pretrained(load_base(mixture), str(directory)).eval()
    torch.testing.assert_close(logits(theirs), logits(model), rtol=1e-4, atol=1e-4)
    loaded = {n for n, _ in theirs.named_parameters() if "lora_" in n}
    assert len(loaded) == len(layers.tensors())
    back = read_peft(directory)
    tensors, description = unpack(back.payload)
    assert description.expert_rank == layers.expert_rank
    assert lora_config(back).rank == rank
    inject(load_base(mixture), lora_config(back)).load(tensors)


def test_gradients_are_those_of_the_merged_weights(mixture: ModelConfig) -> None:
    """d loss / d A of the wrapped experts, against autograd through W + scale B A as PEFT makes it."""
    from peft import LoraConfig as PeftConfig
    from peft import get_peft_model

    model = load_base(mixture)
    layers = moved(inject(model, LoraConfig(rank=4)))
    config = PeftConfig(
        r=4, lora_alpha=32, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
        target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
        rank_pattern={"experts.gate_up_proj": 2, "experts.down_proj": 2},
    )  # fmt: skip
    theirs: Any = get_peft_model(load_base(mixture), config)
    parameters = {
        n.removeprefix("base_model.model.").replace(".default.weight", ""): p
        for n, p in theirs.named_parameters()
        if "lora_" in n
    }
    assert parameters.keys() == layers.tensors().keys()
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(layers.tensors()[name])
    weight = torch.randn(*IDS.shape, 64, generator=torch.Generator().manual_seed(3))
    for one in (model, theirs):
        (one(IDS).logits * weight).mean().backward()
    for name, tensor in layers.tensors().items():
        torch.testing.assert_close(tensor.grad, parameters[name].grad, rtol=1e-3, atol=1e-6)


def test_policies_on_one_batch_do_not_meet(mixture: ModelConfig) -> None:
    model = load_base(mixture)
    one, other = (moved(inject(model, LoraConfig(rank=r), seed=r), seed=r) for r in (2, 8))
    with one.disabled():
        base = logits(model)
    with one.exclusively():
        first = logits(model)
    with other.exclusively():
        second = logits(model)
    length = IDS.shape[1]
    with routed([(one, slice(0, length)), (other, slice(length, 2 * length))], IDS.numel()):
        together = logits(model)
    for row, alone in enumerate((first, second, base)):
        torch.testing.assert_close(together[row], alone[row], rtol=1e-4, atol=1e-5)
    eject(model, other)
    with one.exclusively():
        assert torch.equal(logits(model), first)


async def test_a_learner_trains_experts_and_an_engine_samples_from_them(mixture: ModelConfig, tmp_path: Path) -> None:
    lora = LoraConfig(rank=2)
    learner = TorchLearner("run", mixture, lora, LearnerConfig(lr=1e-2), temperature=1.0, seed=0)
    groups = [made_group([5, 6, 7]), made_group([8, 9])]
    batch = build_batch(groups, [[1.0, 1.0, -1.0, -1.0]] * len(groups), 1024)
    for _ in range(3):
        metrics = await learner.update(batch)
        assert metrics["update/nonfinite"] == 0
    assert all(tensor.abs().sum() > 0 for tensor in learner.policy.weights.tensors().values())
    adapter = await learner.publish()
    sequences = [[*group.prompt, *group.completions[0].token_ids] for group in groups]
    engine = TorchEngine(mixture, lora)
    pairs = zip(await learner.score(sequences), await engine.score(sequences, adapter), strict=True)
    for mine, theirs in pairs:
        assert mine == pytest.approx(theirs, abs=1e-4)
    sampled = await engine.sample(sequences[:1], adapter, SamplingConfig(group_size=2, max_tokens=4), seeds=[0])
    assert len(sampled[0]) == 2
    merged = AutoModelForCausalLM.from_pretrained(export_merged(adapter, mixture, tmp_path / "merged"))
    learner_logits = logits(learner.shared.model)
    torch.testing.assert_close(logits(merged), learner_logits, rtol=1e-3, atol=1e-3)


def test_a_part_of_what_experts_do_is_refused(mixture: ModelConfig) -> None:
    with pytest.raises(ValueError, match="adapted whole"):
        inject(load_base(mixture), LoraConfig(targets=("q_proj", "up_proj")))
    layers = inject(load_base(mixture), LoraConfig(targets=("q_proj", "v_proj")))
    assert layers.expert_rank is None
    assert len(layers) == 4


FAMILIES: dict[str, Any] = {
    "mixtral": lambda: MixtralConfig(**SHAPE, head_dim=16, num_local_experts=4, num_experts_per_tok=2),
    "olmoe": lambda: OlmoeConfig(**SHAPE, num_experts=4, num_experts_per_tok=2),
    "qwen2_moe": lambda: Qwen2MoeConfig(  # with a shared expert, which is dense
        **SHAPE, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24, shared_expert_intermediate_size=24
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_other_mixtures(family: str) -> None:
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(FAMILIES[family]()).eval()
    model.set_experts_implementation("eager")
    before = logits(model)
    layers = inject(model, LoraConfig(rank=2, targets=("q_proj", "gate_proj", "up_proj", "down_proj")))
    assert torch.equal(logits(model), before)
    assert not torch.allclose(moved(layers) and logits(model), before)
