"""A host's forward and backward passes and steps by themselves, as a service calls them."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.fakes import made_groups
from torch import Tensor

from lora.config import LoraConfig, ModelConfig
from rl.algorithm.advantage.estimators import advantages
from rl.algorithm.batch.packing import build_batch
from rl.config import LearnerConfig
from rl.learner.bases import shared_model
from rl.learner.policies.adam import check_adam
from rl.learner.policies.policy import AdamConfig, PolicySpec
from rl.learner.policy_host import LearnerSpec, PolicyHost, PolicyUpdate
from rl.types import TrainBatch

CONFIG = LearnerConfig(lr=1e-2)
ADAM = AdamConfig.of(CONFIG)


def batch(seed: int, groups: int = 3) -> TrainBatch:
    made = made_groups(seed, groups=groups)
    return build_batch(made, [advantages(group.rewards) for group in made], 24)


def host(model: ModelConfig, *runs: str, weights: str = "lora") -> PolicyHost:
    made = PolicyHost(LearnerSpec(model))
    for seed, run in enumerate(runs):
        made.add(PolicySpec(run, LoraConfig(rank=2), replaced(weights), 1.0, seed))
    return made


def replaced(weights: str) -> LearnerConfig:
    return LearnerConfig.model_validate(CONFIG.model_dump() | {"weights": weights})


def gradients(of: PolicyHost, run: str) -> list[Tensor]:
    return [parameter.grad.clone() for parameter in of.policies[run].parameters if parameter.grad is not None]


@pytest.mark.parametrize("weights", ["lora", "full"])
def test_an_update_is_a_pass_and_a_step(tiny_model: ModelConfig, weights: str) -> None:
    together, apart = host(tiny_model, "run", weights=weights), host(tiny_model, "run", weights=weights)
    for seed in range(3):
        (whole,) = together.update([PolicyUpdate("run", batch(seed))])
        (output,) = apart.forward_backward([PolicyUpdate("run", batch(seed))])
        assert output.metrics | apart.optim_step("run", ADAM) == whole
    assert together.publish("run") == apart.publish("run")
    assert together.state("run") == apart.state("run")


def test_passes_add_their_gradients_up_until_a_step_uses_them(tiny_model: ModelConfig) -> None:
    """Parts of a step are divided by the step's numbers, so that they are the step however it is cut."""
    whole, parts = host(tiny_model, "run"), host(tiny_model, "run")
    for seed in range(2):
        step = batch(seed)
        whole.update([PolicyUpdate("run", step)])
        for rows in (step.rows[:1], step.rows[1:]):
            parts.forward_backward([PolicyUpdate("run", replace(step, rows=rows))])
        parts.optim_step("run", ADAM)
        for ours, theirs in zip(gradients(parts, "run"), gradients(whole, "run"), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)


def test_logprobs_come_in_the_rows_order(tiny_model: ModelConfig) -> None:
    made = host(tiny_model, "run", "other")
    steps = [batch(1, 4), batch(2, 2)]
    outputs = made.forward_backward(
        [PolicyUpdate(run, step) for run, step in zip(("run", "other"), steps, strict=True)]
    )
    for run, output, step in zip(("run", "other"), outputs, steps, strict=True):
        for row, logprobs in zip(step.rows, output.logprobs, strict=True):
            assert len(logprobs) == len(row.targets)
            for index in range(int(row.sequence_ids[-1]) + 1):
                targets = row.targets[row.sequence_ids == index].tolist()
                prompt = row.token_ids[row.segment_ids == 0].tolist()
                (alone,) = made.score(run, [[*prompt, *targets]], "policy")
                assert logprobs[row.sequence_ids == index].tolist() == pytest.approx(alone[-len(targets) :], abs=1e-4)


