"""A learner that replays a sampler's experts has its logprobs, where its own routers would have other experts."""

import asyncio
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.fakes import RIGHT, WRONG
from helpers.loop import SMALL, Bomb, EagerGrader, Killed, configuration, run
from helpers.policies import begun, everything, moved
from helpers.reference import surrogate
from helpers.threads import in_threads
from helpers.torch_learner import TorchLearner
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, DeepseekV3Config, Qwen3MoeConfig

from lora.base.router_replay import find_routers
from lora.base.tiny_model import tiny_tokenizer
from lora.config import LoraConfig, ModelConfig
from lora.load import load_adapted
from lora.peft.files import read_peft
from rewards.types import Problem
from rl.algorithm.advantage.estimators import advantages
from rl.algorithm.batch.minibatches import take_updates
from rl.algorithm.batch.packing import build_batch, pack_rows, split_rows, unpack_rows
from rl.cluster.components import shared_settings, with_room
from rl.config import LearnerConfig, RunConfig, replaced
from rl.launch.sft_recipe import SFT
from rl.launch.train_recipe import TRAIN
from rl.learner.bases.shared_model import SharedModel
from rl.learner.collectives import ProcessGroup
from rl.learner.passes.policy_loss import PolicyBatch
from rl.learner.policies.policy import Policy, PolicySpec
from rl.serve.config import ServeConfig
from rl.types import Group, TrainBatch
from rollout.config import SamplingConfig
from rollout.torch.engine import TorchEngine
from rollout.types import Completion, RoutedExperts

TOKENIZER = tiny_tokenizer()
SHAPE: dict[str, Any] = {
    "vocab_size": len(TOKENIZER), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
    "num_attention_heads": 2, "initializer_range": 0.2, "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0,
    "moe_intermediate_size": 24, "num_experts_per_tok": 2, "norm_topk_prob": True,
}  # fmt: skip
CONFIGS: dict[str, Callable[[], Any]] = {
    "qwen3": lambda: Qwen3MoeConfig(**SHAPE, num_key_value_heads=1, head_dim=16, num_experts=6),
    "deepseek": lambda: DeepseekV3Config(
        **SHAPE, num_key_value_heads=2, kv_lora_rank=16, q_lora_rank=None, qk_rope_head_dim=16, qk_nope_head_dim=16,
        v_head_dim=16, n_routed_experts=6, n_shared_experts=1, first_k_dense_replace=1, n_group=3, topk_group=2,
    ),
}  # fmt: skip
LORA = LoraConfig(rank=2, targets=("o_proj", "gate_proj", "up_proj", "down_proj"))
PROMPTS = [[10, 12, 14, 20, 8, 9], [21, 8, 9], [30, 31, 5, 6]]
SAMPLING = SamplingConfig(group_size=4, max_tokens=7)
REPLAYS = LearnerConfig(lr=1e-2, router_replay=True, max_grad_norm=None)
COMPARES = LearnerConfig(lr=1e-2, max_grad_norm=None)


def save(model: Any, directory: Path) -> ModelConfig:
    model.save_pretrained(str(directory))
    TOKENIZER.save_pretrained(str(directory))
    return ModelConfig(name=str(directory), dtype="float32", max_length=64)


@dataclass(frozen=True)
class Pair:
    """A sampler's model and what it sampled, and a learner's model, whose routers choose otherwise."""

    kind: str
    sampler: ModelConfig
    learner: ModelConfig
    groups: list[Group]


