"""Supervised fine-tuning: its gradient is cross-entropy's, a run that was stopped ends as one that was not, and what it
ends with is where reinforcement learning begins."""

import asyncio
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from helpers.reference import logprobs
from helpers.small_disk import small_disk
from helpers.tokenizer import byte_tokenizer
from helpers.torch_learner import TorchLearner
from torch import Tensor
from typer.testing import CliRunner

from lora.base.tokenizer import load_end_tokens, load_tokenizer
from lora.config import LoraConfig, ModelConfig
from lora.peft.files import read_peft, unpack
from rewards.types import Problem
from rl.algorithm.batch.demonstrations import Demonstration, SftEncoder, build_sft_batch
from rl.cli.app import app
from rl.config import LearnerConfig, PromptConfig, RunConfig, SftConfig, Shot
from rl.jobs.package import write_job
from rl.launch.restarts import loop_with_restarts
from rl.launch.session import open_alone
from rl.launch.sft_recipe import SFT, PreparedSft, resolve_sft_runtime
from rl.run.directory import RunDirectory
from rl.run.journal import FileJournal
from rl.run.sinks import Ended, Sink, Sinks
from rl.settings.toml import load_config
from rl.sft import log_loss, train_sft

EXAMPLES = Path(__file__).parents[3] / "examples"
EXAMPLE, RL_EXAMPLE = EXAMPLES / "sft-tiny.toml", EXAMPLES / "tiny.toml"
TINY = ModelConfig(name="tiny-random", dtype="float32", max_length=64)
EXAMINED = ("sft.accuracy=true", "runtime=local", "rollout.engine=torch", "reward.workers=1")
SMALL = ("problems_per_step=8", "evaluate.every=2", "evaluate.num_problems=8", "num_steps=6", "checkpoint_every=1")


# --- what is learned from ---


def demonstrator(tokenizer: Any, prompt: PromptConfig, *, completion: str = "{answer}", **more: Any) -> SftEncoder:
    options = {"max_length": 1000, "end_tokens": set[int]()} | more
    return SftEncoder(tokenizer, prompt, SftConfig(completion=completion), **options)


def test_a_demonstration_is_the_chat_that_the_template_writes() -> None:
    tokenizer = load_tokenizer(TINY)
    ends = load_end_tokens(TINY, tokenizer)
    shown = demonstrator(tokenizer, PromptConfig(system="add. "), end_tokens=ends)(Problem("p", "1 + 2 = ", "3"))
    turns = [("system", "add. "), ("user", "1 + 2 = "), ("assistant", "3")]
    chat = [{"role": role, "content": content} for role, content in turns]
    assert shown.prompt + shown.completion == tokenizer.apply_chat_template(chat, tokenize=True, return_dict=False)
    assert shown.completion[-1] == tokenizer.eos_token_id


def test_a_turn_ends_as_the_template_ends_it_where_engines_stop_there() -> None:
    template = "{% for m in messages %}[{{ m.content }}|{% endfor %}{% if add_generation_prompt %}[{% endif %}"
    tokenizer = byte_tokenizer(template)
    tokenizer.eos_token = "E"
    bar, eos = tokenizer.convert_tokens_to_ids(["|", "E"])
    problem = Problem("p", "q", "a")
    assert demonstrator(tokenizer, PromptConfig(), end_tokens={bar, eos})(problem).completion[1:] == [bar]
    assert demonstrator(tokenizer, PromptConfig(), end_tokens={eos})(problem).completion[1:] == [eos]


def test_a_plain_text_answer_stands_as_a_shots_does() -> None:
    tokenizer = byte_tokenizer(None)
    tokenizer.eos_token = "E"
    config = PromptConfig(chat_template=False, shots=(Shot(question="1 + 1 =", answer="2"),))
    shown = demonstrator(tokenizer, config)(Problem("p", "1 + 1 =", "2"))
    written = "".join(tokenizer.convert_ids_to_tokens(shown.prompt + shown.completion))
    assert written.replace("Ġ", " ").replace("Ċ", "\n") == "<s>1 + 1 = 2\n\n1 + 1 = 2E"


