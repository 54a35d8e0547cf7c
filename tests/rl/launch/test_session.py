"""This holds of every session: one run or a sweep of them, by reinforcement learning or on given completions, new or
resumed, with a full disk, with a learner that dies, and in a directory that is another's."""

import asyncio
import errno
import functools
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from click.testing import Result
from typer.testing import CliRunner

from lora.peft.files import read_peft, unpack
from rl.cli.app import app
from rl.launch.event_loop import run_to_end
from rl.launch.recipe import Recipe
from rl.launch.recipes import RECIPES
from rl.run import journal
from rl.run.directory import RunDirectory
from rl.run.kind import Kind
from rl.train import Components
from rl.types import Learner, LearnerDied

EXAMPLES = Path(__file__).parents[3] / "examples"
BASES = {"train": EXAMPLES / "tiny.toml", "sft": EXAMPLES / "sft-tiny.toml"}
SETTINGS = {
    "num_steps": 3, "problems_per_step": 4, "sampling.group_size": 2, "sampling.max_tokens": 3, "evaluate.every": 2,
    "evaluate.num_problems": 4, "checkpoint_every": 1, "reward.workers": 1, "tensorboard": "false",
}  # fmt: skip
EAGER = "def digits(problem, completion):\n    return sum(map(str.isdigit, completion)) / max(1, len(completion))\n"
"""A reward that an untrained policy earns now and then."""


@dataclass(frozen=True)
class Case:
    """A kind of run, alone or as a sweep of two seeds."""

    kind: Kind
    is_sweep: bool
    home: Path

    @property
    def out(self) -> Path:
        return self.home / "out"

    @property
    def runs(self) -> list[Path]:
        return [self.out / "p000-seed0", self.out / "p001-seed1"] if self.is_sweep else [self.out]

    def start(self, *options: str, kind: Kind | None = None, **settings: object) -> Result:
        kind = kind or self.kind
        command: list[object] = [kind, BASES[kind]]
        if self.is_sweep:
            file = self.home / f"{kind}.toml"
            file.write_text(f'base = "{BASES[kind]}"\nrecipe = "{kind}"\n[axes]\nseed = [0, 1]\n')
            command = ["sweep", file]
        reward = {"reward.function": f"{self.home / 'eager.py'}:digits"} if kind == "train" else {}
        values = {**SETTINGS, **reward, **settings}
        sets = [part for name, value in values.items() for part in ("--set", f"{name}={value}")]
        return CliRunner().invoke(app, [str(one) for one in [*command, "--out", self.out, *options, *sets]])

    def rows(self) -> list[list[dict[str, Any]]]:
        """Return each run's metrics, without what differs from one time to the next."""
        different = ("time", "throughput", "policy/sampler", "policy/distance")
        return [
            [{k: v for k, v in row.items() if not k.startswith(different)} for row in RunDirectory(path).metrics()]
            for path in self.runs
        ]


@pytest.fixture(params=[f"{kind}-{form}" for kind in get_args(Kind) for form in ("single", "sweep")])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    kind, form = request.param.split("-")
    (tmp_path / "eager.py").write_text(EAGER)
    return Case(kind, form == "sweep", tmp_path)


Undisturbed = Callable[[Case], tuple[Case, Result]]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """Return what gives a case like another one, to which nothing happens, and how its command ended."""

    @functools.cache
    def run(kind: Kind, is_sweep: bool) -> tuple[Case, Result]:
        home = tmp_path_factory.mktemp("undisturbed")
        (home / "eager.py").write_text(EAGER)
        case = Case(kind, is_sweep, home)
        return case, case.start()

    return lambda case: run(case.kind, case.is_sweep)


def steps(case: Case) -> list[list[int]]:
    return [[row["step"] for row in rows] for rows in case.rows()]


def one_line(ended: Result) -> str:
    """Return the line in which the command says what is wrong."""
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("rankone: ")]
    return line