@pytest.fixture(scope="module", params=CONFIGS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """DeepSeek's routers have a bias that decides who is chosen and not what they weigh: there the choice is all that
    differs."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[request.param]())
    directory = tmp_path_factory.mktemp("models")
    sampler = save(model, directory / "sampler")
    with torch.no_grad():
        for router in find_routers(model).values():
            changed: Any = router
            bias = getattr(router, "e_score_correction_bias", None)
            if bias is None:
                changed.weight.add_(torch.randn(changed.weight.shape) * 2e-3)
            else:
                bias.add_(torch.randn(6) * 0.2)
    return Pair(request.param, sampler, save(model, directory / "learner"), sampled(sampler))


def spec(config: LearnerConfig, run: str = "run", seed: int = 3) -> PolicySpec:
    return PolicySpec(run, LORA, config, 1.0, seed)


def sampled(model: ModelConfig) -> list[Group]:
    """Return what a policy that has moved already samples, with its experts."""
    policy = begun(SharedModel(model), spec(COMPARES))
    engine = TorchEngine(model, LORA, return_routed_experts=True)
    adapter = policy.publish(torch.float32)
    groups = asyncio.run(engine.sample(PROMPTS, adapter, SAMPLING, seeds=[1, 2, 3]))
    rewards = [RIGHT, WRONG, WRONG, RIGHT]
    return [Group(Problem("p", "q", "a"), p, c, rewards) for p, c in zip(PROMPTS, groups, strict=True)]


def batch(groups: Sequence[Group], tokens_per_row: int = 24, *, routed: bool = True) -> TrainBatch:
    return build_batch(groups, [advantages(group.rewards) for group in groups], tokens_per_row, routed=routed)


def without_experts(groups: Sequence[Group]) -> list[Group]:
    return [replace(g, completions=[replace(c, routed_experts=None) for c in g.completions]) for g in groups]


def furthest(shared: SharedModel, policy: Policy, of: TrainBatch) -> float:
    """Return the largest distance of a logprob from the sampler's, in nats."""
    (output,) = shared.forward([PolicyBatch(policy, of)])
    pairs = zip(output.logprobs, of.rows, strict=True)
    return max((mine - row.rollout_logprobs).abs().max().item() for mine, row in pairs)


def test_the_engine_returns_the_experts_of_all_that_it_read(pair: Pair) -> None:
    for group in pair.groups:
        for completion in group.completions:
            assert completion.routed_experts is not None
            experts = completion.routed_experts.array
            assert experts.shape == (len(group.prompt) + len(completion.token_ids) - 1, 3, 2)
            assert experts.dtype == "uint8"
            assert experts.max() < 6
            assert (experts[:, -1, 0] != experts[:, -1, 1]).all()
    with pytest.raises(ValueError, match="has none: set it to false"):
        TorchEngine(ModelConfig(name="tiny-random", dtype="float32", max_length=64), LORA, return_routed_experts=True)


def test_replayed_logprobs_are_the_samplers_where_the_learners_routers_choose_otherwise(
    pair: Pair,
) -> None:
    shared = SharedModel(pair.learner)
    replaying, comparing = begun(shared, spec(REPLAYS)), begun(shared, spec(COMPARES))
    whole = batch(pair.groups)
    assert furthest(shared, replaying, whole) < {"deepseek": 1e-4, "qwen3": 0.05}[pair.kind]
    assert furthest(shared, comparing, whole) > 0.2
    (metrics,) = shared.update([PolicyBatch(comparing, whole)])
    assert 0 < metrics["update/router_disagreement"] < 1
    plain = batch(without_experts(pair.groups), routed=False)
    (metrics,) = shared.update([PolicyBatch(replaying, plain)])
    assert "update/router_disagreement" not in metrics


def test_with_the_same_weights_replay_changes_nothing(pair: Pair) -> None:

    def learned(config: LearnerConfig, of: TrainBatch) -> tuple[dict[str, Tensor], dict[str, float]]:
        shared = SharedModel(pair.sampler)
        policy = begun(shared, spec(config))
        (metrics,) = shared.update([PolicyBatch(policy, of)])
        return everything(policy), metrics

    replayed, metrics = learned(REPLAYS, batch(pair.groups))
    plain, without = learned(COMPARES, batch(without_experts(pair.groups), routed=False))
    assert metrics.pop("update/router_disagreement") == 0
    assert metrics == without
    assert all(torch.equal(value, plain[name]) for name, value in replayed.items())


def test_gradients_are_those_of_a_plain_model_whose_experts_are_fixed(pair: Pair) -> None:
    shared = SharedModel(pair.learner, tokens_per_microbatch=60)
    policy = begun(shared, spec(REPLAYS))
    before = {name: tensor.detach().clone() for name, tensor in policy.weights.tensors().items()}
    shared.update([PolicyBatch(policy, batch(pair.groups))])
    plain = load_adapted(pair.learner, LORA, seed=3)
    plain.layers.load(before)
    fixed = FixedExperts(plain.model)
    total = torch.zeros(())
    tokens = sum(len(completion.token_ids) for group in pair.groups for completion in group.completions)
    for group in pair.groups:
        for completion, advantage in zip(group.completions, advantages(group.rewards), strict=True):
            fixed.use(completion)
            alone = replace(group, completions=[completion])
            part = surrogate(plain.model, [alone], [[advantage]], temperature=1.0, max_ratio=REPLAYS.max_ratio)
            total = total + part * len(completion.token_ids) / tokens
    total.backward()
    for name, tensor in plain.layers.tensors().items():
        gradient = policy.weights.tensors()[name].grad
        assert gradient is not None
        assert tensor.grad is not None
        assert (gradient - tensor.grad).norm() <= 1e-4 * tensor.grad.norm() + 1e-8, name


class FixedExperts:
    """A plain model's routers, which choose what they are told, by formulas of their own."""

    def __init__(self, model: nn.Module) -> None:
        self._experts: Tensor = torch.zeros(0)
        for block, router in find_routers(model).items():
            router.forward = self._fixed(block, router)

    def use(self, completion: Completion) -> None:
        """Choose a completion's experts; its last token is read, too, and any will do."""
        assert completion.routed_experts is not None
        experts = torch.tensor(completion.routed_experts.array.tolist())
        self._experts = torch.cat([experts, experts[-1:]])

    def _fixed(self, block: int, router: Any) -> Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]:
        def forward(hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            logits = hidden.flatten(0, -2) @ router.weight.T
            biased = hasattr(router, "e_score_correction_bias")
            chosen = (logits.sigmoid() if biased else logits.exp()).gather(1, self._experts[:, block])
            scale = router.routed_scaling_factor if biased else 1.0
            return logits, scale * chosen / chosen.sum(-1, keepdim=True), self._experts[:, block]

        return forward


def test_recomputed_activations_give_the_same_gradients(pair: Pair) -> None:

    def learned(*, again: bool) -> dict[str, Tensor]:
        shared = SharedModel(pair.learner, gradient_checkpointing=again)
        policy = begun(shared, spec(REPLAYS))
        shared.update([PolicyBatch(policy, batch(pair.groups))])
        return everything(policy)

    kept, recomputed = learned(again=False), learned(again=True)
    assert all(torch.equal(value, recomputed[name]) for name, value in kept.items())


def test_two_learners_and_policies_beside_it_do_not_change_what_a_policy_learns(
    pair: Pair,
) -> None:
    """The second policy replays nothing, and its rows are only compared."""
    specs = [spec(REPLAYS, "replays", 3), spec(COMPARES, "compares", 4)]

    def begin(peers: ProcessGroup) -> SharedModel:
        return SharedModel(pair.learner, group=peers, tokens_per_microbatch=120)

    def learn(rank: int, shared: SharedModel) -> tuple[list[Policy], list[dict[str, float]]]:
        policies = [begun(shared, each) for each in specs]
        whole = batch(pair.groups)
        share = replace(whole, rows=split_rows(whole.rows, 2)[rank])
        return policies, shared.update([PolicyBatch(policy, share) for policy in policies])

    (ones, metrics), (others, _) = in_threads(2, begin, learn)
    for number, each in enumerate(specs):
        shared = SharedModel(pair.learner)
        alone = begun(shared, each)
        (expected,) = shared.update([PolicyBatch(alone, batch(pair.groups))])
        assert metrics[number] == pytest.approx(expected, rel=1e-3, abs=1e-5)
        assert "update/router_disagreement" in expected
        for name, value in everything(alone).items():
            assert torch.equal(everything(ones[number])[name], everything(others[number])[name])
            assert (everything(ones[number])[name] - value).norm() <= 1e-3 * value.norm() + 1e-8, name


def test_a_fresh_policy_is_the_base_whoever_chose_the_experts(pair: Pair) -> None:
    """The base's pass of a KL penalty goes to the same experts."""
    shared = SharedModel(pair.learner)
    fresh = shared.add(spec(LearnerConfig(router_replay=True, kl_coef=0.1)))
    (metrics,) = shared.update([PolicyBatch(fresh, batch(pair.groups))])
    assert metrics["update/kl_base"] == 0


def test_minibatches_are_compared_with_an_old_policy_of_the_same_experts(pair: Pair) -> None:
    settings: dict[str, Any] = {"minibatches": 2, "epochs": 2, "objective": "ppo", "lr": 1e-2, "tokens_per_row": 24}
    divergences = dict[bool, float]()
    for replays in (False, True):
        config = RunConfig(learner=LearnerConfig(**settings, router_replay=replays), problems_per_step=3)
        learner = TorchLearner("run", pair.learner, LORA, config.learner, temperature=1.0, seed=3)
        moved(learner.policy)
        batches = [batch([group]) for group in pair.groups]
        metrics = asyncio.run(take_updates(batches, config, learner, 1.0, 0))
        divergences[replays] = metrics["update/kl_sampler_learner"]
        assert metrics["update/optimizer_steps"] == 4
        assert 0 < metrics["update/router_disagreement"] < 1
    assert divergences[True] < divergences[False] / 3


@pytest.mark.parametrize("pair", list(CONFIGS)[:1], indirect=True)
async def test_a_run_that_is_resumed_ends_bit_for_bit_like_one_that_was_not_stopped(pair: Pair, tmp_path: Path) -> None:
    config = configuration(
        *SMALL, "num_steps=3", f"model.name={pair.sampler.name}", "learner.router_replay=true", "lora.rank=2"
    )
    whole = await run(config, tmp_path / "whole", EagerGrader())
    with pytest.raises(Killed):
        await run(config, tmp_path / "stopped", EagerGrader(), sinks=[Bomb(1)])
    resumed = await run(config, tmp_path / "stopped", EagerGrader(), resume=True)
    rows = [[_learned(row) for row in directory.metrics()] for directory in (whole, resumed)]
    assert rows[0] == rows[1]
    assert read_peft(resumed.adapters / "last") == read_peft(whole.adapters / "last")
    assert [row["update/router_disagreement"] for row in whole.metrics()[:3]] == [0, 0, 0]


def _learned(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name.startswith(("update/", "reward/", "completion/"))}


def test_rows_travel_with_their_experts() -> None:
    for experts in ([1, 2, 3, 4], [1, 2, 3, 400]):
        (row,) = pack_rows([7, 8], [(completion(experts), 1.0)], 1024)
        again = pickle.loads(pickle.dumps(row))
        assert row.routed_experts is not None
        assert torch.equal(again.routed_experts, row.routed_experts)
        assert again.routed_experts[:, 0, 0].tolist() == experts


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"server": "http://127.0.0.1:1"}, "has no place in requests to a server"),
        ({"episodes": {"environment": "env.py:Env"}}, "is for completions of one turn"),
        ({"curriculum": {"replay_problems": 8}}, "replay_problems to 0"),
    ],
)
def test_runs_that_could_not_replay_exactly_are_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        RunConfig.model_validate({**settings, "learner": {"router_replay": True}})