def test_a_completion_is_made_of_columns() -> None:
    problem = Problem("p", "q", "7", {"solution": "3 + {4}", "n": 2.0})
    make = {
        "{solution} so {answer}": "3 + {4} so 7",
        "solution": "3 + {4}",
        "{n} {question}": "2 q",
    }
    for template, text in make.items():
        assert demonstrator(load_tokenizer(TINY), PromptConfig(), completion=template).text(problem) == text
    for template, complaint in {"{steps}": "no column 'steps'", "constant": "names no column"}.items():
        with pytest.raises(ValueError, match=complaint):
            demonstrator(load_tokenizer(TINY), PromptConfig(), completion=template).text(problem)


def test_the_longest_demonstration_is_found_by_its_tokens() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.eos_token = "E"
    long = [Problem(f"long/{i}", "q", "1 + 1 = 2 and so on") for i in range(2000)]
    problems = [*long, Problem("rare", "q", "𝔸𝔹𝔻𝔼𝔽"), *long]
    show = demonstrator(tokenizer, PromptConfig())
    lengths = [len(shown.prompt) + len(shown.completion) for shown in map(show, problems)]
    assert show.longest(problems) == max(lengths) == lengths[2000]
    with pytest.raises(
        ValueError, match=r"problem rare has \d+ tokens of prompt and 21 of completion, more than model"
    ):
        demonstrator(tokenizer, PromptConfig(), max_length=max(lengths) - 1).longest(problems)
    with pytest.raises(ValueError, match="no column 'steps'"):
        demonstrator(tokenizer, PromptConfig(), completion="{steps}").longest(problems)


# --- the update ---

LESSON = [
    Demonstration([5, 6, 7], [8, 9, 1]),
    Demonstration([10, 11], [12, 1]),
    Demonstration([5, 6, 7], [13, 14, 15, 16, 1]),
]


def learner_of(**settings: object) -> TorchLearner:
    """One whose adapter does something already."""
    config = LearnerConfig.model_validate({"objective": "cross_entropy", "max_grad_norm": None, **settings})
    learner = TorchLearner("run", TINY, LoraConfig(rank=2), config, temperature=1.0, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in learner.policy.weights.tensors().items():
            if name.endswith("lora_B"):
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.05)
    return learner


def cross_entropy(learner: TorchLearner) -> Tensor:
    """Written out: every demonstration alone, all logits at once, the prompt no target."""
    total = -sum(logprobs(learner.shared.model, d.prompt, tuple(d.completion)).sum() for d in LESSON)
    return total / sum(len(d.completion) for d in LESSON)


@pytest.mark.parametrize(("tokens_per_row", "tokens_per_microbatch"), [(1024, 4096), (1, 1), (1024, 1)])
async def test_an_update_has_plain_cross_entropys_gradient(tokens_per_row: int, tokens_per_microbatch: int) -> None:
    learner = learner_of()
    loss = cross_entropy(learner)
    expected = torch.autograd.grad(loss, list(learner.policy.weights.tensors().values()))
    learner = learner_of(tokens_per_microbatch=tokens_per_microbatch)
    batch = build_sft_batch(LESSON, tokens_per_row)
    assert len(batch.rows) == (3 if tokens_per_row == 1 else 2)
    metrics = await learner.update(batch)
    assert metrics["update/loss"] == pytest.approx(loss.item(), rel=1e-5)
    for tensor, gradient in zip(learner.policy.weights.tensors().values(), expected, strict=True):
        torch.testing.assert_close(tensor.grad, gradient, rtol=1e-4, atol=2e-6)


async def test_log_loss_is_cross_entropy() -> None:
    learner = learner_of()
    assert await log_loss(learner, LESSON) == pytest.approx(cross_entropy(learner).item(), rel=1e-5)


# --- the run ---


