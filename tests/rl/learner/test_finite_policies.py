"""A policy never holds a number that is not finite: steps that would make one are undone, checkpoints refused."""

import json
import math
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from click.testing import Result
from helpers.fakes import made_groups
from helpers.threads import in_threads
from helpers.torch_learner import TorchLearner
from torch import Tensor
from typer.testing import CliRunner

from lora.config import LoraConfig, ModelConfig
from lora.peft.files import pack, read_peft, unpack, write_peft
from rl.algorithm.advantage.estimators import advantages
from rl.algorithm.batch.packing import build_batch, split_rows
from rl.cli.app import app
from rl.config import LearnerConfig
from rl.learner.bases.shared_model import PolicyBatch, SharedModel
from rl.learner.collectives import ProcessGroup
from rl.learner.policies.policy import Policy, PolicySpec
from rl.run import checkpoint
from rl.run.checkpoint import Checkpoint
from rl.types import TrainBatch

EXAMPLE = Path(__file__).parents[3] / "examples" / "tiny.toml"
SPOILING: dict[str, dict[str, Any]] = {
    "0 / 0 where a gradient is 0": {"eps": 0.0},
    "a rate that is infinite": {"lr": math.inf},
}
"""Settings that make a step's numbers not finite though its gradient is. Validation refuses them."""


def batch(seed: int) -> TrainBatch:
    groups = made_groups(seed, groups=4)
    return build_batch(groups, [advantages(group.rewards) for group in groups], 40)


def spec(run: str = "run", **settings: Any) -> PolicySpec:
    config = LearnerConfig(lr=1e-2).model_copy(update=settings)
    return PolicySpec(run, LoraConfig(rank=2), config, 1.0, 0)


def state(policy: Policy) -> dict[str, Tensor]:
    return safetensors.torch.load(policy.state())


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("eps", [0.0, 1e-30, -1.0])
def test_an_eps_that_leaves_adam_to_divide_by_zero_is_refused(eps: float) -> None:
    with pytest.raises(ValueError, match=r"learner\.eps must be at least 1e-18.*divides 0 by it.*1e-8"):
        LearnerConfig(eps=eps)


@pytest.mark.parametrize("lr", [1e39, math.inf])
def test_a_rate_that_float32_cannot_hold_is_refused(lr: float) -> None:
    with pytest.raises(ValueError, match="lr"):
        LearnerConfig(lr=lr)


def test_the_smallest_eps_there_may_be_trains(tiny_model: ModelConfig) -> None:
    """From B = 0, where every gradient of A is 0."""
    model = SharedModel(tiny_model)
    policy = model.add(spec(eps=1e-18))
    for step in range(3):
        (metrics,) = model.update([PolicyBatch(policy, batch(step))])
        assert metrics["update/nonfinite"] == 0
    assert policy.version == 3


@pytest.mark.parametrize("how", SPOILING)
def test_a_step_that_would_make_a_parameter_not_finite_is_undone(tiny_model: ModelConfig, how: str) -> None:
    model = SharedModel(tiny_model)
    policy = model.add(spec(**SPOILING[how]))
    before = state(policy)
    (metrics,) = model.update([PolicyBatch(policy, batch(0))])
    assert metrics["update/nonfinite"] == 1
    assert math.isfinite(metrics["update/grad_norm"])
    assert policy.version == 0
    assert same(state(policy), before)
    published, _ = unpack(policy.publish(model.dtype).payload)
    assert all(tensor.isfinite().all() for tensor in published.values())


def test_an_undone_step_leaves_the_moments_of_those_before_it(tiny_model: ModelConfig) -> None:
    model = SharedModel(tiny_model)
    disturbed, calm = model.add(spec("disturbed")), model.add(spec("calm"))
    for step in range(4):
        rate = math.inf if step == 2 else 1.0
        model.update([PolicyBatch(disturbed, batch(step), rate)])
        if step != 2:
            model.update([PolicyBatch(calm, batch(step))])
    assert (disturbed.version, calm.version) == (3, 3)
    assert same(state(disturbed), state(calm))


@pytest.mark.parametrize("how", SPOILING)
def test_in_a_sweep_the_others_go_on(tiny_model: ModelConfig, how: str) -> None:
    together, alone = SharedModel(tiny_model), SharedModel(tiny_model)
    spoilt, sound = together.add(spec("spoilt", **SPOILING[how])), together.add(spec("sound"))
    lonely, before = alone.add(spec("sound")), state(spoilt)
    for step in range(2):
        metrics = together.update([PolicyBatch(spoilt, batch(9)), PolicyBatch(sound, batch(step))])
        assert [one["update/nonfinite"] for one in metrics] == [1, 0]
        alone.update([PolicyBatch(lonely, batch(step))])
    assert same(state(spoilt), before)
    expected = state(lonely)
    for name, tensor in state(sound).items():
        assert (tensor - expected[name]).norm() <= 1e-4 * expected[name].norm(), name


