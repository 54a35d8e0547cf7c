"""Microbatches that are computed side by side: nothing waits for another's, and the update is the same to the last bit."""

import itertools
import threading
import time
from pathlib import Path

import pytest
import torch
from helpers.fakes import cores, made_groups
from helpers.reference import MIXTURES, SHAPE, save_tiny
from torch import Tensor
from transformers import AutoModelForCausalLM, Phi3Config

from lora.config import LoraConfig, ModelConfig
from rl.algorithm.advantage.estimators import advantages
from rl.algorithm.batch.packing import build_batch
from rl.config import LearnerConfig
from rl.learner.bases.shared_model import PolicyBatch, SharedModel
from rl.learner.passes import microbatch_threads
from rl.learner.passes.microbatch_threads import Schedule, in_order, schedule
from rl.learner.policies.policy import Policy, PolicySpec
from rl.types import TrainBatch


def batch(seed: int) -> TrainBatch:
    groups = made_groups(seed, groups=9, size=4)
    return build_batch(groups, [advantages(group.rewards) for group in groups], 24)


def policies(model: SharedModel, count: int, *, lm_head: bool) -> list[Policy]:
    made = [
        model.add(PolicySpec(f"p{seed}", LoraConfig(rank=2, lm_head=lm_head), LearnerConfig(), 1.0, seed))
        for seed in range(count)
    ]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for policy in made:
            for name, tensor in policy.weights.tensors().items():
                if name.endswith("lora_B"):
                    tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.05)
    return made


def gradients(policies: list[Policy]) -> list[Tensor]:
    return [tensor.grad.clone() for policy in policies for tensor in policy.parameters if tensor.grad is not None]


@pytest.mark.parametrize(
    ("lengths", "tokens", "cores", "expected"),
    [
        ([200] * 16, 4096, 2, Schedule(2, 1, 900)),
        ([200] * 16, 4096, 1, Schedule(1, 1, 4096)),
        ([200] * 160, 4096, 2, Schedule(2, 1, 2048)),
        ([3000, 200], 4096, 2, Schedule(1, 2, 4096)),
        ([9000, 200], 4096, 2, Schedule(1, 2, 4096)),
        ([200], 4096, 2, Schedule(1, 2, 4096)),
        ([], 4096, 2, Schedule(1, 2, 4096)),
        ([200] * 160, 4096, 8, Schedule(4, 2, 1024)),
        ([200] * 160, 4096, 7, Schedule(3, 2, 1365)),
        ([2000] * 160, 4096, 8, Schedule(2, 4, 2048)),
    ],
)
def test_no_more_is_under_way_than_one_microbatch_may_have(
    lengths: list[int], tokens: int, cores: int, expected: Schedule
) -> None:
    assert schedule(lengths, tokens, cores) == expected
    assert expected.at_once * expected.cores <= cores
    assert expected.at_once == 1 or expected.at_once * expected.tokens <= tokens


def test_each_microbatch_has_a_thread_of_its_own_with_its_share_of_the_cores(tiny_model: ModelConfig) -> None:
    """All cores in each operation would wait for each other tens of thousands of times an update."""
    model = SharedModel(tiny_model)
    (policy,) = policies(model, 1, lm_head=False)
    seen: list[tuple[int, int]] = []
    model.model.get_decoder().register_forward_pre_hook(  # type: ignore[operator]
        lambda *_: seen.append((threading.get_ident(), torch.get_num_threads()))
    )
    both, passes = threading.Barrier(2, timeout=60), itertools.count()

    def meet(*_: object) -> None:
        if next(passes) < 2:
            both.wait()  # passed only by two that are under way at once

    model.model.get_decoder().layers[1].register_forward_pre_hook(meet)  # type: ignore[operator]
    with cores(2):
        model.update([PolicyBatch(policy, batch(0))])
        assert torch.get_num_threads() == 2
    assert len({thread for thread, _ in seen} - {threading.get_ident()}) == 2
    assert {threads for _, threads in seen} == {1}


