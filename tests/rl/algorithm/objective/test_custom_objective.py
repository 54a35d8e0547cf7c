"""An objective of the user's own: read as text, tried before the run, and learned with like one of ours."""

from pathlib import Path

import pytest
import torch
from helpers.fakes import made_groups
from helpers.policies import begun

from lora.config import ModelConfig
from rl.algorithm.advantage.estimators import advantages
from rl.algorithm.batch.packing import build_batch
from rl.algorithm.objective.custom import check_objective, load_objective, read_objective
from rl.cluster.learner import policy_spec
from rl.config import LearnerConfig, RunConfig, replaced
from rl.jobs.package import JobPackage
from rl.launch.train_recipe import TRAIN
from rl.learner.bases.shared_model import SharedModel
from rl.learner.passes.policy_loss import PolicyBatch
from rl.remote.learner import check_config

OURS = """
def loss(log_ratio, advantages, sequence_ids, config):
    return -advantages * log_ratio.detach().exp().clamp(max=config.max_ratio) * (1 + log_ratio - log_ratio.detach())
"""
BESIDE = "def loss(log_ratio, advantages, sequence_ids, config): return log_ratio - log_ratio.mean()"
FRAGMENTS = {
    "def loss(log_ratio, *_): return log_ratio.sum()": "must return a loss for each of 5 tokens, and returned \\[\\]",
    "def loss(log_ratio, *_): return log_ratio.detach()": "has no gradient: compute it from log_ratio",
    "def loss(log_ratio, *_): return log_ratio + missing": "loss fails: NameError: name 'missing' is not defined",
    "def other(): ...": "has no function 'loss'",
    "import": "cannot be loaded: SyntaxError",
    BESIDE: "another loss when others are beside it, so microbatches would not add up",
}


def written(folder: Path, text: str) -> str:
    (folder / "my_loss.py").write_text(text, encoding="utf-8")
    return f"{folder / 'my_loss.py'}:loss"


@pytest.mark.parametrize("text", FRAGMENTS)
def test_what_is_no_objective_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=FRAGMENTS[text]) as refused:
        check_objective(read_objective(written(tmp_path, text)), LearnerConfig())
    assert "\n" not in str(refused.value)


def test_the_same_formula_is_learned_from_bit_for_bit_like_ours(tmp_path: Path, tiny_model: ModelConfig) -> None:
    config = replaced(
        RunConfig(), learner={"objective_function": written(tmp_path, OURS), "aggregation": "sequence"},
        model=tiny_model, sampling={"max_tokens": 20},
    )  # fmt: skip
    ours = replaced(config, learner={"objective_function": None})
    groups = made_groups(0)
    batch = build_batch(groups, [advantages(group.rewards) for group in groups], 1024)
    model = SharedModel(tiny_model)
    specs = [policy_spec(each, f"run-{index}") for index, each in enumerate((ours, config))]
    (tmp_path / "my_loss.py").unlink()  # its text has gone along
    gradients = list[list[torch.Tensor]]()
    for spec in specs:
        policy = begun(model, spec)
        model.forward_backward([PolicyBatch(policy, batch)])
        gradients.append([parameter.grad for parameter in policy.parameters if parameter.grad is not None])
        model.remove(policy)
    assert len(gradients[0]) > 0
    for first, second in zip(*gradients, strict=True):
        assert torch.equal(first, second)


def test_it_is_found_beside_the_configuration_and_goes_along_with_a_job(tmp_path: Path) -> None:
    written(tmp_path, OURS)
    config = replaced(RunConfig(), learner={"objective_function": "my_loss.py:loss"}, model={"name": "tiny-random"})
    resolved = TRAIN.resolve(config, tmp_path)
    assert resolved.learner.objective_function == f"{(tmp_path / 'my_loss.py').resolve()}:loss"
    (tmp_path / "job").mkdir()
    sent = JobPackage(tmp_path / "job", tmp_path).add(config).learner.objective_function
    assert sent == "data/my_loss.py:loss"
    there = load_objective(read_objective(str(tmp_path / "job" / sent)))
    assert there(torch.zeros(2), torch.ones(2), torch.zeros(2, dtype=torch.long), LearnerConfig()).tolist() == [-1, -1]
    (tmp_path / "my_loss.py").write_text(BESIDE, encoding="utf-8")
    with pytest.raises(ValueError, match="microbatches would not add up"):
        TRAIN.resolve(config, tmp_path)


@pytest.mark.parametrize(
    ("function", "reason"), [("my_loss:loss", "is file.py:name"), ("no.py:loss", "cannot be read")]
)
def test_what_is_not_there_is_said(function: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        TRAIN.resolve(replaced(RunConfig(), learner={"objective_function": function}), Path("/"))


def test_one_objective_is_enough_and_a_server_runs_none_of_a_clients() -> None:
    own = {"objective_function": "my_loss.py:loss"}
    with pytest.raises(ValueError, match=r"takes the place of learner\.objective, which is ppo"):
        replaced(RunConfig(), learner={**own, "objective": "ppo"})
    with pytest.raises(ValueError, match=r"leave learner\.objective_function out with --server"):
        check_config(replaced(RunConfig(), learner=own))
