"""What must hold of one update, whichever way it is computed."""

import asyncio
from collections.abc import Sequence

import pytest
import torch
from helpers.torch_learner import TorchLearner
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lora.config import LoraConfig, ModelConfig
from rewards.types import Outcome, Problem, Reward
from rl.algorithm.advantage.estimators import advantages
from rl.algorithm.batch.packing import build_batch
from rl.algorithm.objective.policy_gradient import OBJECTIVES
from rl.config import LearnerConfig
from rl.types import Group, TrainBatch
from rollout.types import Completion

TINY = ModelConfig(name="tiny-random", dtype="float32", max_length=64)


def make_learner(rank: int = 2, temperature: float = 1.0, size: float = 0.05, **settings: object) -> TorchLearner:
    """A learner whose adapter does something already."""
    config = LearnerConfig.model_validate({"max_grad_norm": None, **settings})
    learner = TorchLearner("run", TINY, LoraConfig(rank=rank), config, temperature=temperature, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in learner.policy.weights.values():
            layer.lora_B.copy_(torch.randn(layer.lora_B.shape, generator=generator) * size)
    return learner


def make_groups(count: int = 5, size: int = 4) -> list[Group]:
    """Prompts and completions of different lengths, with logprobs near enough to the policy's to be off policy."""
    generator = torch.Generator().manual_seed(2)

    def tokens(low: int, high: int) -> list[int]:
        length = int(torch.randint(low, high, (1,), generator=generator))
        return torch.randint(3, 40, (length,), generator=generator).tolist()

    groups: list[Group] = []
    for index in range(count):
        completions = [tokens(1, 7) for _ in range(size)]
        sampled = [torch.rand(len(c), generator=generator).sub(4.0).tolist() for c in completions]
        rewards = torch.rand(size, generator=generator).tolist()
        groups.append(
            Group(
                Problem(str(index), "", ""),
                tokens(3, 9),
                [Completion(tuple(c), tuple(p), "", "stop", 0) for c, p in zip(completions, sampled, strict=True)],
                [Reward(value, Outcome.CORRECT) for value in rewards],
            )
        )
    return groups


def make_batch(groups: Sequence[Group], tokens_per_row: int = 1024) -> TrainBatch:
    return build_batch(groups, [advantages(group.rewards) for group in groups], tokens_per_row)


def gradient(learner: TorchLearner, batch: TrainBatch) -> Tensor:
    """The step's gradient as one vector."""
    asyncio.run(learner.update(batch))
    return torch.cat([parameter.grad.flatten() for parameter in learner.policy.weights.tensors().values()])  # type: ignore[union-attr]


def plain_gradient(learner: TorchLearner, groups: Sequence[Group], temperature: float = 1.0) -> Tensor:
    """The same written out: every completion alone behind its prompt, whole logits, autograd, nothing shared."""
    tokens = sum(len(c.token_ids) for group in groups for c in group.completions)
    loss = torch.zeros(())
    for group in groups:
        for completion, advantage in zip(group.completions, advantages(group.rewards), strict=True):
            ids = torch.tensor([[*group.prompt, *completion.token_ids]])
            logprobs = (learner.shared.model(ids).logits[0, :-1] / temperature).log_softmax(-1)  # pyright: ignore
            chosen = logprobs.gather(1, ids[0, 1:, None])[len(group.prompt) - 1 :, 0]
            ratio = (chosen.detach() - torch.tensor(completion.logprobs)).exp().clamp(max=2.0)
            loss = loss - (ratio * advantage * chosen).sum() / tokens
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(learner.policy.weights.tensors().values()))])


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_an_update_has_the_gradient_of_the_formula(temperature: float) -> None:
    groups = make_groups()
    expected = plain_gradient(make_learner(temperature=temperature), groups, temperature)
    torch.testing.assert_close(
        gradient(make_learner(temperature=temperature), make_batch(groups)), expected, rtol=1e-4, atol=1e-7
    )


@pytest.mark.parametrize(("tokens_per_row", "tokens_per_microbatch"), [(1, 4096), (1024, 1), (1, 1), (20, 60)])
def test_rows_and_microbatches_change_nothing(tokens_per_row: int, tokens_per_microbatch: int) -> None:
    groups = make_groups()
    whole = gradient(make_learner(), make_batch(groups))
    cut = gradient(make_learner(tokens_per_microbatch=tokens_per_microbatch), make_batch(groups, tokens_per_row))
    torch.testing.assert_close(cut, whole, rtol=1e-4, atol=1e-7)