def test_every_run_leaves_what_it_promises_and_says_its_kind(case: Case, undisturbed: Undisturbed) -> None:
    case, ended = undisturbed(case)
    assert ended.exit_code == 0, ended.output
    assert steps(case) == [[0, 1, 2, 3]] * len(case.runs)
    for path in case.runs:
        written = json.loads((path / "run.json").read_text())
        assert (written["kind"], written["version"]) == (case.kind, 1)
        assert written["created"].startswith("20")
        assert (path / "curve.png").read_bytes().startswith(b"\x89PNG")
        for which in ("best", "last"):
            assert unpack(read_peft(path / "adapters" / which).payload)[1].rank == 8
    best = RECIPES[case.kind].best
    if case.is_sweep:
        rows = json.loads((case.out / "sweep.json").read_text())
        assert [(row["kind"], row["ended"], row["steps"]) for row in rows] == [(case.kind, "finished", 3)] * 2
        assert rows[0]["curve"] == [[row["step"], row[best.name]] for row in case.rows()[0] if best.name in row]
        assert f"p000-seed0  finished, {best.words}" in ended.output
    else:
        assert f"{best.words} " in ended.output
        assert ", rank 8, 32,768 trained parameters, 3 steps, " in ended.output


def test_the_best_policy_of_a_run_on_given_completions_has_the_lowest_log_loss(tmp_path: Path) -> None:
    case = Case("sft", is_sweep=True, home=tmp_path)
    assert case.start(**{"learner.lr": 0.3}).exit_code == 0
    rows = json.loads((case.out / "sweep.json").read_text())
    for row in rows:
        losses = [loss for _, loss in row["curve"]]
        assert (row["best_log_loss"], row["final_log_loss"]) == (min(losses), losses[-1])
        assert (row["best_accuracy"], row["final_accuracy"]) == (None, None)


def test_a_run_beside_others_learns_what_it_learns_alone(tmp_path: Path) -> None:
    together, alone = (Case("sft", is_sweep, tmp_path / str(is_sweep)) for is_sweep in (True, False))
    for one in (together, alone):
        one.home.mkdir()
        assert one.start(seed=0).exit_code == 0
    for mine, theirs in zip(together.rows()[0], alone.rows()[0], strict=True):
        assert mine == pytest.approx(theirs, rel=1e-3, abs=1e-5)


# --- learners that die ---


class Mortal:
    """A learner that dies, or is interrupted, in one of its updates."""

    def __init__(self, learner: Learner, at: int, error: BaseException) -> None:
        self._learner = learner
        self._until = at
        self._error = error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._learner, name)

    async def update(self, *arguments: Any, **more: Any) -> dict[str, float]:
        self._until -= 1
        if self._until == 0:
            raise self._error
        return await self._learner.update(*arguments, **more)

    async def restart(self) -> None:
        """It is as it was: its state comes from the checkpoint."""


def dying(
    opening: Callable[..., AbstractAsyncContextManager[Any]], at: int, error: BaseException
) -> Callable[..., AbstractAsyncContextManager[Any]]:
    """The same parts, with a mortal learner."""

    @asynccontextmanager
    async def opened(*arguments: Any) -> AsyncIterator[Any]:
        async with opening(*arguments) as parts:
            learner = Mortal(parts.learner, at, error)
            yield replace(parts, learner=learner) if isinstance(parts, Components) else parts._replace(learner=learner)

    return opened


def let_die(patch: pytest.MonkeyPatch, recipe: Recipe[Any, Any], at: int, error: BaseException) -> None:
    patch.setattr(recipe, "open", dying(recipe.open, at, error), raising=False)
    patch.setattr("rl.launch.restarts.BACK_OFF", (0.0,))


def test_a_learner_that_dies_takes_nothing_from_a_run(case: Case, undisturbed: Undisturbed) -> None:
    with pytest.MonkeyPatch.context() as patch:
        let_die(patch, RECIPES[case.kind], 2, LearnerDied("the learner died"))
        ended = case.start()
        assert ended.exit_code == 0, ended.output
        assert ended.output.count("the learner died; starting it again") == len(case.runs)
    calm, ended = undisturbed(case)
    assert ended.exit_code == 0, ended.output
    for mine, theirs in zip(case.rows(), calm.rows(), strict=True):
        for one, other in zip(mine, theirs, strict=True):
            assert one == pytest.approx(other, rel=1e-3, abs=1e-5)