def test_policies_that_replay_share_engines_with_others_and_have_them_return_experts() -> None:
    plain = RunConfig(learner=LearnerConfig(lr=1e-3))
    replaying = replaced(plain, learner={"router_replay": True})
    assert shared_settings(plain) == shared_settings(replaying)
    assert with_room([plain, replaying], 2, disjoint_devices=False).rollout.return_routed_experts
    assert not with_room([plain, plain], 2, disjoint_devices=False).rollout.return_routed_experts


def test_models_without_a_mixture_servers_and_given_completions_are_refused() -> None:
    dense = RunConfig.model_validate({"model": {"name": "tiny-random"}, "learner": {"router_replay": True}})
    with pytest.raises(ValueError, match="this model has none"):
        TRAIN.resolve(dense, Path())
    with pytest.raises(ValueError, match="that an engine sampled"):
        SFT.resolve(dense, Path())
    with pytest.raises(ValueError, match="clients' requests"):
        ServeConfig.model_validate({"rollout": {"return_routed_experts": True}})


def completion(experts: list[int], tokens: int = 3) -> Completion:
    """Return one of that many tokens behind a prompt of two, whose tokens went to these experts of the one block."""
    ids = RoutedExperts.of(torch.tensor(experts)[:, None, None].numpy())
    return Completion(tuple(range(10, 10 + tokens)), (-1.0,) * tokens, "", "stop", 0, routed_experts=ids)


