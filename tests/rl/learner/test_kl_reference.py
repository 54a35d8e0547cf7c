"""A penalty for leaving an adapter instead of the base model, in the loss and in the reward."""

from pathlib import Path

import pytest
import torch
from helpers.fakes import made_groups
from helpers.loop import configuration

from lora.peft.files import read_peft, write_peft
from lora.types import Adapter
from rl.algorithm.advantage.step import kl_penalties
from rl.algorithm.batch.packing import build_batch
from rl.algorithm.metrics import Stopwatch
from rl.cluster.learner import policy_spec
from rl.config import RunConfig
from rl.learner.joint_updates import JointUpdates, PolicyLearner
from rl.learner.policy_host import LearnerSpec, LocalHost, PolicyUpdate
from rl.types import TrainBatch

IN_LOSS = ("learner.kl_coef=0.3", "learner.lr=1e-2")
GROUPS = made_groups(3, groups=3)


def batch() -> TrainBatch:
    return build_batch(GROUPS, [[0.5, 0.5, -0.5, -0.5]] * 3, 64, keep_all=True)


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An adapter with B = 0, which is the base model, and one of rank 2 that is not."""
    directory = tmp_path_factory.mktemp("references")
    for name, scale in (("base", 0.0), ("other", 0.2)):
        config = configuration("lora.rank=2", "lora.alpha=16")
        policy = LocalHost(LearnerSpec(config.model))._host.model.add(policy_spec(config, name))
        generator = torch.Generator().manual_seed(1)
        noise = {n: torch.randn(t.shape, generator=generator) for n, t in policy.weights.tensors().items()}
        tensors = {n: t.detach() + scale * noise[n] * n.endswith("lora_B") for n, t in policy.weights.tensors().items()}
        policy.weights.load(tensors)
        write_peft(policy.publish(torch.float32), directory / name)
    return directory / "base", directory / "other"


async def learner_of(config: RunConfig) -> PolicyLearner:
    return await JointUpdates(LocalHost(LearnerSpec(config.model))).register(policy_spec(config, "run"))


async def test_an_adapter_that_changes_nothing_is_the_base_to_the_bit(references: tuple[Path, Path]) -> None:
    states: list[bytes] = []
    for overrides in ([], [f"learner.kl_reference={references[0]}"]):
        learner = await learner_of(configuration(*IN_LOSS, *overrides))
        await learner.update(batch())
        await learner.update(batch())
        states.append(await learner.state())
    assert states[0] == states[1]


async def test_the_loss_compares_the_policy_with_the_adapter(references: tuple[Path, Path]) -> None:
    learner = await learner_of(configuration(*IN_LOSS, f"learner.kl_reference={references[1]}"))
    sequences = [[*g.prompt, *c.token_ids] for g in GROUPS for c in g.completions]
    lengths = [len(c.token_ids) for g in GROUPS for c in g.completions]
    own, other = [await learner.score(sequences, under=under) for under in ("policy", "reference")]
    gaps = torch.cat([torch.tensor(p[-n:]) - torch.tensor(q[-n:]) for p, q, n in zip(own, other, lengths, strict=True)])
    expected = (torch.exp(-gaps) - 1 + gaps).mean().item()
    first = await learner.update(batch())
    assert first["update/kl_base"] == pytest.approx(expected, rel=1e-3)
    assert expected > 0.01
    for _ in range(15):
        last = await learner.update(batch())
    assert last["update/kl_base"] < first["update/kl_base"], "the penalty draws the policy towards it"


async def test_policies_together_have_their_own_references(references: tuple[Path, Path]) -> None:
    configs = [configuration(*IN_LOSS, *more) for more in ([], [f"learner.kl_reference={references[1]}"])]
    alone = [(await (await learner_of(config)).update(batch()))["update/kl_base"] for config in configs]
    host = LocalHost(LearnerSpec(configs[0].model))
    for name, config in zip(("a", "b"), configs, strict=True):
        await host.add(policy_spec(config, name))
    together = await host.update([PolicyUpdate(name, batch()) for name in ("a", "b")])
    assert [metrics["update/kl_base"] for metrics in together] == pytest.approx(alone, abs=1e-6)
    assert alone[0] == pytest.approx(0, abs=1e-6)
    assert alone[1] > 0.01


async def test_the_reward_pays_for_leaving_the_adapter(references: tuple[Path, Path]) -> None:
    config = configuration(
        "learner.kl_coef=0.5", "learner.kl_in=reward", "learner.kl_estimator=k1",
        f"learner.kl_reference={references[1]}",
    )  # fmt: skip
    learner = await learner_of(config)
    penalties = await kl_penalties(GROUPS, config, learner, Stopwatch())
    assert penalties is not None
    completion = GROUPS[0].completions[0]
    (scores,) = await learner.score([[*GROUPS[0].prompt, *completion.token_ids]], under="reference")
    reference = scores[-len(completion.token_ids) :]
    expected = [0.5 * (p - q) for p, q in zip(completion.logprobs, reference, strict=True)]
    assert penalties[0][0] == pytest.approx(expected, rel=1e-4)


def test_a_reference_without_a_penalty_is_refused(references: tuple[Path, Path]) -> None:
    with pytest.raises(ValueError, match=r"set learner\.kl_coef"):
        configuration(f"learner.kl_reference={references[1]}")
    assert isinstance(read_peft(references[1]), Adapter)
