"""A student that learns from what a teacher thinks of each of its own tokens, and what a teacher may be."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.fakes import CRASHED, made_groups
from helpers.loop import EXAMPLE, SMALL, Bomb, EagerGrader, Killed, configuration, split_of, timeless

from lora.base.tokenizer import load_tokenizer
from lora.config import LoraConfig
from lora.peft.files import pack, read_peft, unpack, write_peft
from lora.types import Adapter
from rl.algorithm.advantage.distillation import teacher_metrics, with_teacher
from rl.algorithm.batch.packing import build_batch
from rl.cluster.learner import policy_spec
from rl.config import RunConfig, replaced
from rl.data.prompts import Encoder
from rl.jobs.package import JobPackage
from rl.launch.train_recipe import TRAIN
from rl.learner.joint_updates import JointUpdates
from rl.learner.policy_host import LearnerSpec, LocalHost
from rl.remote.learner import check_config
from rl.run.directory import RunDirectory
from rl.run.journal import FileJournal
from rl.run.sinks import Sink, Sinks
from rl.train import Components, train
from rollout.torch.engine import TorchEngine

TEACHER = ("lora.rank=2", "lora.alpha=16")
"""Another shape than the student's."""


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PEFT adapter of rank 2 with a B that is not zero."""
    config = configuration(*TEACHER)
    host = LocalHost(LearnerSpec(config.model))
    policy = host._host.model.add(policy_spec(config, "teacher"))
    generator = torch.Generator().manual_seed(1)
    tensors = {
        name: tensor.detach() + 0.3 * torch.randn(tensor.shape, generator=generator) * name.endswith("lora_B")
        for name, tensor in policy.weights.tensors().items()
    }
    policy.weights.load(tensors)
    directory = tmp_path_factory.mktemp("teacher") / "adapter"
    write_peft(policy.publish(torch.float32), directory)
    return directory


def student(teacher: Path, *overrides: str) -> RunConfig:
    return configuration(*SMALL, "learner.lr=1e-2", f"teacher.adapter={teacher}", *overrides)


async def learner_of(config: RunConfig) -> Components:
    learner = await JointUpdates(LocalHost(LearnerSpec(config.model))).register(policy_spec(config, "run"))
    encode = Encoder(load_tokenizer(config.model), config.prompt, 60)
    return Components(learner, TorchEngine(config.model, config.lora), EagerGrader(), encode)


async def run(config: RunConfig, path: Path, *, resume: bool = False, sinks: Sequence[Sink] = ()) -> RunDirectory:
    directory = RunDirectory.open(path) if resume else RunDirectory.create(path, config)
    journal = FileJournal(directory, Sinks(sinks), resume=resume)
    await train(config, split_of(config), await learner_of(config), journal)
    return directory


async def test_a_teacher_of_another_shape_scores_as_an_engine_with_it_does(teacher: Path) -> None:
    config = student(teacher)
    parts = await learner_of(config)
    sequences = [[5, 6, 7, 8], [9, 4, 3]]
    adapter = read_peft(teacher)
    engine = TorchEngine(config.model, LoraConfig(rank=2, alpha=16))
    expected = await engine.score(sequences, adapter)
    scores = await parts.learner.score(sequences, under="teacher")
    assert [torch.tensor(s) for s in scores] == [pytest.approx(torch.tensor(e), abs=1e-5) for e in expected]
    base = await parts.learner.score(sequences, under="base")
    assert base != scores
    assert await parts.learner.score(sequences) == base, "a fresh student is the base"


def test_a_tokens_advantage_is_its_own_log_ratio_and_nothing_else() -> None:
    config = replaced(configuration(), teacher={"model": configuration().model.name, "coef": 0.5})
    groups = made_groups(0, groups=2)
    groups[1] = replace(groups[1], rewards=[CRASHED, *groups[1].rewards[1:]])
    ratios = [[[0.1 * i for i, _ in enumerate(c.token_ids)] for c in group.completions] for group in groups]
    rewarded = [[1.0, 1.0, -1.0, -1.0], [0.0, 1.0, -1.0, -1.0]]
    advantages = with_teacher(groups, rewarded, ratios, config)
    assert advantages[0] == [pytest.approx([0.5 * r for r in of]) for of in ratios[0]]
    assert advantages[1][0] == 0.0, "what crashed is not of the step"
    added = with_teacher(groups, rewarded, ratios, replaced(config, teacher={"rewards": True}))
    assert added[0][2] == pytest.approx([0.5 * r - 1 for r in ratios[0][2]])
    total = sum(r for group in ratios for of in group for r in of)
    count = sum(len(c.token_ids) for group in groups for c in group.completions)
    assert teacher_metrics(groups, ratios) == {"teacher/reverse_kl": pytest.approx(-total / count)}


async def test_a_student_comes_nearer_to_its_teacher_and_resumes_bit_for_bit(teacher: Path, tmp_path: Path) -> None:
    config = student(teacher, "num_steps=5", "evaluate.every=5", "sampling.max_tokens=6")
    whole = await run(config, tmp_path / "whole")
    kl = [row["teacher/reverse_kl"] for row in whole.metrics() if "teacher/reverse_kl" in row]
    assert len(kl) == 5
    assert kl[-1] < 0.7 * kl[0]
    with pytest.raises(Killed):
        await run(config, tmp_path / "stopped", sinks=[Bomb(3)])
    resumed = await run(config, tmp_path / "stopped", resume=True)
    assert read_peft(resumed.adapters / "last") == read_peft(whole.adapters / "last")
    assert timeless(resumed)[-1]["eval/accuracy"] == timeless(whole)[-1]["eval/accuracy"]


async def test_a_teacher_beside_it_changes_nothing_of_an_update(teacher: Path) -> None:
    states: list[bytes] = []
    for config in (student(teacher), configuration(*SMALL, "learner.lr=1e-2")):
        host = LocalHost(LearnerSpec(config.model))
        learner = await JointUpdates(host).register(policy_spec(config, "run"))
        batch = build_batch(made_groups(3), [[0.5, 0.5, -0.5, -0.5]] * 3, 64)
        await learner.update(batch)
        states.append(await learner.state())
        await host.remove("run")
        assert not host._host.policies
    assert states[0] == states[1]


async def test_a_restarted_learner_has_its_teacher_again(teacher: Path) -> None:
    parts = await learner_of(student(teacher))
    before = await parts.learner.score([[5, 6, 7]], under="teacher")
    await parts.learner.restart()
    assert await parts.learner.score([[5, 6, 7]], under="teacher") == before


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (["teacher.adapter=x", 'teacher.quantization="int8"'], "set model.quantization"),
        (["teacher.adapter=x", "sampling.temperature=0.7"], "set sampling.temperature and top_p to 1"),
        (["teacher.adapter=x", "curriculum.refill_rounds=1"], "or teacher.rewards = true"),
        (["teacher.adapter=x", 'learner.weights="full"'], 'set it to "lora"'),
    ],
)
def test_what_a_teacher_cannot_be_is_refused(overrides: list[str], complaint: str) -> None:
    with pytest.raises(ValueError, match="teacher") as caught:
        configuration(*overrides)
    assert complaint in str(caught.value)


def test_a_teacher_that_is_not_there_or_of_another_model_is_refused_before_the_run(
    teacher: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"teacher\.adapter: there is no directory 'nowhere'"):
        TRAIN.prepare(configuration("teacher.adapter=nowhere"), EXAMPLE.parent)
    adapter = read_peft(teacher)
    tensors, description = unpack(adapter.payload)
    other = Adapter(
        "other", 0, pack({n: torch.zeros(t.shape[0], t.shape[1] + 1) for n, t in tensors.items()}, description)
    )
    write_peft(other, tmp_path / "other")
    with pytest.raises(ValueError, match=r"teacher\.adapter: the adapter in .* is for another model than"):
        TRAIN.prepare(configuration(f"teacher.adapter={tmp_path / 'other'}"), EXAMPLE.parent)
    with pytest.raises(ValueError, match="a server has no adapter of a client's"):
        check_config(replaced(configuration(f"teacher.adapter={teacher}"), lora={"alpha": 32.0}))


def test_a_job_takes_its_teacher_along(teacher: Path, tmp_path: Path) -> None:
    sent = JobPackage(tmp_path, EXAMPLE.parent).add(configuration(f"teacher.adapter={teacher}"))
    assert sent.teacher.adapter is not None
    assert read_peft(tmp_path / sent.teacher.adapter).payload == read_peft(teacher).payload