def test_a_pass_that_fails_leaves_no_trace(tiny_model: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in its own policy's gradients nor in those of another that shared its microbatches."""
    made, calm = host(tiny_model, "run", "other"), host(tiny_model, "run", "other")
    first = [PolicyUpdate("run", batch(0)), PolicyUpdate("other", batch(1))]
    for one in (made, calm):
        one.forward_backward(first)
    before = {run: gradients(made, run) for run in ("run", "other")}
    whole, passes = shared_model.target_logprobs, []

    def fails(*arguments: Any, **options: Any) -> Any:
        passes.append(1)
        if len(passes) > 1:
            raise MemoryError("no more")
        return whole(*arguments, **options)

    made.model.tokens_per_microbatch = 30  # several microbatches, of which one gets through
    monkeypatch.setattr(shared_model, "target_logprobs", fails)
    with pytest.raises(MemoryError):
        made.forward_backward([PolicyUpdate("run", batch(2)), PolicyUpdate("other", batch(3))])
    monkeypatch.undo()
    made.model.tokens_per_microbatch = 4096
    for run in ("run", "other"):
        assert all(map(torch.equal, before[run], gradients(made, run)))
        assert made.optim_step(run, ADAM) == calm.optim_step(run, ADAM)
        assert made.state(run) == calm.state(run)


def test_a_loss_that_is_not_finite_stops_the_step_and_is_forgotten_after_it(tiny_model: ModelConfig) -> None:
    made = host(tiny_model, "run")
    spoilt = batch(0)
    spoilt.rows[0].rollout_logprobs[0] = float("-inf")
    made.forward_backward([PolicyUpdate("run", spoilt)])
    assert made.optim_step("run", ADAM)["update/nonfinite"] == 1
    assert made.publish("run").version == 0
    (metrics,) = made.update([PolicyUpdate("run", batch(1))])
    assert metrics["update/nonfinite"] == 0
    assert made.publish("run").version == 1


def test_a_loss_and_a_step_may_have_settings_of_their_own(tiny_model: ModelConfig) -> None:
    made, other = host(tiny_model, "run"), host(tiny_model, "run")
    reinforce = LearnerConfig(objective="reinforce", lr=1e-2)
    for one, settings in ((made, None), (other, reinforce)):
        one.forward_backward([PolicyUpdate("run", batch(0), settings=settings)])
    assert not all(map(torch.equal, gradients(made, "run"), gradients(other, "run")))
    made.optim_step("run", AdamConfig(lr=0.0))
    decayed = AdamConfig(lr=1e-2, weight_decay=0.5)
    weights = [parameter.detach().clone() for parameter in other.policies["run"].parameters]
    other.policies["run"].zero_grad()
    other.optim_step("run", decayed)
    for parameter, before in zip(other.policies["run"].parameters, weights, strict=True):
        torch.testing.assert_close(parameter.detach(), before * (1 - 1e-2 * 0.5))


def test_all_weights_are_the_models_own_again_when_their_policy_is_removed(tiny_model: ModelConfig) -> None:
    made = host(tiny_model, "run", weights="full")
    (base,) = made.score("run", [[5, 6, 7, 8]], "base")
    made.update([PolicyUpdate("run", batch(0))])
    assert made.score("run", [[5, 6, 7, 8]], "policy") != [base]
    made.remove("run")
    made.add(PolicySpec("adapted", LoraConfig(rank=1), CONFIG, 1.0, 0))
    assert made.score("adapted", [[5, 6, 7, 8]], "policy") == [base]
    made.update([PolicyUpdate("adapted", batch(0))])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"lr": -1e-4}, "learning_rate must be a number of at least 0, and is -0.0001"),
        ({"lr": float("inf")}, "learning_rate"),
        ({"lr": float("nan")}, "learning_rate"),
        ({"beta1": 1.0}, "beta1 must be at least 0 and below 1, and is 1"),
        ({"beta2": -0.1}, "beta2"),
        ({"eps": 0.0}, "eps must be at least 1e-18, and is 0"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"max_grad_norm": -1.0}, "grad_clip_norm"),
    ],
)
def test_a_step_that_cannot_be_taken_is_refused(changes: dict[str, float], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_adam(replace(AdamConfig(lr=1e-4), **changes))


@pytest.mark.parametrize("adam", [AdamConfig(lr=0.0), AdamConfig(lr=20.0, beta1=0.0, beta2=0.0, eps=1e4)])
def test_unusual_steps_are_let_through(adam: AdamConfig) -> None:
    check_adam(adam)