def test_a_row_has_one_prompt_and_completions_that_read_it_with_the_same_experts() -> None:
    written = [completion([1, 2, 3, 4]), completion([1, 5, 6, 7]), completion([1, 2, 8, 300])]
    rows = pack_rows([7, 8], [(each, 1.0) for each in written], 1024)
    assert [row.token_ids.tolist() for row in rows] == [[7, 8, 10, 11, 10, 11], [7, 8, 10, 11]]
    experts = [row.routed_experts[:, 0, 0].tolist() for row in rows if row.routed_experts is not None]
    assert experts == [[1, 2, 3, 4, 8, 300], [1, 5, 6, 7]]
    alone = [row.routed_experts[:, 0, 0].tolist() for row in unpack_rows(rows) if row.routed_experts is not None]
    assert alone == [[1, 2, 3, 4], [1, 2, 8, 300], [1, 5, 6, 7]]


def test_experts_that_are_missing_or_too_few_are_told() -> None:
    group = Group(Problem("p", "q", "a"), [7, 8], [completion([1, 2, 3, 4]), completion([1, 2, 3])], [RIGHT, WRONG])
    with pytest.raises(ValueError, match="experts of 3 tokens, and 4 were read"):
        batch([group])
    with pytest.raises(ValueError, match=r"learner\.router_replay"):
        batch(without_experts([group]))
