"""A teacher whose model is another than its student's: it scores as that model does, and is held beside the student."""

import json
from pathlib import Path

import pytest
import torch
from helpers.loop import EXAMPLE, SMALL, Bomb, EagerGrader, Killed, configuration, split_of
from transformers import AutoConfig, AutoModelForCausalLM

from lora.base.resolve import resolve_model
from lora.base.tokenizer import load_tokenizer
from lora.config import LoraConfig, ModelConfig
from lora.peft.files import read_peft, write_peft
from lora.types import Adapter
from rl.cluster.components import shared_settings
from rl.cluster.division import StepCosts
from rl.cluster.learner import policy_spec
from rl.config import RunConfig, replaced
from rl.data.prompts import Encoder
from rl.jobs.package import JobPackage
from rl.launch.plan import plan_run
from rl.launch.train_recipe import TRAIN
from rl.learner.bases.frozen_model import FrozenSpec
from rl.learner.joint_updates import JointUpdates
from rl.learner.memory.plan import Budget, LearnerMemory
from rl.learner.policy_host import LearnerSpec, LocalHost
from rl.remote.learner import check_config
from rl.run.directory import RunDirectory
from rl.run.frozen_adapters import read_teacher
from rl.run.journal import FileJournal
from rl.run.sinks import Sink, Sinks
from rl.train import Components, train
from rollout.torch.engine import TorchEngine

SEQUENCES = [[5, 6, 7, 8, 9], [9, 4, 3]]


def saved(directory: Path, **changes: int) -> Path:
    """Write a random model of other widths than `tiny-random`, with its tokens."""
    torch.manual_seed(3)
    tiny = resolve_model("tiny-random")
    config = AutoConfig.from_pretrained(tiny)
    config.update({"num_hidden_layers": 1, "intermediate_size": 96, **changes})
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(directory)
    load_tokenizer(ModelConfig(name=str(tiny))).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("large") / "model")


@pytest.fixture(scope="module")
def adapter(large: Path, tmp_path_factory: pytest.TempPathFactory, make_adapter: object) -> Path:
    """A PEFT adapter on that model, which moves it."""
    directory = tmp_path_factory.mktemp("large-adapter") / "adapter"
    model = ModelConfig(name=str(large), dtype="float32", max_length=64)
    made: Adapter = make_adapter(model, LoraConfig(rank=2), size=0.3)  # pyright: ignore[reportCallIssue]
    write_peft(made, directory)
    return directory


def student(large: Path, *overrides: str) -> RunConfig:
    return configuration(*SMALL, "learner.lr=1e-2", f"teacher.model={large}", *overrides)


def host_of(config: RunConfig) -> LocalHost:
    return LocalHost(LearnerSpec(config.model, learner=config.learner, teacher=read_teacher(config)))


async def run(config: RunConfig, path: Path, *, resume: bool = False, sinks: tuple[Sink, ...] = ()) -> RunDirectory:
    directory = RunDirectory.open(path) if resume else RunDirectory.create(path, config)
    learner = await JointUpdates(host_of(config)).register(policy_spec(config, "run"))
    encode = Encoder(load_tokenizer(config.model), config.prompt, 60)
    parts = Components(learner, TorchEngine(config.model, config.lora), EagerGrader(), encode)
    await train(config, split_of(config), parts, FileJournal(directory, Sinks(sinks), resume=resume))
    return directory


async def test_it_scores_as_an_engine_of_that_model_does_with_and_without_an_adapter(
    large: Path, adapter: Path
) -> None:
    model = ModelConfig(name=str(large), dtype="float32", max_length=64)
    engine = TorchEngine(model, LoraConfig(rank=2))
    adapted = read_peft(adapter)
    seen: list[object] = []
    for config, expected in (
        (student(large), await engine.score(SEQUENCES, Adapter(adapted.run, 0, _silent(adapted)))),
        (student(large, f"teacher.adapter={adapter}"), await engine.score(SEQUENCES, adapted)),
    ):
        learner = await JointUpdates(host_of(config)).register(policy_spec(config, "run"))
        scores = await learner.score(SEQUENCES, under="teacher")
        assert [torch.tensor(s) for s in scores] == [pytest.approx(torch.tensor(e), abs=1e-5) for e in expected]
        assert scores not in (*seen, await learner.score(SEQUENCES, under="base"))
        seen.append(scores)


