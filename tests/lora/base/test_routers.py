"""Experts that are given to routers instead of chosen: weighed as the router would weigh them, in every family."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from lora.base.architecture import UnsupportedModel
from lora.base.router_replay import Recording, Replay, Routers, find_routers, routers_of
from rl.learner.model.recompute import recompute_blocks

SHAPE: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "initializer_range": 0.2, "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0,
    "num_experts_per_tok": 2,
}  # fmt: skip
LOCAL: dict[str, Any] = {"num_local_experts": 6}
EXPERTS: dict[str, Any] = {"num_experts": 6, "moe_intermediate_size": 24}
DEEPSEEK: dict[str, Any] = {
    "n_routed_experts": 6, "n_shared_experts": 1, "moe_intermediate_size": 24, "first_k_dense_replace": 1, "n_group": 3,
    "topk_group": 2, "routed_scaling_factor": 2.5,
}  # fmt: skip
LATENT: dict[str, Any] = DEEPSEEK | {
    "num_key_value_heads": 2, "kv_lora_rank": 16, "q_lora_rank": None, "qk_rope_head_dim": 16, "qk_nope_head_dim": 16,
    "v_head_dim": 16,
}  # fmt: skip
IDS = torch.randint(3, 60, (3, 9), generator=torch.Generator().manual_seed(0))


def softmax(logits: Tensor, index: Tensor) -> Tensor:
    return logits.softmax(-1).gather(-1, index)


def share(logits: Tensor, index: Tensor) -> Tensor:
    chosen = logits.exp().gather(-1, index)
    return chosen / chosen.sum(-1, keepdim=True)


def sigmoid_share(logits: Tensor, index: Tensor) -> Tensor:
    chosen = logits.sigmoid().gather(-1, index)
    return 2.5 * chosen / chosen.sum(-1, keepdim=True)


Weighs = Callable[[Tensor, Tensor], Tensor]
FAMILIES: dict[str, tuple[dict[str, Any], Weighs]] = {
    "Qwen2Moe": (EXPERTS | {"norm_topk_prob": False, "shared_expert_intermediate_size": 24}, softmax),
    "Qwen3Moe": (EXPERTS | {"norm_topk_prob": True, "head_dim": 16}, share),
    "Mixtral": (LOCAL, share),
    "Olmoe": ({"num_experts": 6}, softmax),
    "GraniteMoe": (LOCAL, share),
    "GptOss": (LOCAL | {"head_dim": 16}, share),
    "DeepseekV2": (
        LATENT | {"topk_method": "group_limited_greedy"},
        lambda logits, index: 2.5 * softmax(logits, index),
    ),
    "DeepseekV3": (LATENT, sigmoid_share),
    "Glm4Moe": (DEEPSEEK | {"head_dim": 16, "norm_topk_prob": True}, sigmoid_share),
}


def model_of(family: str, **settings: Any) -> Any:
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**SHAPE | settings)
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def others(experts: Tensor, count: int = 6) -> Tensor:
    """Return other experts for every token, still different from each other, in narrow numbers."""
    return ((experts + 1) % count).to(torch.int16)


def everywhere(experts: Tensor) -> Tensor:
    return torch.ones(len(experts), dtype=torch.bool)


@pytest.mark.parametrize("family", FAMILIES)
def test_given_experts_are_weighed_by_the_routers_own_logits(family: str) -> None:
    settings, weigh = FAMILIES[family]
    model = model_of(family, **settings)
    model.set_experts_implementation("eager")
    with torch.no_grad():
        untouched, routers, recording = model(IDS).logits, Routers(model), Recording()
        routers.recognise(model)
        with routers.under(recording):
            assert torch.equal(model(IDS).logits, untouched)
        experts = recording.experts(routers.num_blocks)
        own = Replay(experts.to(torch.int16), everywhere(experts))
        with routers.under(own):
            assert torch.equal(model(IDS).logits, untouched)
        assert own.num_blocks == len(find_routers(model))
        assert own.differing is not None
        assert not own.differing.any()
        with routers.under(Replay(others(experts), everywhere(experts))):
            assert (model(IDS).logits - untouched).abs().max() > 0.1
    block, router = max(find_routers(model).items())
    hidden = torch.randn(27, 32, generator=torch.Generator().manual_seed(1), requires_grad=True)
    with routers.under(Replay(others(experts), everywhere(experts))):
        answer = router(hidden)
    index, weights = (answer[0] if answer[0].dtype == torch.int64 else answer[2]), answer[1]
    expected = weigh(hidden @ router.weight.T + getattr(router, "bias", torch.zeros(())), index)
    assert torch.equal(index, others(experts)[:, block].long())
    torch.testing.assert_close(weights, expected)
    slopes = torch.randn(27, 2, generator=torch.Generator().manual_seed(2))
    gradients = [torch.autograd.grad((w * slopes).sum(), hidden)[0] for w in (weights, expected)]
    assert gradients[1].norm() > 0
    torch.testing.assert_close(*gradients)


def test_positions_without_a_choice_of_the_samplers_follow_the_routers() -> None:
    settings, _ = FAMILIES["Qwen3Moe"]
    model = model_of("Qwen3Moe", **settings)
    routers, recording = routers_of(model), Recording()
    routers.recognise(model)
    with torch.no_grad():
        with routers.under(recording):
            untouched = model(IDS).logits
        given = others(recording.experts(2))
        given[9:] = -1  # the second and the third row's
        with routers.under(replay := Replay(given, everywhere(given))):
            replayed = model(IDS).logits
        with routers.under(compared := Replay(given, None)):
            assert torch.equal(model(IDS).logits, untouched)
    torch.testing.assert_close(replayed[1:], untouched[1:])
    assert (replayed[0] - untouched[0]).abs().max() > 0.1
    for counted in (replay, compared):
        assert counted.differing is not None
        assert counted.differing.tolist()[9:] == [0] * 18
    assert compared.differing is not None
    assert compared.differing.tolist()[:9] == [2] * 9


def test_what_is_computed_again_goes_to_the_same_experts_and_counts_once() -> None:
    settings, _ = FAMILIES["Qwen3Moe"]

    def gradients(*, again: bool) -> tuple[list[Tensor], Tensor]:
        model = model_of("Qwen3Moe", **settings)
        model.set_experts_implementation("eager")
        routers, recording = routers_of(model), Recording()
        routers.recognise(model)
        with torch.no_grad(), routers.under(recording):
            model(IDS)
        if again:
            recompute_blocks(model)
        given = others(recording.experts(2))
        with routers.under(replay := Replay(given, everywhere(given))):
            loss = model(IDS).logits.square().mean()
        loss.backward()
        assert replay.differing is not None
        return [p.grad for p in model.parameters() if p.grad is not None], replay.differing

    (kept, once), (recomputed, again) = gradients(again=False), gradients(again=True)
    assert len(kept) == len(recomputed)
    assert all(torch.equal(*pair) for pair in zip(kept, recomputed, strict=True))
    assert torch.equal(once, again)


@pytest.mark.parametrize(
    ("family", "settings"),
    [("Llama", {}), ("Jamba", {"num_experts": 4}), ("Phimoe", LOCAL), ("Llama4Text", {"num_local_experts": 2})],
)
def test_other_models_are_refused_in_one_line(family: str, settings: dict[str, Any]) -> None:
    model = model_of(family, **settings)

    def recognise() -> None:
        routers_of(model).recognise(model)

    with pytest.raises(UnsupportedModel, match=r"learner\.router_replay.*false") as refusal:
        recognise()
    assert "\n" not in str(refusal.value)


def test_choices_of_another_shape_are_refused() -> None:
    model = model_of("Qwen3Moe", **FAMILIES["Qwen3Moe"][0])
    routers = routers_of(model)
    for shape in [(26, 2, 2), (27, 2, 3), (27, 1, 2)]:
        given = torch.zeros(shape, dtype=torch.int16)
        with routers.under(Replay(given, None)), pytest.raises(ValueError, match="cannot be replayed"):
            model(IDS)