def test_a_learner_that_is_not_started_again_ends_the_run_and_a_resume_goes_on(case: Case) -> None:
    with pytest.MonkeyPatch.context() as patch:
        let_die(patch, RECIPES[case.kind], 2, LearnerDied("the learner died"))
        ended = case.start(**{"learner.max_restarts": 0})
        assert ended.exit_code == 1, ended.output
        assert "the learner died" in ended.output
    assert steps(case) == [[0]] * len(case.runs)
    for path in case.runs:
        assert (path / "curve.png").exists()
    again = case.start("--resume")
    assert again.exit_code == 0, again.output
    assert steps(case) == [[0, 1, 2, 3]] * len(case.runs)


def test_an_interruption_leaves_curves_and_says_how_to_go_on(case: Case) -> None:
    with pytest.MonkeyPatch.context() as patch:
        let_die(patch, RECIPES[case.kind], 2, KeyboardInterrupt())
        ended = case.start()
    command = "sweep" if case.is_sweep else case.kind
    assert ended.exit_code == 130, ended.output
    assert f"stopped; go on with: rankone {command} {case.out}" in ended.output
    assert any((path / "curve.png").exists() for path in case.runs)
    again = case.start("--resume")
    assert again.exit_code == 0, again.output
    assert steps(case) == [[0, 1, 2, 3]] * len(case.runs)


# --- full disks ---


def test_a_disk_without_room_for_a_curve_is_no_failure(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "curve.png")

    for recipe in RECIPES.values():
        monkeypatch.setattr(recipe, "figure", no_room, raising=False)
    ended = case.start()
    assert ended.exit_code == 0, ended.output
    assert ended.output.count("the curve could not be drawn") == len(case.runs)
    assert steps(case) == [[0, 1, 2, 3]] * len(case.runs)