@pytest.mark.parametrize("where", [{0}, {1}, {0, 1}], ids=["at the first", "at the second", "at both"])
def test_of_several_learners_all_undo_a_step_or_none(tiny_model: ModelConfig, where: set[int]) -> None:
    """One whose device is at fault has the same gradient as the others, and no number to show for it."""

    def begin(peers: ProcessGroup) -> SharedModel:
        return SharedModel(tiny_model, group=peers)

    def learn(rank: int, model: SharedModel) -> tuple[bool, list[float], int]:
        policy = model.add(spec())
        before, skipped = state(policy), list[float]()
        for step, at_fault in enumerate((where, set[int]())):
            rate = math.inf if rank in at_fault else 1.0
            share = split_rows(batch(step).rows, 2)[rank]
            whole = batch(step)
            (metrics,) = model.update(
                [PolicyBatch(policy, TrainBatch(share, whole.num_tokens, whole.num_sequences), rate)]
            )
            skipped.append(metrics["update/nonfinite"])
            if step == 0:
                undone = same(state(policy), before)
        return undone, skipped, policy.version

    assert in_threads(2, begin, learn) == [(True, [1, 0], 1)] * 2


def test_full_fine_tuning_that_cannot_go_back_ends(tiny_model: ModelConfig) -> None:
    """A second copy of all weights and moments would take more memory than the model."""
    model = SharedModel(tiny_model)
    policy = model.add(spec(weights="full", lr=math.inf))
    with pytest.raises(RuntimeError, match=r"made weights that are not finite.*lower learner\.lr.*--resume"):
        model.update([PolicyBatch(policy, batch(0))])


# --- checkpoints ---


def damaged(whole: bytes, part: str) -> bytes:
    """The same state with NaN somewhere in the tensors whose names have that part."""
    tensors = safetensors.torch.load(whole)
    name = next(name for name in tensors if part in name)
    tensors[name].view(-1)[0] = math.nan
    length = int.from_bytes(whole[:8], "little")
    header: Any = json.loads(whole[8 : 8 + length])
    return safetensors.torch.save(tensors, metadata=header["__metadata__"])


@pytest.mark.parametrize("part", ["lora_A", "adam.exp_avg_sq"])
async def test_a_state_with_a_number_that_is_not_finite_is_refused(tiny_model: ModelConfig, part: str) -> None:
    learner = TorchLearner("run", tiny_model, LoraConfig(), LearnerConfig(), temperature=1.0, seed=0)
    await learner.update(batch(0))
    whole = await learner.state()
    with pytest.raises(ValueError, match=rf"{re.escape(part)}.* holds numbers that are infinite or NaN"):
        await learner.load_state(damaged(whole, part))
    assert await learner.state() == whole


def rankone(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def settings(**more: object) -> Sequence[str]:
    small = {"problems_per_step": 4, "sampling.group_size": 4, "evaluate.num_problems": 4, "reward.workers": 1}
    return [part for name, value in (small | more).items() for part in ("--set", f"{name}={value}")]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    assert rankone("train", EXAMPLE, "--out", out, *settings(num_steps=2)).exit_code == 0
    return out


def complaint(ran: Result) -> str:
    """A refusal's one line."""
    assert ran.exit_code == 2, ran.output
    (line,) = [line for line in ran.output.splitlines() if line.startswith("rankone:")]
    return line


def test_a_run_whose_adapter_to_begin_from_has_one_says_so_in_one_line(finished: Path, tmp_path: Path) -> None:
    adapter = read_peft(finished / "adapters" / "last")
    tensors, description = unpack(adapter.payload)
    name, tensor = next(iter(tensors.items()))
    tensor.view(-1)[0] = math.nan
    write_peft(replace(adapter, payload=pack(tensors, description)), tmp_path / "adapter")
    begin = {"lora.init": tmp_path / "adapter"}
    line = complaint(rankone("train", EXAMPLE, "--out", tmp_path / "run", *settings(**begin)))
    assert re.search(rf"adapter is a damaged adapter: .*{re.escape(name)} holds numbers that are infinite or NaN", line)


def test_a_run_whose_checkpoint_has_one_says_so_in_one_line(finished: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "run"))
    newest = checkpoint.newest(out / "checkpoints")
    assert newest is not None
    checkpoint.save(out / "checkpoints", Checkpoint(newest.step, damaged(newest.state, "lora_B")))
    ran = rankone("train", EXAMPLE, "--out", out, "--resume", *settings(num_steps=4))
    line = complaint(ran)
    assert re.search(r"step-000002: .*lora_B holds numbers that are infinite or NaN.*; remove it", line), line
    (out / "checkpoints" / "step-000002").unlink()
    assert rankone("train", EXAMPLE, "--out", out, "--resume", *settings(num_steps=4)).exit_code == 0
