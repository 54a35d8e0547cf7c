"""Facts from a model's class and configuration, and models that are refused in one line because of them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    JambaConfig,
    Llama4TextConfig,
    LlamaConfig,
    ModernBertDecoderConfig,
    Phi3Config,
    Qwen2_5_VLConfig,
    ReformerConfig,
    RobertaConfig,
    SiglipVisionConfig,
)

from lora.accounting import linear_kinds, trained_parameters
from lora.base.architecture import UnsupportedModel, check_positions, language_model
from lora.base.load import load_base, load_skeleton
from lora.config import LoraConfig, ModelConfig
from lora.policy_switch import PolicySwitcher
from lora.trainable.inject import inject
from rl.config import LearnerConfig
from rl.learner.bases.shared_model import SharedModel
from rl.learner.policies.policy import PolicySpec

SHAPE: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "initializer_range": 0.2, "bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0,
}  # fmt: skip
DYNAMIC = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10_000.0}
LONG = {
    "rope_type": "longrope", "original_max_position_embeddings": 16, "rope_theta": 10_000.0, "short_factor": [1.0] * 4,
    "long_factor": [4.0] * 4,
}  # fmt: skip
STRETCHING = {
    "dynamic": lambda: LlamaConfig(**SHAPE, max_position_embeddings=16, rope_parameters=DYNAMIC),
    "longrope": lambda: Phi3Config(
        **SHAPE, max_position_embeddings=64, original_max_position_embeddings=16, rope_parameters=LONG
    ),
}


def save(config: Any, directory: Path) -> ModelConfig:
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(str(directory))
    return ModelConfig(name=str(directory), dtype="float32", max_length=16)


# --- positions ---


@pytest.mark.parametrize("rope", STRETCHING)
def test_positions_that_stretch_with_the_longest_row_are_refused_where_they_would(rope: str, tmp_path: Path) -> None:
    config = STRETCHING[rope]()
    model = save(config, tmp_path)
    ids = torch.randint(3, 60, (2, 40), generator=torch.Generator().manual_seed(0))

    def logprobs(length: int, beside: int) -> torch.Tensor:
        """Return the logprobs of one sequence in a batch with a longer one, whose positions go on to `beside`."""
        loaded: Any = load_base(model).eval()
        positions = torch.stack(
            [torch.arange(length).clamp(max=length - 1), torch.linspace(0, beside - 1, length).long()]
        )
        with torch.no_grad():
            return loaded(ids[:, :length], position_ids=positions).logits[0].log_softmax(-1)

    assert torch.equal(logprobs(12, 12), logprobs(12, 16))
    assert (logprobs(12, 12) - logprobs(12, 40)).abs().max() > 0.01, "the defect that this is about"
    for load in (load_base, load_skeleton):
        load(model)
        with pytest.raises(UnsupportedModel, match=rf"{rope} RoPE.*set model.max_length to at most 16$"):
            load(model.model_copy(update={"max_length": 17}))


def test_other_positions_may_be_as_long_as_they_like(tmp_path: Path) -> None:
    yarn = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4, "original_max_position_embeddings": 16}
    check_positions(LlamaConfig(**SHAPE, rope_parameters=yarn), 10_000)
    check_positions(Gemma3TextConfig(**SHAPE), 10_000)


def test_stretching_positions_of_one_kind_of_layer_are_refused_too() -> None:
    kinds = {"sliding_attention": {"rope_type": "default", "rope_theta": 1e4}, "full_attention": DYNAMIC}
    config = Gemma3TextConfig(**SHAPE, max_position_embeddings=16, rope_parameters=kinds)
    with pytest.raises(UnsupportedModel, match="at most 16"):
        check_positions(config, 17)


# --- models that see ---


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> ModelConfig:
    """A tiny Gemma 3 with a vision tower, whose attention has projections of the language model's names."""
    vision = SiglipVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
    )
    config = Gemma3Config(
        text_config=Gemma3TextConfig(**SHAPE, head_dim=8).to_dict(), vision_config=vision.to_dict(),
        mm_tokens_per_image=4, boi_token_index=60, eoi_token_index=61, image_token_index=62,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("models") / "gemma3"
    model = save(config, path)
    assert isinstance(load_base(model), Gemma3ForConditionalGeneration)
    return model


def test_no_adapter_lands_on_a_vision_tower(seeing: ModelConfig) -> None:
    base: Any = load_base(seeing)
    seen = {name for name, module in base.named_modules() if isinstance(module, nn.Linear) and "vision" in name}
    assert any(name.endswith("q_proj") for name in seen)
    layers = inject(base, LoraConfig(lm_head=True))
    assert {name.rpartition("layers.")[0] for name in layers} == {"model.language_model.", ""}
    assert not seen & layers.keys()
    assert len(layers) == 2 * 7 + 1
    skeleton = load_skeleton(seeing)
    assert sum(kind.trained(1) for kind in linear_kinds(skeleton, LoraConfig(lm_head=True))) == trained_parameters(
        layers
    )


def test_a_target_that_only_a_vision_tower_has_is_refused(seeing: ModelConfig) -> None:
    lora = LoraConfig(targets=("q_proj", "fc1"))
    with pytest.raises(ValueError, match="names fc1, but the model's linear layers are: down_proj, gate_proj"):
        inject(load_base(seeing), lora)
    with pytest.raises(ValueError, match="names 'fc1'"):
        linear_kinds(load_skeleton(seeing), lora)


def test_a_model_that_sees_is_trained_on_text(seeing: ModelConfig) -> None:
    shared = SharedModel(seeing)
    assert shared.packs
    policy = shared.add(PolicySpec("run", LoraConfig(), LearnerConfig(), temperature=1.0, seed=0))
    (scores,) = shared.score([[5, 6, 7, 8]], policy)
    plain: Any = load_base(seeing).eval()
    with torch.no_grad():
        expected = plain(torch.tensor([[5, 6, 7, 8]])).logits[0, :-1].log_softmax(-1)
    assert scores == pytest.approx(expected.gather(1, torch.tensor([[6], [7], [8]]))[:, 0].tolist(), abs=1e-5)


# --- what cannot be trained ---

UNSUPPORTED: dict[str, Any] = {
    "an encoder": lambda: BertConfig(**SHAPE, is_decoder=False),
    "an output layer of several": lambda: RobertaConfig(**SHAPE, is_decoder=True),
}


@pytest.mark.parametrize("what", UNSUPPORTED)
def test_a_family_that_would_be_trained_wrongly_is_refused_in_one_line(what: str, tmp_path: Path) -> None:
    model = save(UNSUPPORTED[what](), tmp_path)
    with pytest.raises(UnsupportedModel, match=r"docs/models\.md") as caught:
        SharedModel(model)
    assert "\n" not in str(caught.value)


def test_a_model_that_is_no_causal_language_model_to_transformers_is_refused_in_one_line(tmp_path: Path) -> None:
    Qwen2_5_VLConfig().save_pretrained(str(tmp_path))
    for load in (load_base, load_skeleton):
        with pytest.raises(UnsupportedModel, match="of type 'qwen2_5_vl', which is no causal language model") as caught:
            load(ModelConfig(name=str(tmp_path)))
        assert "\n" not in str(caught.value)


def test_what_a_familys_own_code_raises_comes_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = save(LlamaConfig(**SHAPE), tmp_path)

    def broken(*_: object, **__: object) -> None:
        raise AttributeError("no such thing\nand a second line")

    monkeypatch.setattr("transformers.models.llama.modeling_llama.LlamaMLP.forward", broken)
    with pytest.raises(UnsupportedModel, match=r"'llama' .* AttributeError: no such thing; docs") as caught:
        SharedModel(model)
    assert "\n" not in str(caught.value)


def test_a_layer_that_is_never_called_is_refused_with_its_name_and_the_other_policies_go_on(tmp_path: Path) -> None:
    """Jamba multiplies by the weight of `dt_proj`."""
    config = JambaConfig(
        **SHAPE, mamba_d_state=4, mamba_dt_rank=4, attn_layer_period=2, attn_layer_offset=1, num_experts=1
    )
    model = save(config, tmp_path)
    shared = SharedModel(model)
    wrong, right = LoraConfig(targets=("in_proj", "dt_proj")), LoraConfig(targets=("in_proj", "x_proj"))

    before = shared.add(PolicySpec("one", right, LearnerConfig(), temperature=1.0, seed=0))
    scores = shared.score([[5, 6, 7, 8]], before)
    with pytest.raises(ValueError, match=r"names 'dt_proj'.* take it out of lora\.targets"):
        shared.add(PolicySpec("two", wrong, LearnerConfig(), temperature=1.0, seed=0))
    assert shared.score([[5, 6, 7, 8]], before) == scores
    with pytest.raises(ValueError, match="names 'dt_proj'"):
        PolicySwitcher(load_base(model).eval(), wrong)


def test_a_layer_that_only_looks_linear_is_refused_with_its_name() -> None:
    class Grouped(nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return super().forward(input.round())

    model: Any = AutoModelForCausalLM.from_config(LlamaConfig(**SHAPE))
    model.model.layers[1].mlp.down_proj = Grouped(48, 32, bias=False)
    for find in (linear_kinds, inject):
        with pytest.raises(ValueError, match="names 'down_proj', and Grouped computes in a way"):
            find(model, LoraConfig())
        assert find(model, LoraConfig(targets=("q_proj", "up_proj")))


def test_a_family_that_passes_no_gradient_on_is_refused_in_one_line(tmp_path: Path) -> None:
    """Reformer's layers are reversible, and make gradients of weights in a way of their own."""
    config = ReformerConfig(
        vocab_size=64, hidden_size=32, feed_forward_size=48, num_attention_heads=2, attention_head_size=16,
        is_decoder=True, axial_pos_embds=False, attn_layers=["local"], eos_token_id=1,
    )  # fmt: skip
    shared = SharedModel(save(config, tmp_path))
    with pytest.raises(UnsupportedModel, match="'reformer' pass no gradient on") as caught:
        shared.add(PolicySpec("run", LoraConfig(targets=("query",)), LearnerConfig(), temperature=1.0, seed=0))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(**SHAPE),
        Llama4TextConfig(**SHAPE, head_dim=8, num_local_experts=2, intermediate_size_mlp=48),
        ModernBertDecoderConfig(**{n: v for n, v in SHAPE.items() if n != "num_key_value_heads"}),
    ],
    ids=lambda config: config.model_type,
)  # fmt: skip
def test_the_part_that_reads_tokens_makes_hidden_states(config: Any) -> None:
    """transformers' own `get_decoder` returns the whole of the second, and the output layer of the third."""
    model: Any = AutoModelForCausalLM.from_config(config)
    assert language_model(model)(input_ids=torch.tensor([[1, 2]])).last_hidden_state.shape == (1, 2, 32)
