"""Runs on a base in fewer bits: sampler and learner agree, the policy learns, resumes to the bit, and is exported."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from helpers.fakes import made_groups
from helpers.loop import EXAMPLE, SMALL, Bomb, EagerGrader, Killed, configuration, timeless
from helpers.loop import run as run_loop
from helpers.policies import begun
from helpers.zygote import Zygote
from transformers import AutoModelForCausalLM

from lora.config import LoraConfig, ModelConfig
from lora.load import load_adapted
from lora.peft.files import unpack
from rl.algorithm.advantage.estimators import advantages
from rl.algorithm.batch.packing import build_batch
from rl.cli.plan_text import plan_lines
from rl.config import LearnerConfig, RunConfig
from rl.launch.plan import plan_run
from rl.learner.bases.shared_model import PolicyBatch, SharedModel
from rl.learner.policies.policy import PolicySpec
from rl.run.changes import changes_between, is_fixed
from rl.run.directory import RunDirectory
from rl.run.export import base_of, export_merged, find_adapter, lora_config
from rl.types import TrainBatch

INT8 = configuration(*SMALL, "model.quantization=int8", "liveness.every=1", "model.dtype=float32")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return asyncio.run(run_loop(INT8, tmp_path_factory.mktemp("int8") / "run", EagerGrader()))


def test_a_short_run_learns_and_sampler_and_learner_agree(trained: RunDirectory) -> None:
    rows = trained.metrics()
    differences = [row["policy/sampler_difference"] for row in rows if "policy/sampler_difference" in row]
    assert len(differences) >= 6
    assert max(differences) < 1e-5
    rewards = [row["reward/mean"] for row in rows if "reward/mean" in row]
    assert rewards[-1] > rewards[0] + 0.2
    assert all(row["update/nonfinite"] == 0 for row in rows if "update/nonfinite" in row)


async def test_a_resumed_run_is_the_same_to_the_bit(trained: RunDirectory, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        await run_loop(INT8, tmp_path / "run", EagerGrader(), sinks=[Bomb(3)])
    resumed = await run_loop(INT8, tmp_path / "run", EagerGrader(), resume=True)
    # A resumed learner has no version before its first, which the liveness check would compare with.
    rows = [
        [{name: value for name, value in row.items() if not name.startswith("policy/")} for row in timeless(directory)]
        for directory in (resumed, trained)
    ]
    assert rows[0] == rows[1]
    last = [find_adapter(directory.path, "last").payload for directory in (resumed, trained)]
    assert last[0] == last[1]


def test_the_base_of_a_run_stays_the_one_that_it_began_with() -> None:
    other = RunConfig.model_validate({**dict(INT8), "model": {**dict(INT8.model), "quantization": "fp8"}})
    assert [name for name in changes_between(INT8, other) if is_fixed(name)] == ["model.quantization"]


def test_a_merged_model_holds_the_numbers_of_the_codes(trained: RunDirectory, tmp_path: Path) -> None:
    adapter, ids = find_adapter(trained.path, "last"), torch.arange(3, 15)[None]
    model = base_of(trained.path, "tiny-random")
    assert model.quantization == "int8"
    adapted = load_adapted(model, lora_config(adapter))
    adapted.layers.load(unpack(adapter.payload)[0])
    export_merged(adapter, model, tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32).eval()
    with torch.no_grad():
        torch.testing.assert_close(merged(ids).logits, adapted.model(ids).logits, rtol=1e-5, atol=1e-5)
        export_merged(adapter, ModelConfig(name="tiny-random", dtype="float32"), tmp_path / "full")
        full = AutoModelForCausalLM.from_pretrained(tmp_path / "full", dtype=torch.float32).eval()
        assert not torch.allclose(merged(ids).logits, full(ids).logits, atol=1e-3)


def test_the_command_says_that_it_dequantised(trained: RunDirectory, zygote: Zygote, tmp_path: Path) -> None:
    ended = zygote.rankone("export", trained.path, "--merge", "--out", tmp_path / "merged")
    assert ended.status == 0, ended.stderr
    assert ended.stderr == "its base was trained on in int8: dequantised, its weights are in float32 now\n"


@pytest.mark.parametrize("kind", ["fp8", "nf4"])
def test_other_codes_are_sampled_and_learned_from_as_well(kind: str, tmp_path: Path) -> None:
    config = configuration(*SMALL[:-1], "num_steps=2", f"model.quantization={kind}", "liveness.every=1")
    rows = asyncio.run(run_loop(config, tmp_path / "run", EagerGrader())).metrics()
    assert all(abs(row["update/kl_sampler_learner"]) < 0.01 for row in rows if "update/kl_sampler_learner" in row)
    assert all(row["policy/sampler_difference"] < 0.05 for row in rows if "policy/sampler_difference" in row)


def test_a_plan_counts_the_codes() -> None:
    full, codes = (
        plan_run(configuration("model.dtype=bfloat16", *more), EXAMPLE.parent)
        for more in ((), ("model.quantization=nf4",))
    )
    saved = full.weight_bytes - codes.weight_bytes
    numbers = sum(kind.count * kind.d_in * kind.d_out for kind in full.kinds if kind.name != "lm_head")
    assert saved == numbers * 2 - numbers // 2 - numbers // 64 * 4
    assert full.memory.weights - codes.memory.weights == saved
    assert codes.model_parameters == full.model_parameters
    assert "nf4 and bfloat16" in dict(plan_lines(codes))["model"]


REFUSED = {
    "nf4 by vLLM": (['model.quantization="nf4"', 'rollout.engine="vllm"', 'runtime="ray"'], 'set it to "int8" or "fp8"'),
    "all weights": (['model.quantization="int8"', 'learner.weights="full"'], "leave one of them out"),
    "shards": (
        ['model.quantization="int8"', "learner.shard=true", "learner.num_learners=2", 'runtime="ray"'],
        "set learner.shard = false",
    ),
    "a server's": (['model.quantization="int8"', 'server="http://h:1"', 'runtime="ray"'], "is the server's to choose"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_go_together_is_refused_with_what_to_set(case: str) -> None:
    overrides, says = REFUSED[case]
    with pytest.raises(ValueError, match=says):
        configuration(*SMALL, *overrides)


def test_two_policies_on_one_base_learn_as_each_alone() -> None:
    batches = [made_batch(seed) for seed in (1, 2)]

    def trained_alone_or_together(chosen: Sequence[int]) -> list[torch.Tensor]:
        shared = SharedModel(INT8.model)
        policies = [
            begun(shared, PolicySpec(f"run{i}", LoraConfig(rank=1 + i), LearnerConfig(), 1.0, i)) for i in chosen
        ]
        shared.update([PolicyBatch(policy, batches[i]) for policy, i in zip(policies, chosen, strict=True)])
        return [p.grad for policy in policies for p in policy.parameters if p.grad is not None]

    alone = [*trained_alone_or_together([0]), *trained_alone_or_together([1])]
    for mine, expected in zip(trained_alone_or_together([0, 1]), alone, strict=True):
        assert (mine - expected).norm() <= 1e-4 * expected.norm()


def made_batch(seed: int) -> TrainBatch:
    groups = made_groups(seed, groups=2, size=4)
    return build_batch(groups, [advantages(group.rewards) for group in groups], 1024)
