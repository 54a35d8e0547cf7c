"""TinyLoRA is PEFT's, is served as the LoRA that it expands to, and is refused where it would not be."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.fakes import made_groups
from helpers.reference import save_tiny, surrogate
from peft import TinyLoraConfig, get_peft_model
from pydantic import ValidationError
from transformers import AutoModelForCausalLM

from lora.accounting import linear_kinds, trained_numbers
from lora.base.load import load_skeleton
from lora.base.targets import resolve_lora
from lora.base.tiny_model import tiny_tokenizer
from lora.config import LoraConfig, ModelConfig
from lora.peft.files import unpack
from lora.trainable.tiny import TinyLayers, num_vectors, singular_factors, vector_of
from rl.algorithm.advantage.estimators import advantages
from rl.algorithm.batch.packing import build_batch
from rl.config import LearnerConfig, RunConfig
from rl.learner.bases.shared_model import SharedModel
from rl.learner.passes.policy_loss import PolicyBatch
from rl.learner.policies.policy import Policy, PolicySpec
from rl.types import TrainBatch
from rollout.torch.engine import TorchEngine

GROUPS = made_groups(3, groups=2, size=4)
SEQUENCES = [[5, 6, 7, 8, 9, 10], [20, 21, 22, 23]]
SETTINGS = LearnerConfig(lr=1e-2, max_grad_norm=None)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelConfig:
    directory = tmp_path_factory.mktemp("models") / "llama"
    save_tiny("llama", directory)
    tiny_tokenizer().save_pretrained(str(directory))
    return ModelConfig(name=str(directory), dtype="float32", max_length=64)


def tiny(**settings: Any) -> LoraConfig:
    given: dict[str, Any] = {"rank": 2, "u": 5, "weight_tying": 0.6, **settings}
    return LoraConfig(kind="tiny", **given)


def spec(run: str, lora: LoraConfig, seed: int = 0) -> PolicySpec:
    return PolicySpec(run, lora, SETTINGS, temperature=0.7, seed=seed)


def batch(seed: int = 3) -> TrainBatch:
    groups = made_groups(seed, groups=2, size=4)
    return build_batch(groups, [advantages(group.rewards) for group in groups], 1024)


def moved(shared: SharedModel, lora: LoraConfig, seed: int = 0) -> Policy:
    """A policy that was trained for a step already."""
    policy = shared.add(spec(f"run{seed}", lora, seed))
    shared.update([PolicyBatch(policy, batch())])
    return policy


def in_peft(model: ModelConfig, policy: Policy) -> Any:
    """PEFT's TinyLoRA with the policy's numbers. A pair of singular vectors may have the other sign there."""
    lora, layers = policy.spec.lora, policy.weights
    assert isinstance(layers, TinyLayers)
    base = AutoModelForCausalLM.from_pretrained(model.name, dtype=torch.float32, attn_implementation="eager")
    config = TinyLoraConfig(r=lora.rank, u=lora.u, weight_tying=lora.weight_tying, target_modules=list(lora.targets))
    theirs: Any = get_peft_model(base, config).eval()
    fixed, vectors = layers.fixed(), layers.tensors()["vectors"]
    with torch.no_grad():
        for name in layers:
            layer = theirs.base_model.model.get_submodule(name)
            A, U = layer.tinylora_A["default"], layer.tinylora_B["default"]
            signs = (A * fixed[f"{name}.A"]).sum(1).sign()
            torch.testing.assert_close(fixed[f"{name}.A"], signs[:, None] * A, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(fixed[f"{name}.U"], signs * U, rtol=1e-4, atol=1e-5)
            P = layer.tinylora_P["default"]
            assert P.shape == fixed[f"{name}.P"].shape
            P.copy_(fixed[f"{name}.P"] * signs[:, None] * signs)
        for i, vector in enumerate(vectors):
            theirs.base_model.tinylora_v["default"][str(i)].copy_(vector)
    assert len(theirs.base_model.tinylora_v["default"]) == len(vectors)
    return theirs


@pytest.mark.parametrize("settings", [{}, {"rank": 1, "weight_tying": 1.0}, {"weight_tying": 0.0, "u": 2}])
def test_logprobs_and_gradients_are_pefts(model: ModelConfig, settings: dict[str, Any]) -> None:
    shared = SharedModel(model)
    policy = moved(shared, tiny(**settings))
    theirs = in_peft(model, policy)
    scores = theirs(torch.tensor([SEQUENCES[0]])).logits.log_softmax(-1)[0, :-1]
    expected = scores.gather(1, torch.tensor(SEQUENCES[0])[1:, None])[:, 0]
    assert shared.score(SEQUENCES[:1], policy)[0] == pytest.approx(expected.tolist(), abs=1e-5)
    assert shared.score(SEQUENCES[:1], policy, "base")[0] != pytest.approx(expected.tolist(), abs=1e-3)
    shared.forward_backward([PolicyBatch(policy, batch())])
    loss = surrogate(theirs, GROUPS, [advantages(g.rewards) for g in GROUPS], temperature=0.7, max_ratio=2.0)
    loss.backward()
    mine = policy.weights.tensors()["vectors"].grad
    assert mine is not None
    vectors = theirs.base_model.tinylora_v["default"]
    wanted = torch.stack([vectors[str(i)].grad for i in range(len(vectors))])
    assert (mine - wanted).norm() <= 1e-4 * wanted.norm()
    assert wanted.abs().min() > 0


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4), (1, 5)])
def test_the_factors_are_those_of_the_nearest_matrix_of_their_rank(shape: tuple[int, int]) -> None:
    W = torch.randn(*shape, generator=torch.Generator().manual_seed(1))
    A, U = singular_factors(W, 2)
    sigma = torch.linalg.svdvals(W)
    assert (W - U @ A).norm().item() == pytest.approx(sigma[2:].norm().item(), abs=1e-5)
    torch.testing.assert_close(A.norm(dim=1), U.norm(dim=0))
    turned = singular_factors(-W, 2)
    torch.testing.assert_close(turned[0], A)
    torch.testing.assert_close(turned[1], -U)


def test_a_weight_of_zeros_has_factors_of_zeros() -> None:
    A, U = singular_factors(torch.zeros(3, 4), 2)
    assert not A.any()
    assert not U.any()


def test_layers_share_vectors_as_pefts_do() -> None:
    """By its formula (TinyLoraModel._create_and_replace)."""
    for layers in (1, 2, 7, 21):
        for tying in (0.0, 0.3, 0.5, 0.9, 1.0):
            count = max(1, round(layers * (1 - tying)))
            expected = [min(i // max(1, layers // count), count - 1) for i in range(layers)]
            assert [vector_of(i, layers, tying) for i in range(layers)] == expected
            assert num_vectors(layers, tying) == count


async def test_engines_serve_the_lora_that_it_expands_to(model: ModelConfig) -> None:
    shared = SharedModel(model)
    policies = [moved(shared, tiny(), 1), moved(shared, LoraConfig(rank=1), 2), moved(shared, tiny(rank=1), 3)]
    engine = TorchEngine(model, LoraConfig(rank=2))
    for policy in policies:
        adapter = policy.publish(torch.float32)
        tensors, description = unpack(adapter.payload)
        assert all(name.endswith(("lora_A", "lora_B")) for name in tensors)
        assert description.rank == policy.spec.lora.rank
        for mine, theirs in zip(shared.score(SEQUENCES, policy), await engine.score(SEQUENCES, adapter), strict=True):
            assert theirs == pytest.approx(mine, abs=1e-5)
    scores = [shared.score(SEQUENCES, policy) for policy in policies]
    assert shared.score(SEQUENCES, policies[0], policies[0].publish(torch.float32)) == scores[0]
    assert [shared.score(SEQUENCES, policy) for policy in policies] == scores, "a score leaves all as it was"


def test_a_fresh_one_is_the_base_and_policies_together_learn_as_each_alone(model: ModelConfig) -> None:
    specs = [spec("a", tiny(), 1), spec("b", LoraConfig(rank=1), 2), spec("c", tiny(u=3, weight_tying=1.0), 3)]
    together = SharedModel(model)
    policies = [together.add(each) for each in specs]
    assert together.score(SEQUENCES, policies[0]) == together.score(SEQUENCES, policies[0], "base")
    for step in range(2):
        together.update([PolicyBatch(policy, batch(10 * i + step)) for i, policy in enumerate(policies)])
    for i, each in enumerate(specs):
        alone = SharedModel(model)
        policy = alone.add(each)
        for step in range(2):
            alone.update([PolicyBatch(policy, batch(10 * i + step))])
        for name, tensor in policy.weights.published().items():
            torch.testing.assert_close(policies[i].weights.published()[name], tensor, rtol=1e-4, atol=1e-6)


def test_a_state_goes_on_to_the_bit_even_where_other_factors_are_found(model: ModelConfig) -> None:
    """As a resumed run does, on another machine too."""
    shared = SharedModel(model)
    policy = moved(shared, tiny())
    again = SharedModel(model)
    resumed = again.add(spec("run0", tiny(), seed=99))  # another seed has other P
    resumed.load_state(policy.state())
    for each, other in ((shared, policy), (again, resumed)):
        each.update([PolicyBatch(other, batch(4))])
    assert resumed.publish(torch.float32) == policy.publish(torch.float32)
    assert resumed.state() == policy.state()
    with pytest.raises(ValueError, match="has shape"):
        again.add(spec("other", tiny(u=4))).load_state(policy.state())


def test_a_quantised_base_is_taken_as_its_codes_have_it(model: ModelConfig) -> None:
    shared = SharedModel(model.model_copy(update={"quantization": "int8"}))
    policy = moved(shared, tiny())
    name = "model.layers.0.mlp.up_proj"
    base: Any = shared.model.get_submodule(name)
    A, _ = singular_factors(base.base.dequantised(), 2)
    torch.testing.assert_close(policy.weights.fixed()[f"{name}.A"], A)


@pytest.mark.parametrize("settings", [{"weight_tying": 1.0, "u": 13}, {"weight_tying": 0.4}, {"weight_tying": 0.0}])
def test_the_plan_counts_what_is_trained(model: ModelConfig, settings: dict[str, Any]) -> None:
    policy = SharedModel(model).add(spec("run", tiny(**settings)))
    planned = trained_numbers(linear_kinds(load_skeleton(model), policy.spec.lora), policy.spec.lora)
    assert planned == sum(tensor.numel() for tensor in policy.parameters)
    assert settings.get("u") != 13 or planned == 13


def test_experts_are_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    save_tiny("mixtral", tmp_path)
    model = ModelConfig(name=str(tmp_path), dtype="float32")
    with pytest.raises(ValueError, match=r'tiny" is not known for experts: set lora\.exclude'):
        resolve_lora(model, tiny())
    with pytest.raises(ValueError, match="not known for experts"):
        SharedModel(model).add(spec("run", tiny()))
    attention = resolve_lora(model, tiny(exclude=("gate_proj", "up_proj", "down_proj")))
    assert attention == tiny(targets=("q_proj", "k_proj", "v_proj", "o_proj"))


@pytest.mark.parametrize(
    ("learner", "message"),
    [
        ({"shard": True, "num_learners": 2}, "set learner.shard = false"),
        ({"weights": "full"}, "leave one out"),
    ],
)
def test_a_learner_that_would_not_find_the_weights_is_refused(learner: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RunConfig.model_validate({"lora": {"kind": "tiny"}, "learner": learner, "rollout": {"engine": "torch"}})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"u": 5}, 'are of lora.kind = "tiny"'),
        ({"kind": "tiny", "alpha": 32.0}, "leave lora.alpha out, or set it to lora.rank = 1"),
        ({"kind": "tiny", "init": "runs/a"}, "leave lora.init out"),
        ({"kind": "tiny", "u": 0}, "greater than or equal to 1"),
        ({"kind": "tiny", "weight_tying": 1.5}, "less than or equal to 1"),
        ({"kind": "tiny", "weight_tying": math.nan}, "finite"),
        ({"kind": "tiny", "rank": "x"}, "valid integer"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LoraConfig(**settings)
    assert LoraConfig(kind="tiny", rank=3).alpha == 3.0