def test_gradient_checkpointing_changes_nothing() -> None:
    batch = make_batch(make_groups())
    torch.testing.assert_close(
        gradient(make_learner(gradient_checkpointing=True), batch), gradient(make_learner(), batch)
    )


def test_a_group_without_spread_needs_no_row_but_is_counted() -> None:
    groups = make_groups(2)
    flat = Group(groups[1].problem, groups[1].prompt, groups[1].completions, [Reward(1.0, Outcome.CORRECT)] * 4)
    alone, beside = make_batch(groups[:1]), make_batch([groups[0], flat])
    assert len(beside.rows) == len(alone.rows) == 1
    extra = sum(len(c.token_ids) for c in flat.completions)
    assert beside.num_tokens == alone.num_tokens + extra
    scale = alone.num_tokens / beside.num_tokens
    torch.testing.assert_close(gradient(make_learner(), beside), gradient(make_learner(), alone) * scale)


def test_no_signal_is_a_counted_no_op() -> None:
    learner = make_learner()
    before = asyncio.run(learner.state())
    metrics = asyncio.run(learner.update(TrainBatch([], 100, 10)))
    assert metrics == {"update/skipped": 1.0}
    assert asyncio.run(learner.state()) == before


def test_a_non_finite_step_is_counted_and_changes_nothing() -> None:
    learner = make_learner()
    before = asyncio.run(learner.state())
    groups = make_groups(1)
    bad = Completion((5, 6), (float("nan"), -1.0), "", "stop", 0)
    broken = Group(groups[0].problem, groups[0].prompt, [bad, *groups[0].completions[1:]], groups[0].rewards)
    assert asyncio.run(learner.update(make_batch([broken])))["update/nonfinite"] == 1.0
    assert asyncio.run(learner.state()) == before


def test_resuming_is_never_having_stopped() -> None:
    batches = [make_batch(make_groups(count)) for count in (2, 3, 4)]

    async def run(stop_after: int | None) -> bytes:
        learner = make_learner()
        for index, batch in enumerate(batches):
            if index == stop_after:
                kept = await learner.state()
                learner = make_learner(size=0.5)
                await learner.load_state(kept)
            await learner.update(batch)
        return await learner.state()

    never = asyncio.run(run(None))
    assert asyncio.run(run(0)) == asyncio.run(run(1)) == asyncio.run(run(2)) == never


@pytest.mark.parametrize("name", OBJECTIVES)
def test_on_policy_every_objective_has_the_gradient_of_reinforce(name: str) -> None:
    logprobs = torch.tensor([-0.5, -1.0, -2.0, -0.1], requires_grad=True)
    advantage, sequences = torch.tensor([1.0, 1.0, -0.5, -0.5]), torch.tensor([0, 0, 1, 1])
    loss = OBJECTIVES[name](logprobs - logprobs.detach(), advantage, sequences, LearnerConfig())
    (grad,) = torch.autograd.grad(loss.sum(), logprobs)
    torch.testing.assert_close(grad, -advantage / 2 if name == "gspo" else -advantage)


def test_off_policy_the_importance_weight_is_truncated() -> None:
    log_ratio = torch.tensor([0.0, 0.5, 3.0, -3.0], requires_grad=True)
    loss = OBJECTIVES["importance"](
        log_ratio, torch.ones(4), torch.zeros(4, dtype=torch.long), LearnerConfig(max_ratio=2)
    )
    (grad,) = torch.autograd.grad(loss.sum(), log_ratio)
    torch.testing.assert_close(-grad, torch.tensor([0.0, 0.5, 3.0, -3.0]).exp().clamp(max=2.0))


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=16), st.sampled_from(["mean", "mean_std", "leave_one_out"]))
def test_advantages_sum_to_zero(values: list[float], kind: str) -> None:
    rewards = [Reward(value, Outcome.CORRECT) for value in values]
    assert sum(advantages(rewards, kind)) == pytest.approx(0, abs=1e-5)  # type: ignore[arg-type]


def test_a_crashed_grade_moves_nobody() -> None:
    rewards = [Reward(1.0, Outcome.CORRECT), Reward(0.0, Outcome.WRONG)]
    crashed = [*rewards, Reward(0.0, Outcome.CRASHED)]
    assert advantages(crashed) == [*advantages(rewards), 0.0]