class Killed(BaseException):
    """Stands for the end of the process."""


class Bomb(Sink):
    """Ends the run when a step is done, as a kill would: nothing after it happens."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step(self, step: int, *_: object) -> None:
        if step == self._step:
            raise Killed

    def on_eval(self, *_: object) -> None:
        """Goes on."""

    def close(self, ended: Ended) -> None:
        """Nothing to release."""


def prepared_run(*overrides: str) -> PreparedSft:
    return SFT.prepare(load_config(EXAMPLE, [*SMALL, *overrides]), EXAMPLES)


async def fine_tune(run: PreparedSft, path: Path, *, resume: bool = False, sinks: Sequence[Sink] = ()) -> RunDirectory:
    directory = RunDirectory.open(path) if resume else RunDirectory.create(path, run.config)
    async with open_alone(SFT, run, "run") as (learner, _):
        journal = FileJournal(directory, Sinks(sinks), resume=resume)
        await train_sft(run.config, run.problems, run.encode_sft, learner, journal)
    return directory


def timeless(directory: RunDirectory) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in row.items() if not name.startswith(("time", "throughput"))}
        for row in directory.metrics()
    ]


@pytest.mark.parametrize(("killed_at", "checkpoint_every"), [(0, 1), (3, 1), (5, 4)])
async def test_a_run_killed_and_resumed_equals_one_never_stopped(
    tmp_path: Path, killed_at: int, checkpoint_every: int
) -> None:
    run = prepared_run(f"checkpoint_every={checkpoint_every}")
    whole = await fine_tune(run, tmp_path / "whole")
    with pytest.raises(Killed):
        await fine_tune(run, tmp_path / "stopped", sinks=[Bomb(killed_at)])
    resumed = await fine_tune(run, tmp_path / "stopped", resume=True)
    assert [row["step"] for row in resumed.metrics()] == list(range(7))
    assert timeless(resumed) == timeless(whole)
    one, other = (unpack(read_peft(run.adapters / "last").payload)[0] for run in (resumed, whole))
    assert all(torch.equal(one[name], other[name]) for name in one)


async def test_a_run_in_this_process_hears_that_it_is_to_end(tmp_path: Path) -> None:
    """Nothing in it waits by itself, and a signal is heard only while the loop runs."""
    run = asyncio.ensure_future(fine_tune(prepared_run("num_steps=300", "evaluate.every=300"), tmp_path / "run"))
    asyncio.get_running_loop().call_later(0.01, run.cancel)
    with pytest.raises(asyncio.CancelledError):
        await run


def rankone(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def sets(*overrides: str) -> list[str]:
    return [part for override in overrides for part in ("--set", override)]


def test_a_run_on_all_linear_layers_keeps_their_names_and_goes_on_with_the_text(tmp_path: Path) -> None:
    lora = ("lora.targets=all-linear", 'lora.exclude=["o_proj"]')
    for steps, more in ((1, []), (2, ["--resume"])):
        ran = rankone("sft", EXAMPLE, "--out", tmp_path / "run", *more, *sets(*SMALL, *lora, f"num_steps={steps}"))
        assert ran.exit_code == 0, ran.output
        assert "lora" not in ran.stderr
    resolved = load_config(tmp_path / "run" / "config.toml").lora
    names = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "down_proj")
    assert (resolved.targets, resolved.exclude) == (names, ())
    assert set(unpack(read_peft(tmp_path / "run" / "adapters" / "last").payload)[1].targets) == set(names)
    assert [row["step"] for row in RunDirectory(tmp_path / "run").metrics()] == [0, 1, 2]
    ran = rankone("sft", EXAMPLE, "--out", tmp_path / "no", *sets(*SMALL, 'lora.exclude=["w9"]'))
    assert (ran.exit_code, len(ran.stderr.strip().splitlines())) == (2, 1), ran.output
    assert "lora.exclude names w9" in ran.stderr
    planned = rankone("plan", EXAMPLE, *sets(*lora))
    assert planned.exit_code == 0, planned.output
    measured = rankone("eval", EXAMPLE, *sets(*SMALL, *lora, "runtime=local", "rollout.engine=torch"))
    assert measured.exit_code == 0, measured.output


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """The example, half as long, with accuracy measured too, and what it printed."""
    out = tmp_path_factory.mktemp("runs") / "run"
    more = sets("num_steps=30", "sft.accuracy=true", "runtime=local", "rollout.engine=torch", "reward.workers=1")
    return out, rankone("sft", EXAMPLE, "--out", out, *more)


def test_the_example_learns_and_leaves_everything_a_run_promises(taught: tuple[Path, Result]) -> None:
    out, result = taught
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    losses = [row["eval/log_loss"] for row in rows if "eval/log_loss" in row]
    accuracies = [row["eval/accuracy"] for row in rows if "eval/accuracy" in row]
    assert losses[0] > 3
    assert losses[-1] < 1.2
    assert accuracies[0] < 0.1 < 0.3 < accuracies[-1]
    assert {"update/loss", "update/grad_norm", "update/tokens", "data/epoch", "throughput/update_tokens_per_s"} <= {
        *rows[0]
    }
    assert not {"update/kl_sampler_learner", "update/clip_fraction"} & {*rows[0]}
    assert (out / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert any((out / "tensorboard").iterdir())
    assert {path.name for path in (out / "checkpoints").iterdir()} == {"best", "step-000020", "step-000030"}
    summary = f"held-out log-loss {losses[0]:.2f} -> {losses[-1]:.2f} nats a token, accuracy 0.0"
    assert summary in result.output
    assert "rank 8, 32,768 trained parameters, 30 steps" in result.output


def test_reinforcement_learning_begins_where_it_ended(taught: tuple[Path, Result], tmp_path: Path) -> None:
    out, _ = taught
    ended = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    best = min((row for row in ended if "eval/log_loss" in row), key=lambda row: row["eval/log_loss"])
    settings = sets(
        f"lora.init={out}", "num_steps=1", "sampling.group_size=4", "problems_per_step=8", "reward.workers=1"
    )
    result = rankone("train", RL_EXAMPLE, "--out", tmp_path / "rl", *settings)
    assert result.exit_code == 0, result.output
    first = json.loads((tmp_path / "rl" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["eval/accuracy"] == best["eval/accuracy"]
    assert first["policy/version"] == 0
    again = rankone("sft", EXAMPLE, "--out", tmp_path / "sft", *sets(f"lora.init={out}", "num_steps=0"))
    assert again.exit_code == 0, again.output
    measured = json.loads((tmp_path / "sft" / "metrics.jsonl").read_text().splitlines()[0])
    assert measured["eval/log_loss"] == pytest.approx(best["eval/log_loss"], rel=1e-6)
    other = rankone("train", RL_EXAMPLE, "--out", tmp_path / "sft", "--resume", *sets("num_steps=1"))
    assert (other.exit_code, "`rankone sft`" in other.stderr) == (2, True)


@pytest.fixture(scope="module")
def taught_at_rank_1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the example's run at rank 1, of a few steps, with its accuracy measured."""
    out = tmp_path_factory.mktemp("runs") / "rank-1"
    ran = rankone("sft", EXAMPLE, "--out", out, *sets(*EXAMINED, "num_steps=20", "lora.rank=1"))
    assert ran.exit_code == 0, ran.output
    return out


