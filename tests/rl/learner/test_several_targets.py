"""Several targets at a position: one distribution, of which each target is scored."""

from dataclasses import replace

import pytest
import torch
from helpers.free_form import made_data, moved_state, request_of
from torch import Tensor

from lora.config import LoraConfig, ModelConfig
from rl.algorithm.batch.datum import Datum
from rl.config import LearnerConfig
from rl.learner.passes.policy_loss import ForwardBackward
from rl.learner.policies.policy import PolicySpec
from rl.learner.policy_host import LearnerSpec, PolicyHost

COLUMNS = 3


def host(model: ModelConfig, *runs: str, lm_head: bool) -> PolicyHost:
    made = PolicyHost(LearnerSpec(model, "cpu", LearnerConfig(tokens_per_microbatch=70)))
    lora = LoraConfig(rank=2, lm_head=lm_head)
    for seed, run in enumerate(runs):
        made.add(PolicySpec(run, lora, LearnerConfig(), 1.0, 0))
        made.load_state(run, moved_state(model, lora, seed=seed))
    return made


def column(datum: Datum, index: int) -> Datum:
    return replace(
        datum,
        targets=datum.targets[:, index],
        weights=datum.weights[:, index],
        rollout_logprobs=datum.rollout_logprobs[:, index],
    )


def gradients(of: PolicyHost, run: str) -> list[Tensor]:
    return [parameter.grad.clone() for parameter in of.policies[run].parameters if parameter.grad is not None]


@pytest.mark.parametrize("chunk", [1, 5, 512])
@pytest.mark.parametrize("lm_head", [False, True], ids=["frozen head", "adapted head"])
def test_they_are_the_sum_of_requests_with_a_target_each(
    tiny_model: ModelConfig, monkeypatch: pytest.MonkeyPatch, lm_head: bool, chunk: int
) -> None:
    """Also where two policies share a microbatch."""
    monkeypatch.setattr("rl.learner.model.output_layer.CHUNK", chunk)
    runs = ("a", "b")
    data = {run: made_data(seed, (7, 1, 19), columns=COLUMNS) for seed, run in enumerate(runs)}
    whole, parts = host(tiny_model, *runs, lm_head=lm_head), host(tiny_model, *runs, lm_head=lm_head)
    together = whole.forward_backward([request_of(run, data[run]) for run in runs])
    by_column: list[list[ForwardBackward]] = [
        parts.forward_backward([request_of(run, [column(datum, index) for datum in data[run]]) for run in runs])
        for index in range(COLUMNS)
    ]
    for place, run in enumerate(runs):
        for row in range(3):
            expected = torch.stack([outputs[place].logprobs[row] for outputs in by_column], dim=1).flatten()
            torch.testing.assert_close(together[place].logprobs[row], expected, rtol=0, atol=2e-6)
        loss = sum(outputs[place].metrics["update/loss"] for outputs in by_column)
        assert together[place].metrics["update/loss"] == pytest.approx(loss, rel=1e-5)
        for got, tensor in zip(gradients(whole, run), gradients(parts, run), strict=True):
            assert tensor.norm() > 0
            assert (got - tensor).norm() <= 1e-5 * tensor.norm()


def test_the_output_layer_computes_a_position_once(tiny_model: ModelConfig) -> None:
    made = host(tiny_model, "run", lm_head=True)
    positions: list[int] = []
    made.model.model.get_output_embeddings().register_forward_hook(  # type: ignore[operator]
        lambda _, inputs, __: positions.append(len(inputs[0]))
    )
    made.forward([request_of("run", made_data(0, (7, 1, 19), columns=COLUMNS))])
    assert sum(positions) == 7 + 1 + 19