def _silent(adapter: Adapter) -> bytes:
    from lora.peft.files import pack, unpack

    tensors, description = unpack(adapter.payload)
    return pack({name: torch.zeros_like(tensor) for name, tensor in tensors.items()}, description)


@pytest.mark.parametrize("weights", ["lora", "full"])
async def test_a_student_comes_nearer_to_it_and_resumes_bit_for_bit(large: Path, tmp_path: Path, weights: str) -> None:
    lr = "1e-2" if weights == "lora" else "1e-3"
    config = student(
        large, "num_steps=5", "evaluate.every=5", "evaluate.num_problems=4", "sampling.max_tokens=6",
        f'learner.weights="{weights}"', f"learner.lr={lr}",
    )  # fmt: skip
    whole = await run(config, tmp_path / "whole")
    kl = [row["teacher/reverse_kl"] for row in whole.metrics() if "teacher/reverse_kl" in row]
    assert len(kl) == 5
    assert kl[-1] < 0.9 * kl[0]
    with pytest.raises(Killed):
        await run(config, tmp_path / "stopped", sinks=(Bomb(3),))
    resumed = await run(config, tmp_path / "stopped", resume=True)
    assert read_peft(resumed.adapters / "last") == read_peft(whole.adapters / "last")


def test_runs_share_a_learner_if_they_have_the_same_teacher(large: Path) -> None:
    own, base = student(large), configuration(*SMALL)
    assert shared_settings(own) != shared_settings(base)
    assert shared_settings(own) == shared_settings(replaced(own, learner={"lr": 1e-4}))
    assert shared_settings(replaced(base, teacher={"model": base.model.name})) == shared_settings(base)


def test_its_weights_and_its_passes_are_counted(large: Path) -> None:
    own, base = plan_run(student(large), EXAMPLE.parent), plan_run(configuration(*SMALL), EXAMPLE.parent)
    spec = FrozenSpec(ModelConfig(name=str(large), dtype="float32"))
    assert own.teacher_bytes == spec.bytes > 0
    assert own.learner_bytes == base.learner_bytes + spec.bytes
    tokens = own.scored_tokens
    assert base.scored_tokens == base.score_flops == 0
    assert own.score_flops == 2 * tokens * spec.linear_weights > 0
    assert StepCosts.of(student(large)).update_flops > StepCosts.of(configuration(*SMALL)).update_flops


def test_room_is_left_for_it_in_a_learners_memory() -> None:
    from lora.base.load import load_skeleton

    config = configuration(*SMALL)
    skeleton = load_skeleton(config.model)
    sizes = [
        LearnerMemory.of(skeleton, config.model, config.lora, config.learner, Budget(64, beside=beside)).bytes(
            checkpointing=False
        )
        for beside in (0.0, 1e9)
    ]
    assert sizes[1] - sizes[0] == pytest.approx(1e9)


def test_what_it_cannot_be_is_refused_before_a_weight_is_read(large: Path, adapter: Path, tmp_path: Path) -> None:
    def refused(directory: Path | str, *overrides: str) -> str:
        with pytest.raises(ValueError, match="model") as caught:
            TRAIN.prepare(student(Path(directory), *overrides), EXAMPLE.parent)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    other = saved(tmp_path / "other")
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    first, second = list(vocabulary)[-2:]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert "has other tokens than 'tiny-random'" in refused(other)
    few = saved(tmp_path / "few", vocab_size=AutoConfig.from_pretrained(large).vocab_size - 8)
    assert "name a model of at least as many" in refused(few)
    assert "nowhere" in refused(tmp_path / "nowhere")
    wide = saved(tmp_path / "wide", intermediate_size=64)
    assert "is for another model than" in refused(wide, f"teacher.adapter={adapter}")
    with pytest.raises(ValueError, match="a server holds one model"):
        check_config(replaced(student(large), lora={"alpha": 32.0}))


def test_a_job_finds_it_where_all_nodes_have_it(large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(large.parent)
    sent = JobPackage(tmp_path, EXAMPLE.parent).add(student(Path(large.name)))
    assert sent.teacher.model == str(large)