@pytest.mark.parametrize("kind", ["dense", "mixture"])
@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("lm_head", [False, True], ids=["frozen head", "adapted head"])
def test_side_by_side_and_one_after_another_give_the_same_bits(
    kind: str, checkpointing: bool, lm_head: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tiny("llama" if kind == "dense" else next(iter(MIXTURES)), tmp_path)
    config = ModelConfig(name=str(tmp_path), dtype="float32", max_length=64)
    model = SharedModel(config, tokens_per_microbatch=140, gradient_checkpointing=checkpointing)
    three = policies(model, 3, lm_head=lm_head)
    work = [PolicyBatch(policy, batch(seed), 0.0) for seed, policy in enumerate(three)]
    with cores(2):
        plan = model._schedule(work)
        assert plan.at_once == 2
        assert len(model._microbatches(work, plan.tokens)) > 6
        side_by_side = [(model.update(work), gradients(three)) for _ in range(3)]
    monkeypatch.setattr(model, "_schedule", lambda _: Schedule(1, 1, plan.tokens))
    with cores(1):
        metrics, expected = model.update(work), gradients(three)
    for got_metrics, got in side_by_side:
        assert got_metrics == metrics
        assert all(torch.equal(mine, other) for mine, other in zip(got, expected, strict=True))


def test_full_fine_tuning_side_by_side_gives_the_same_bits(
    tiny_model: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = SharedModel(tiny_model, tokens_per_microbatch=140)
    policy = model.add(PolicySpec("full", LoraConfig(), LearnerConfig(weights="full"), 1.0, 0))
    work = [PolicyBatch(policy, batch(0), 0.0)]
    with cores(2):
        plan = model._schedule(work)
        assert plan.at_once == 2
        metrics, got = model.update(work), gradients([policy])
    monkeypatch.setattr(model, "_schedule", lambda _: Schedule(1, 1, plan.tokens))
    with cores(1):
        assert model.update(work) == metrics
    assert all(torch.equal(mine, other) for mine, other in zip(got, gradients([policy]), strict=True))


def test_a_model_that_a_forward_pass_changes_has_one_at_a_time(tmp_path: Path) -> None:
    """LongRoPE takes other frequencies as soon as one row of a batch is long."""
    factors = {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
    rope = {
        "rope_type": "longrope",
        "rope_theta": 1e4,
        "original_max_position_embeddings": 12,
        "factor": 4.0,
        **factors,
    }
    config = Phi3Config(**SHAPE, pad_token_id=0, max_position_embeddings=48, rope_parameters=rope)
    AutoModelForCausalLM.from_config(config).save_pretrained(str(tmp_path))
    model = SharedModel(ModelConfig(name=str(tmp_path), dtype="float32", max_length=48))
    made = model.add(PolicySpec("run", LoraConfig(targets=("o_proj",)), LearnerConfig(), 1.0, 0))
    with cores(2):
        assert model._schedule([PolicyBatch(made, batch(0))]).at_once == 1


def test_results_come_in_order_and_few_wait_for_a_slow_one() -> None:
    begun: list[int] = []

    def compute(item: int) -> int:
        begun.append(item)
        time.sleep(0.2 if item == 0 else 0)
        return item

    results = in_order(Schedule(2, 1, 1), compute, range(30))
    assert next(results) == 0
    assert len(begun) <= 1 + 2 * microbatch_threads.AHEAD
    assert list(results) == list(range(1, 30))


def test_an_error_in_a_thread_is_raised_and_no_thread_stays() -> None:
    before, threads = torch.get_num_threads(), threading.active_count()

    def compute(item: int) -> int:
        if item == 3:
            raise ValueError("third")
        return item

    with pytest.raises(ValueError, match="third"):
        list(in_order(Schedule(2, 1, 1), compute, range(100)))
    assert (torch.get_num_threads(), threading.active_count()) == (before, threads)