@pytest.mark.parametrize("shape", [("lora.rank=8",), ("lora.rank=2", "lora.alpha=8", "lora.lm_head=true")])
def test_a_run_of_another_shape_begins_where_the_adapter_is(
    taught_at_rank_1: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, shape: tuple[str, ...]
) -> None:
    rows = [row for row in RunDirectory(taught_at_rank_1).metrics() if "eval/log_loss" in row]
    best = min(rows, key=lambda row: row["eval/log_loss"])
    assert best["eval/accuracy"] > 0.1
    settings = sets(*EXAMINED, f"lora.init={taught_at_rank_1}", "num_steps=0", *shape)
    ran = rankone("sft", EXAMPLE, "--out", tmp_path / "run", *settings)
    assert ran.exit_code == 0, ran.output
    (first,) = RunDirectory(tmp_path / "run").metrics()
    assert first["eval/accuracy"] == best["eval/accuracy"]
    assert first["eval/log_loss"] == pytest.approx(best["eval/log_loss"], rel=1e-5)
    assert ("begin fresh" in caplog.text) == ("lora.lm_head=true" in shape)


def test_an_adapter_is_cut_where_that_is_asked_for(
    taught: tuple[Path, Result], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = (f"lora.init={taught[0]}", "lora.rank=2", "lora.init_fit=nearest", "num_steps=0")
    ran = rankone("sft", EXAMPLE, "--out", tmp_path / "run", *sets(*settings))
    assert ran.exit_code == 0, ran.output
    assert re.search(
        r"was cut from rank 8 to 2, which lost 0\.\d+ of its products' norm \(0\.\d+ in model", caplog.text
    )
    (first,) = RunDirectory(tmp_path / "run").metrics()
    assert first["eval/log_loss"] < 3, "an untrained adapter's is above"


async def test_a_run_from_an_adapter_of_another_rank_killed_and_resumed_equals_one_never_stopped(
    taught_at_rank_1: Path, tmp_path: Path
) -> None:
    run = prepared_run(f"lora.init={taught_at_rank_1}", "lora.rank=4", "lora.lm_head=true", "num_steps=3")
    whole = await begin_from_adapter(run, tmp_path / "whole")
    for killed_at in (0, 2):
        with pytest.raises(Killed):
            await begin_from_adapter(run, tmp_path / f"{killed_at}", sinks=[Bomb(killed_at)])
        again = prepared_run(f"lora.init={taught_at_rank_1}", "lora.rank=4", "lora.lm_head=true", "num_steps=3")
        resumed = await begin_from_adapter(again, tmp_path / f"{killed_at}", resume=True)
        assert timeless(resumed) == timeless(whole)


async def begin_from_adapter(
    run: PreparedSft, path: Path, *, resume: bool = False, sinks: Sequence[Sink] = ()
) -> RunDirectory:
    directory = RunDirectory.open(path) if resume else RunDirectory.create(path, run.config)
    async with open_alone(SFT, run, "run") as parts:
        await loop_with_restarts(SFT, run, parts, directory, Sinks(sinks), resume=resume)
    return directory


MISTAKES = {
    "lora.rank=4": 'has rank 8, and lora.rank is 4; set lora.rank = 8, or lora.init_fit = "nearest", which would lose 0.',
    'lora.targets=["q_proj"]': 'set lora.targets = ["down_proj", "gate_proj", "k_proj", ',
    "model.name=smollm2-135m": "is for another model than smollm2-135m",
    "lora.init=nowhere": "there is no directory 'nowhere'",
    "learner.weights=full": "rankone export --merge",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_an_adapter_that_does_not_fit_is_refused_in_one_line(
    taught: tuple[Path, Result], tmp_path: Path, mistake: str
) -> None:
    out, _ = taught
    result = rankone("train", RL_EXAMPLE, "--out", tmp_path / "run", *sets(f"lora.init={out}", mistake))
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, result.stderr
    assert MISTAKES[mistake] in lines[0]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("sft.completion={steps}", "sft.completion: problem jsonl/train/"),
        ("model.max_length=8", "model.max_length = 8"),
        ("learner.objective=cross_entropy", "rankone sft"),
        ("steps_in_flight=1.5", "leave it out for `rankone sft`"),
    ],
)
def test_a_mistake_in_a_supervised_run_is_one_line(tmp_path: Path, override: str, complaint: str) -> None:
    verb = "train" if override.startswith("learner") else "sft"
    small = () if verb == "train" else ("sampling.max_tokens=1",)
    result = rankone(verb, EXAMPLE, "--out", tmp_path / "run", *sets(*small, override))
    assert result.exit_code == 2, result.output
    assert complaint in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_job_takes_the_adapter_along_that_it_begins_from(taught: tuple[Path, Result], tmp_path: Path) -> None:
    out, _ = taught
    config = load_config(RL_EXAMPLE, [f"lora.init={out.name}", f"data.train={EXAMPLES / 'tiny.jsonl'}"])
    write_job(config, out.parent, tmp_path)
    assert load_config(tmp_path / "config.toml").lora.init == "init"
    one, other = (unpack(read_peft(path).payload)[0] for path in (tmp_path / "init", out / "adapters" / "best"))
    assert all(torch.equal(one[name], other[name]) for name in one)


