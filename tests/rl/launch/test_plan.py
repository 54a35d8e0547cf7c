"""A plan's figures against what is loaded, counted and known."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.hybrids import save_hybrid

from lora.accounting import LinearKind, linear_kinds, model_parameters, trained_parameters
from lora.base.load import load_skeleton
from lora.config import LoraConfig, ModelConfig
from lora.load import load_adapted
from rl.cli.app import app
from rl.cli.plan_text import plan_lines
from rl.config import CurriculumConfig, LearnerConfig, RunConfig, TeacherConfig
from rl.launch.plan import Plan, plan
from rollout.config import SamplingConfig

EXAMPLES = Path(__file__).parents[3] / "examples"


def planned(**settings: Any) -> Plan:
    lora = LoraConfig(rank=settings.pop("rank", 1), **settings.pop("lora", {}))
    row = settings.pop("longest_row", 400)
    return plan(
        RunConfig(model=ModelConfig(name="smollm2-135m", dtype="bfloat16"), lora=lora, **settings), [60, 70], row
    )


@pytest.mark.parametrize("name", ["tiny-random", "smollm2-135m"])
def test_what_is_planned_is_what_is_loaded(name: str) -> None:
    model, lora = ModelConfig(name=name, dtype="bfloat16"), LoraConfig(rank=2)
    loaded, skeleton = load_adapted(model, lora), load_skeleton(model)
    assert all(parameter.is_meta for parameter in skeleton.parameters()), "no weights"
    assert model_parameters(skeleton) == model_parameters(loaded.model)
    assert sum(kind.trained(2) for kind in linear_kinds(skeleton, lora)) == trained_parameters(loaded.layers)


def test_rank_1_on_all_layers_is_the_number_in_the_paper(tmp_path: Path) -> None:
    """Llama-3.1-8B with its output layer: 2,753,792; SmolLM2-135M without: 305,280."""
    from transformers import LlamaConfig

    LlamaConfig(
        vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=8, tie_word_embeddings=False, architectures=["LlamaForCausalLM"],
    ).save_pretrained(tmp_path)  # fmt: skip
    skeleton = load_skeleton(ModelConfig(name=str(tmp_path)))
    assert sum(kind.trained(1) for kind in linear_kinds(skeleton, LoraConfig(lm_head=True))) == 2_753_792
    assert model_parameters(skeleton) == pytest.approx(8.03e9, rel=1e-3)
    assert planned().trained == 305_280


@pytest.mark.parametrize("rank", [1, 8])
def test_multiply_adds_are_those_of_the_products(rank: int) -> None:
    """Counted by torch on a real layer: the forward and backward pass of a frozen weight and of A and B."""
    from torch.utils.flop_counter import FlopCounterMode

    from lora.layers.linear import LoraLinear, LowRank
    from lora.layers.routing import Route, Routing

    tokens, d_in, d_out = 4, 32, 48
    layer = LoraLinear(torch.nn.Linear(d_in, d_out, bias=False), Routing(Route(((0, None),))))
    layer.slots["0"] = LowRank(layer.base, rank, 32.0)
    given = torch.randn(tokens, d_in, requires_grad=True)  # as another layer's output is

    def addmm(_: Any, a: Any, b: Any, **more: Any) -> int:
        return 2 * a[0] * a[1] * b[1]

    in_place: Any = {torch.ops.aten.addmm_: addmm}  # torch itself counts it only where it makes a new tensor
    with FlopCounterMode(display=False, custom_mapping=in_place) as counter:
        layer(given).sum().backward()
    expected = LinearKind("x", 1, d_in, d_out, adapted=True).multiply_adds(rank)
    assert counter.get_total_flops() == pytest.approx(2 * tokens * expected, rel=0.02)


def test_rounds_epochs_and_passes_without_gradients_are_counted() -> None:
    plain = planned()
    more = planned(learner=LearnerConfig(epochs=3, kl_coef=0.1), curriculum=CurriculumConfig(refill_rounds=2))
    assert more.sampled_tokens == 3 * plain.sampled_tokens
    assert more.sample_flops == 3 * plain.sample_flops
    assert more.update_flops(1) == 3 * plain.update_flops(1)
    assert (more.learned_tokens, more.rollout_bytes) == (plain.learned_tokens, plain.rollout_bytes)
    assert plain.scored_tokens == 0
    assert more.scored_tokens == 4 * plain.learned_tokens, "the base once an epoch, and the old policy once"
    taught = planned(teacher=TeacherConfig(model="smollm2-135m"), learner=LearnerConfig(kl_coef=0.1, kl_in="reward"))
    completions = taught.config.problems_per_step * taught.config.sampling.group_size
    assert taught.scored_tokens == 2 * (plain.sampled_tokens + completions * 65)
    lines = [line for _, line in plan_lines(more)]
    assert any("other passes" in line for line in lines)
    assert any("at most 3 rounds of sampling, and 3 epochs" in line for line in lines)


def test_an_update_takes_two_thirds_of_full_fine_tunings() -> None:
    assert planned().flops_ratio == pytest.approx(2 / 3, abs=0.01)
    assert planned(rank=8).flops_ratio > planned().flops_ratio


def test_memory_is_the_weights_the_adapter_and_what_the_largest_microbatch_keeps() -> None:
    small = planned()
    assert small.weight_bytes == 2 * small.model_parameters
    assert small.full_bytes - small.learner_bytes == pytest.approx(16 * small.model_parameters, rel=0.05)
    assert planned(learner=LearnerConfig(gradient_checkpointing=True)).learner_bytes < small.learner_bytes / 3.9
    assert small.kv_bytes_per_token == 2 * 30 * 3 * 64 * 2, "30 layers, 3 heads of 64 for keys and values, bf16"
    # For each of 30 layers of width 576; the inner width is 2.67 times that, and three query heads share a key head.
    kept = small.learner_bytes - small.weight_bytes - 16 * small.trained
    # In units of the hidden size, a token and layer keeps 4 for adapters, 5.33 for attention and 8 x 2.67 for the MLP,
    # together 30.7; the output layer and passing gradients are an eighth of that here.
    assert kept == pytest.approx(4096 * 30 * 576 * 30.7 * 9 / 8, rel=0.05)
    half = planned(learner=LearnerConfig(tokens_per_microbatch=2048))
    assert half.learner_bytes < small.learner_bytes * 0.6
    longer = planned(longest_row=8192)
    assert longer.memory.tokens == 8192, "a row that is longer than a microbatch is one"
    grown = longer.learner_bytes - small.learner_bytes  # in proportion: no pair of tokens costs anything
    whatever_the_length = small.weight_bytes + small.memory.activations.logits
    assert grown == pytest.approx(small.learner_bytes - whatever_the_length, rel=0.01)


def test_a_hybrids_prompts_are_counted_once_a_completion_and_its_cache_by_its_attention(tmp_path: Path) -> None:
    targets = save_hybrid("qwen3.5", tmp_path)
    sampling = SamplingConfig(group_size=4, max_tokens=8)
    config = RunConfig(
        model=ModelConfig(name=str(tmp_path), dtype="float32"), lora=LoraConfig(targets=targets), sampling=sampling,
        problems_per_step=3,
    )  # fmt: skip
    hybrid = plan(config, [10], longest_row=18)
    assert hybrid.learned_tokens == 3 * 4 * (8 + 10)
    assert hybrid.kv_bytes_per_token == 2 * 1 * 2 * 8 * 4, "of its two layers one attends: 2 heads of 8, float32"
    assert any("once a completion" in said for _, said in plan_lines(hybrid))
    assert planned(sampling=sampling, problems_per_step=3).learned_tokens == 3 * (4 * 8 + 65)


def test_it_says_when_the_rank_is_too_small_or_more_than_is_needed() -> None:
    assert planned(learner=LearnerConfig(lr=5e-4)).warnings() == []
    long = planned(num_steps=10_000, problems_per_step=64, sampling=SamplingConfig(group_size=16))
    assert any("raise lora.rank to 34" in said for said in long.warnings()), long.warnings()
    high = planned(rank=8, learner=LearnerConfig(lr=5e-4))
    assert any("rank 1 is enough" in said for said in high.warnings())
    attention = planned(lora={"targets": ("q_proj", "v_proj")}, learner=LearnerConfig(lr=5e-5))
    said = " ".join(attention.warnings())
    assert "attention alone learns less" in said
    assert "full fine-tuning rate" in said


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        app(["plan", str(EXAMPLES / "addition.toml")])
    said = capsys.readouterr().out
    assert ended.value.code == 0
    assert "305,280 numbers" in said
    assert "low regret" in said
    assert "a microbatch has up to 4,096 tokens, a row up to 249" in said  # 8 x 23 tokens behind a prompt of 65
    assert "with gradient checkpointing the learner needs" in said
    with pytest.raises(SystemExit) as ended:
        app(["plan", str(EXAMPLES / "addition.toml"), "--set", 'lora.targets=["wrong"]'])
    assert (ended.value.code, "names 'wrong'" in capsys.readouterr().err) == (2, True)