def test_a_full_disk_ends_each_run_and_room_lets_all_go_on(case: Case) -> None:
    written = journal.append_objects

    def no_room_after_the_first(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
        rows = list(rows)
        if any(row["step"] > 0 for row in rows):
            raise OSError(errno.ENOSPC, "No space left on device", str(file))
        written(file, rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, "append_objects", no_room_after_the_first)
        ended = case.start()
    assert ended.exit_code == 1, ended.output
    full = "No space left on device; make room"
    if case.is_sweep:
        assert all(f"{path.name}  failed" in ended.output for path in case.runs), ended.output
        assert full in ended.output
    else:
        assert f"cannot use {case.out / 'metrics.jsonl'}: {full}" in one_line(ended)
    assert steps(case) == [[0]] * len(case.runs)
    again = case.start("--resume")
    assert again.exit_code == 0, again.output
    assert steps(case) == [[0, 1, 2, 3]] * len(case.runs)


# --- directories of others ---


def test_a_directory_that_is_written_to_or_holds_another_kind_is_left_alone(case: Case) -> None:
    assert case.start(num_steps=1).exit_code == 0
    before = {file: file.read_bytes() for file in case.out.rglob("*") if file.is_file() and file.name != ".lock"}
    with RunDirectory(case.runs[0]).locked():
        refused = case.start("--resume", num_steps=1)
    assert refused.exit_code == 2, refused.output
    assert f"another run writes to {case.runs[0]}" in one_line(refused)
    other: Kind = "sft" if case.kind == "train" else "train"
    for options in ([], ["--resume"]):
        refused = case.start(*options, kind=other, num_steps=1)
        assert refused.exit_code == 2, refused.output
    assert f"holds a run of `rankone {case.kind}`, which goes on with that command" in one_line(refused)
    assert {file: file.read_bytes() for file in before} == before


def test_a_directory_from_before_kinds_were_written_goes_on_as_what_its_metrics_say(case: Case) -> None:
    assert case.start(num_steps=1).exit_code == 0
    for path in case.runs:
        (path / "run.json").unlink()
        assert RunDirectory(path).kind == case.kind
    other: Kind = "sft" if case.kind == "train" else "train"
    refused = case.start("--resume", kind=other, num_steps=1)
    assert (refused.exit_code, "which goes on with that command" in one_line(refused)) == (2, True)
    again = case.start("--resume", num_steps=1)
    assert again.exit_code == 0, again.output
    assert [json.loads((path / "run.json").read_text())["kind"] for path in case.runs] == [case.kind] * len(case.runs)


def test_a_kind_that_this_version_does_not_know_is_refused(case: Case) -> None:
    assert case.start(num_steps=0).exit_code == 0
    (case.runs[0] / "run.json").write_text('{"kind": "dpo", "version": 1}')
    refused = case.start("--resume", num_steps=0)
    assert (refused.exit_code, "of kind 'dpo', which this version" in one_line(refused)) == (2, True)


def test_what_changed_is_said_of_a_run_that_is_resumed(case: Case) -> None:
    with pytest.MonkeyPatch.context() as patch:
        let_die(patch, RECIPES[case.kind], 2, LearnerDied("the learner died"))
        assert case.start(**{"learner.max_restarts": 0}).exit_code == 1
    again = case.start("--resume", **{"checkpoint_every": 2})
    assert again.exit_code == 0, again.output
    assert again.output.count("checkpoint_every is 2 from now on, and was 1") == 1
    refused = case.start("--resume", **{"lora.rank": 2})
    assert (refused.exit_code, "lora.rank is 2, and was 8" in one_line(refused)) == (2, True)


# --- rewards ---


def test_a_reward_that_does_not_work_is_found_before_anything_is_loaded(case: Case) -> None:
    (case.home / "broken.py").write_text("def score(problem, completion):\n    raise KeyError('no such column')\n")
    settings = {"reward.function": f"{case.home / 'broken.py'}:score", "sft.accuracy": "true", "runtime": "local"}
    ended = case.start(**settings, **{"rollout.engine": "torch"})
    assert (ended.exit_code, "failed on a trial completion" in one_line(ended)) == (2, True), ended.output
    assert not list(case.out.rglob("metrics.jsonl"))


def test_accuracy_is_measured_beside_log_loss_where_it_is_asked_for(tmp_path: Path) -> None:
    for is_sweep in (False, True):
        case = Case("sft", is_sweep, tmp_path / str(is_sweep))
        case.home.mkdir()
        measured = {"sft.accuracy": "true", "runtime": "local", "rollout.engine": "torch"}
        ended = case.start(**measured, num_steps=1)
        assert ended.exit_code == 0, ended.output
        for rows in case.rows():
            assert all({"eval/log_loss", "eval/accuracy"} <= {*row} for row in rows)
    assert json.loads((case.out / "sweep.json").read_text())[0]["final_accuracy"] is not None


def test_no_engine_is_started_for_policies_that_answer_nothing(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("an engine was started")

    monkeypatch.setattr("rl.cluster.components.open_workers", refuse)
    ended = case.start(num_steps=1)
    assert (ended.exit_code == 0) == (case.kind == "sft"), ended.output
    assert ("an engine was started" in ended.output) == (case.kind == "train")


# --- event loops ---


async def test_a_session_inside_a_running_loop_has_a_thread_of_its_own() -> None:
    async def answer() -> tuple[int, bool]:
        await asyncio.sleep(0)
        return 42, asyncio.get_running_loop() is outer

    async def fail() -> None:
        raise ValueError("no")

    outer = asyncio.get_running_loop()
    assert run_to_end(answer()) == (42, False)
    with pytest.raises(ValueError, match="no"):
        run_to_end(fail())


def test_a_session_without_a_loop_has_this_threads() -> None:
    async def answer() -> int:
        return torch.get_num_threads()

    assert run_to_end(answer()) == torch.get_num_threads()