REWARDS = {
    "broken": "raise KeyError('no such column')",
    "constant": "return 0.5",
    "filling": "\n    ".join((
        "from pathlib import Path",
        "if (here := Path(__file__)).with_name('disk').joinpath('run', 'metrics.jsonl').exists():",
        "    with here.with_name('disk').joinpath('ballast').open('ab', buffering=0) as ballast:",
        "        try:",
        "            while ballast.write(b'x' * 512): pass",
        "        except OSError: pass",
        "return float('1' in completion)",
    )),
}  # fmt: skip


def graded_by(place: Path, reward: str) -> list[str]:
    """Settings of a run whose held-out answers are graded by a function of the user's own."""
    (place / f"{reward}.py").write_text(f"def score(problem, completion):\n    {REWARDS[reward]}\n")
    return sets(*SMALL, *EXAMINED, f"reward.function={place / reward}.py:score")


def test_a_reward_that_measures_is_tried_before_the_run(tmp_path: Path) -> None:
    """It may be constant, since nothing is learned from it."""
    for verb in (["sft", EXAMPLE, "--out", tmp_path / "broken"], ["eval", EXAMPLE]):
        ended = rankone(*verb, *graded_by(tmp_path, "broken"))
        assert (ended.exit_code, "failed on a trial completion" in ended.stderr) == (2, True), ended.output
    assert not (tmp_path / "broken" / "metrics.jsonl").exists()
    ended = rankone("eval", EXAMPLE, *graded_by(tmp_path, "constant"))
    assert (ended.exit_code, "on 8 problems" in ended.output) == (0, True), ended.output


def test_a_picture_without_room_does_not_hide_what_ended_the_run(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "8m") as disk:
        ended = rankone("sft", EXAMPLE, "--out", disk / "run", *graded_by(tmp_path, "filling"))
        said = [line for line in ended.stderr.splitlines() if line.startswith("rankone: ")]
        assert (ended.exit_code, len(said)) == (1, 1), ended.output
        assert said[0].startswith(f"rankone: cannot use {disk / 'run' / 'adapters'}"), said
        assert "the curve could not be drawn" in ended.output
        (disk / "ballast").unlink()
        again = rankone("sft", EXAMPLE, "--out", disk / "run", "--resume", *sets(*SMALL, *EXAMINED))
        assert again.exit_code == 0, again.output
        assert (disk / "run" / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_without_an_engine_is_in_this_process_unless_it_is_said() -> None:
    assert resolve_sft_runtime(RunConfig()).runtime == "local"
    assert resolve_sft_runtime(RunConfig(runtime="ray")).runtime == "ray"
    assert resolve_sft_runtime(RunConfig(sft=SftConfig(accuracy=True))).runtime == "ray"
    RunConfig.model_validate(resolve_sft_runtime(RunConfig()).model_dump())


async def test_a_learner_in_an_actor_learns_the_same(ray_cluster: None, tmp_path: Path) -> None:
    here = await fine_tune(prepared_run("num_steps=2"), tmp_path / "here")
    there = await fine_tune(prepared_run("num_steps=2", "runtime=ray"), tmp_path / "there")
    for mine, theirs in zip(timeless(there), timeless(here), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4)
