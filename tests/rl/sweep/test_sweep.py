"""`rankone sweep` on the tiny model: its runs are ordinary ones, it survives, and says what it showed."""

import asyncio
import json
import logging
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result as Ran
from helpers.small_disk import small_disk
from helpers.zygote import LOADED_BY_RUNS
from typer.testing import CliRunner

from lora.peft.files import read_peft, unpack
from rl.cli.app import app
from rl.launch.logs import NameRuns, current_run
from rl.launch.sinks import open_sinks
from rl.run.directory import RunDirectory
from rl.run.journal import FileJournal
from rl.run.sinks import Ended, Sink, Sinks, StoppedEarly
from rl.settings.toml import load_config
from rl.sweep.conclusions import conclusions
from rl.sweep.config import StopConfig
from rl.sweep.directory import open_directory
from rl.sweep.early_stopping import EarlyStopper
from rl.sweep.plots import draw_all
from rl.sweep.points import load_sweep
from rl.sweep.results import Result
from rl.sweep.run import prepare_sweep

ROOT = Path(__file__).parents[3]
TINY = ROOT / "examples" / "tiny.toml"
SMALL = {
    "problems_per_step": "8", "sampling.group_size": "4", "evaluate.every": "2", "evaluate.num_problems": "8",
    "num_steps": "4", "reward.workers": "1", "tensorboard": "false",
}  # fmt: skip
AXES = '[axes]\n"lora.rank" = [1, 8]\n"learner.lr" = [1e-2, 3e-3]\n'
FULL = '[[also]]\n"learner.weights" = "full"\n"learner.lr" = 1e-3\n'


def rankone(*arguments: object) -> Ran:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def sweep_file(directory: Path, text: str = AXES, head: str = "") -> Path:
    file = directory / "sweep.toml"
    file.write_text(f'base = "{TINY}"\n{head}\n{text}')
    return file


EAGER = "def digits(problem, completion):\n    return sum(map(str.isdigit, completion)) / max(1, len(completion))\n"
"""A reward that an untrained policy earns now and then: with none, there would be no update to compare."""


def sets(**settings: str) -> list[str]:
    return [part for name, value in (SMALL | settings).items() for part in ("--set", f"{name}={value}")]


def eager(directory: Path, **settings: str) -> list[str]:
    return sets(**{"reward.function": f"{directory / 'eager.py'}:digits", **settings})


def metrics(directory: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith(("time", "throughput"))} for row in rows]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ran]:
    """Four adapters, three at a time, and full fine-tuning."""
    directory = tmp_path_factory.mktemp("sweep")
    (directory / "eager.py").write_text(EAGER)
    file = sweep_file(directory, AXES + FULL, "policies_at_once = 3")
    return directory / "out", rankone("sweep", file, "--out", directory / "out", *eager(directory))


def test_a_sweep_ends_with_one_object_a_policy_and_pictures(finished: tuple[Path, Ran]) -> None:
    out, ran = finished
    assert ran.exit_code == 0, ran.output
    assert "too few seeds: 5 settings" in ran.output
    rows: list[dict[str, Any]] = json.loads((out / "sweep.json").read_text())
    assert [(row["weights"], row["rank"], row["lr"]) for row in rows] == [
        ("lora", 1, 1e-2), ("lora", 1, 3e-3), ("lora", 8, 1e-2), ("lora", 8, 3e-3), ("full", 0, 1e-3),
    ]  # fmt: skip
    for row in rows:
        assert row["alpha"] == (0 if row["weights"] == "full" else 32)
        assert (row["seed"], row["steps"], row["ended"]) == (0, 4, "finished")
        curve = [one["eval/accuracy"] for one in metrics(out / row["directory"]) if "eval/accuracy" in one]
        assert (row["final_accuracy"], row["best_accuracy"]) == (curve[-1], max(curve))
        assert (out / row["directory"] / "curve.png").exists()
        assert (out / row["directory"] / "checkpoints").exists() == (row["weights"] == "lora")
    assert rows[2]["trained_parameters"] == 8 * rows[0]["trained_parameters"]
    for picture in ("by-step.png", "by-rate.png"):
        assert (out / picture).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("which", ["p000-rank1-lr0.01", "p003-rank8-lr0.003", "p004-full-lr0.001"])
def test_a_policy_among_others_trains_as_a_run_of_its_own(
    finished: tuple[Path, Ran], tmp_path: Path, which: str
) -> None:
    """On the torch engine, up to float32's rounding: rows of several policies are multiplied together."""
    swept = finished[0] / which
    assert rankone("train", swept / "config.toml", "--out", tmp_path / "alone").exit_code == 0
    assert_same_run(swept, tmp_path / "alone")


def test_two_seeds_that_compute_their_activations_again_train_as_runs_of_their_own(tmp_path: Path) -> None:
    """The runs of their own keep them. Of the two, the newer one's adapter once took part in both backward passes."""
    (tmp_path / "eager.py").write_text(EAGER)
    file = sweep_file(tmp_path, '[axes]\n"seed" = [0, 1]\n"lora.lm_head" = [true]\n')
    settings = eager(tmp_path, **{"learner.gradient_checkpointing": "true"})
    assert rankone("sweep", file, "--out", tmp_path / "out", *settings).exit_code == 0
    swept = sorted((tmp_path / "out").glob("p0*"))
    assert len(swept) == 2
    for one in swept:
        kept = ("--set", "learner.gradient_checkpointing=false")
        assert rankone("train", one / "config.toml", "--out", tmp_path / one.name, *kept).exit_code == 0
        assert_same_run(one, tmp_path / one.name)


def assert_same_run(swept: Path, alone: Path) -> None:
    rows, others = metrics(swept), metrics(alone)
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4]
    for one, other in zip(rows, others, strict=True):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-4)
    mine, theirs = (unpack(read_peft(path / "adapters" / "last").payload)[0] for path in (swept, alone))
    for name in mine:
        assert (mine[name] - theirs[name]).norm() <= 1e-3 * theirs[name].norm(), name
    assert all(row["update/grad_norm"] > 0 for row in rows[:-1])


def test_the_sweeps_own_file_repeats_it_and_finished_runs_are_left_alone(finished: tuple[Path, Ran]) -> None:
    out, _ = finished
    before = {file: file.stat().st_mtime_ns for file in out.glob("p*/metrics.jsonl")}
    again = rankone("sweep", out / "sweep.toml", "--out", out, "--resume")
    assert again.exit_code == 0, again.output
    assert {file: file.stat().st_mtime_ns for file in before} == before
    with RunDirectory(out / "p001-rank1-lr0.003").locked():
        beside = rankone("sweep", out / "sweep.toml", "--out", out, "--resume")
    assert (beside.exit_code, len(beside.stderr.strip().splitlines())) == (2, 1), beside.output
    assert f"another run writes to {out / 'p001-rank1-lr0.003'} (process {os.getpid()} on" in beside.stderr
    assert "already" in rankone("sweep", out / "sweep.toml", "--out", out).output
    other = rankone("sweep", out / "sweep.toml", "--out", out, "--resume", "--set", "num_steps=9")
    assert other.exit_code == 2
    assert "other settings: num_steps is 9, and was 4" in other.output
    before = {file: file.read_bytes() for file in out.glob("p*/config.toml")}
    faster = rankone("sweep", out / "sweep.toml", "--out", out, "--resume", "--set", "rollout.max_concurrent=7")
    assert faster.exit_code == 0, faster.output
    assert faster.output.count("rollout.max_concurrent is 7 from now on, and was 256") == 1
    assert {file: file.read_bytes() for file in before} == before, "the runs that are done were not done with it"
    assert load_sweep(out / "sweep.toml").base.rollout.max_concurrent == 7


def test_a_sweep_goes_on_faster_or_elsewhere_but_not_as_another(tmp_path: Path) -> None:
    file, path = sweep_file(tmp_path, AXES), tmp_path / "out"

    def opened(*overrides: str) -> list[str]:
        sweep = load_sweep(file, [f"{name}={value}" for name, value in SMALL.items()] + list(overrides))
        prepared = prepare_sweep(sweep)
        if not path.exists():
            path.mkdir()
            open_directory(sweep, prepared, path, resume=False)
            RunDirectory.create(path / sweep.points[0].name, prepared[0].config)
        return open_directory(sweep, prepared, path, resume=True)

    begun = path / "p000-rank1-lr0.01" / "config.toml"
    assert opened() == []
    before = {file: file.read_bytes() for file in path.rglob("*.toml")}
    for fixed in (
        "num_steps=9",
        "learner.max_ratio=3",
        "evaluate.every=3",
        "max_off_policy_steps=1",
        "data.num_held_out=9",
    ):
        with pytest.raises(ValueError, match=f"{begun.parent} was run with other settings: {fixed.split('=')[0]} is "):
            opened("rollout.max_concurrent=7", fixed)
    file.write_text(file.read_text() + '[stop]\nscheduler = "asha"\n')
    with pytest.raises(ValueError, match=r"stop is scheduler='asha' .* and was scheduler='none'"):
        opened()
    sweep_file(tmp_path, AXES)
    assert {file: file.read_bytes() for file in before} == before
    changed = opened("rollout.max_concurrent=7", "learner.tokens_per_microbatch=99", "reward.workers=2")
    assert changed == [
        'learner.tokens_per_microbatch is 99 from now on, and was "auto"',
        "rollout.max_concurrent is 7 from now on, and was 256",
        "reward.workers is 2 from now on, and was 1",
    ]
    assert load_config(begun).rollout.max_concurrent == 7
    assert load_sweep(path / "sweep.toml").points[1].config.learner.tokens_per_microbatch == 99
    begun.write_text("of_old = 1")
    assert opened() == []
    assert load_config(begun).rollout.max_concurrent == 256


def test_a_run_that_is_stopped_early_has_not_failed(tmp_path: Path) -> None:
    heard: list[str] = []

    class Listener(Sink):
        def on_eval(self, *_: object) -> None:
            """Nothing to do."""

        def on_step(self, *_: object) -> None:
            """Nothing to do."""

        def close(self, ended: Ended) -> None:
            heard.append(ended)

    async def end(error: type[BaseException]) -> None:
        config = load_config(TINY, ["tensorboard=false"])
        with pytest.raises(error):
            async with open_sinks(config, RunDirectory(tmp_path), Listener()):
                raise error

    for error in (StoppedEarly, asyncio.CancelledError, ZeroDivisionError):
        asyncio.run(end(error))
    assert heard == ["stopped", "stopped", "failed"]


def test_the_log_names_the_run_and_says_of_its_alarms_the_first(tmp_path: Path) -> None:
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    handler.addFilter(NameRuns())
    logger = logging.getLogger("rl.run.journal")
    logger.addHandler(handler)
    try:
        journal = FileJournal(RunDirectory(tmp_path), Sinks([]), resume=False)
        for run in ("p000", "p001"):
            current_run.set(run)
            for step in range(3):
                journal.on_alarm(step, ["low entropy", "long completions"])
            logger.warning("step %d: %s", 7, "looks like an alarm, and is none")
    finally:
        logger.removeHandler(handler)
        current_run.set("")
    other = "step 7: looks like an alarm, and is none"
    assert said == [
        f"{run}: {line}" for run in ("p000", "p001") for line in ("step 0: low entropy; long completions", other)
    ]


FILL = """
import contextlib
from pathlib import Path

def fill(problem, completion):
    # Once a run has written something, no byte more has room on its disk.
    if list(Path({disk!r}).rglob("metrics.jsonl")):
        for size in (65536, 4096, 1):
            with contextlib.suppress(OSError), Path({disk!r}, "ballast").open("ab", buffering=0) as ballast:
                while ballast.write(b"x" * size) == size:
                    pass
    return len(completion) + ("1" in completion)
"""


def test_a_full_disk_ends_a_sweep_in_one_line_after_all_its_runs_were_tried_and_room_lets_it_go_on(
    tmp_path: Path,
) -> None:
    with small_disk(tmp_path / "disk", "8m") as disk:
        (tmp_path / "filling.py").write_text(FILL.format(disk=str(disk)))
        (tmp_path / "eager.py").write_text(EAGER)
        file = sweep_file(tmp_path, "[axes]\nseed = [0, 1]\n", "policies_at_once = 1")
        filling = sets(**{"reward.function": f"{tmp_path / 'filling.py'}:fill", "tensorboard": "true"})
        ended = rankone("sweep", file, "--out", disk / "out", *filling)
        assert ended.exit_code == 1, ended.output
        assert "2/2  p001-seed1  failed" in ended.output
        last = ended.stderr.strip().splitlines()[-1]
        assert last.startswith(
            f"rankone: cannot use {disk / 'out' / 'sweep.json'}: No space left on device; make room"
        ), last
        assert ended.stderr.count("rankone:") == 1
        (disk / "ballast").unlink()
        (tmp_path / "filling.py").write_text(EAGER.replace("digits", "fill"))
        again = rankone("sweep", file, "--out", disk / "out", "--resume", *filling)
        assert again.exit_code == 0, again.output
        assert [row["ended"] for row in json.loads((disk / "out" / "sweep.json").read_text())] == ["finished"] * 2


def sweep_once(file: str, out: str, settings: list[str]) -> None:
    """In a process of its own."""
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    resume = ["--resume"] if (Path(out) / "sweep.toml").exists() else []
    app(["sweep", file, "--out", out, *resume, *settings], standalone_mode=False)


def stop(pid: int) -> None:
    """Hold all threads of a process; on a busy machine one may write on for a while."""
    os.kill(pid, signal.SIGSTOP)
    tasks = Path(f"/proc/{pid}/task")
    while {(task / "stat").read_text().rpartition(")")[2].split()[0] for task in tasks.iterdir()} != {"T"}:
        time.sleep(0.01)


def test_a_killed_sweep_ends_as_one_that_never_was(tmp_path: Path) -> None:
    """Two at a time of four: at least one is done and one is under way when it is killed."""
    (tmp_path / "eager.py").write_text(EAGER)
    settings = eager(tmp_path, num_steps="8")
    file = sweep_file(tmp_path, '[axes]\n"lora.rank" = [1, 2]\n"seed" = [0, 1]\n', "policies_at_once = 2")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*LOADED_BY_RUNS, "rl.sweep.session"])

    def start(out: Path) -> Any:
        process = context.Process(target=sweep_once, args=(str(file), str(out), settings))
        process.start()
        return process

    killed = start(tmp_path / "killed")
    deadline = time.monotonic() + 300
    while len(list((tmp_path / "killed").glob("p*"))) < 3 or len(written(tmp_path / "killed", 2)) < 3:
        assert time.monotonic() < deadline
        assert killed.is_alive()
        time.sleep(0.02)
    stop(killed.pid)
    before = {file: file.read_bytes() for file in (tmp_path / "killed").rglob("*") if file.is_file()}
    (under_way,) = (tmp_path / "killed").glob("p002*")
    refused = [
        rankone("sweep", file, "--out", tmp_path / "killed", "--resume", *settings),
        rankone("train", under_way / "config.toml", "--out", under_way, "--resume"),
        rankone("train", under_way / "config.toml", "--out", tmp_path / "killed" / "p003-new"),
    ]
    for other in refused:
        said = f"another run writes to {tmp_path / 'killed'} (process {killed.pid} on"
        assert (other.exit_code, said in other.stderr) == (2, True), other.output
        assert len(other.stderr.strip().splitlines()) == 1
    assert {file: file.read_bytes() for file in (tmp_path / "killed").rglob("*") if file.is_file()} == before
    killed.kill()
    killed.join()
    done = [path.parent.name for path in (tmp_path / "killed").glob("p*/result.json")]
    assert 1 <= len(done) < 4
    again = start(tmp_path / "killed")
    assert rankone("sweep", file, "--out", tmp_path / "calm", *settings).exit_code == 0
    again.join()
    assert again.exitcode == 0
    calm_rows, killed_rows = (json.loads((tmp_path / which / "sweep.json").read_text()) for which in ("calm", "killed"))
    assert len(calm_rows) == len(killed_rows) == 4
    for one, other in zip(calm_rows, killed_rows, strict=True):
        assert [step for step, _ in one["curve"]] == [step for step, _ in other["curve"]]
        mine, theirs = metrics(tmp_path / "killed" / one["directory"]), metrics(tmp_path / "calm" / one["directory"])
        assert [row["step"] for row in mine] == list(range(9))
        assert any(row.get("update/grad_norm") for row in mine)
        for a, b in zip(mine, theirs, strict=True):
            both = a.keys() & b.keys()  # the first step after a start is checked for liveness too
            assert {key: a[key] for key in both} == pytest.approx({key: b[key] for key in both}, rel=1e-2, abs=1e-3)


def test_a_sweep_over_targets_may_have_all_linear_among_them(tmp_path: Path) -> None:
    axes = '[axes]\n"lora.targets" = ["all-linear", ["q_proj", "v_proj"]]\n'
    file = sweep_file(tmp_path, axes + '[[also]]\n"lora.targets" = "all-linear"\nseed = 1\n')
    ran = rankone("sweep", file, "--out", tmp_path / "out", *sets(num_steps="0"))
    assert ran.exit_code == 0, ran.output
    every = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    names = {"p000-all-linear": every, "p001-q+v": ["q_proj", "v_proj"], "p002-all-linear-seed1": every}
    rows = json.loads((tmp_path / "out" / "sweep.json").read_text())
    assert {row["directory"]: row["targets"] for row in rows} == names
    assert [row["layers"] for row in rows] == ["all", "q+v", "all"]
    configs = {name: load_config(tmp_path / "out" / name / "config.toml").lora.targets for name in names}
    assert configs == {name: tuple(targets) for name, targets in names.items()}
    again = rankone("sweep", file, "--out", tmp_path / "out", "--resume", *sets(num_steps="0"))
    assert again.exit_code == 0, again.output


def test_runs_that_are_measured_by_other_problems_are_prepared_apart(tmp_path: Path) -> None:
    file = sweep_file(tmp_path, '[axes]\n"evaluate.num_test" = [0, 3, 5]\n"learner.lr" = [1e-3, 1e-2]\n')
    (tmp_path / "more.jsonl").write_text('{"question": "Six times seven?", "answer": "42"}\n')
    more = '[[also]]\n"evaluate.sets" = [[{name = "more", file = "more.jsonl"}]]\n'
    file.write_text(file.read_text() + more.replace("more.jsonl", str(tmp_path / "more.jsonl")))
    prepared = prepare_sweep(load_sweep(file))
    assert [len(run.problems.test) for run in prepared] == [0, 0, 3, 3, 5, 5, 0]
    assert [[name for name, _ in run.problems.sets] for run in prepared] == [[]] * 6 + [["more"]]


def written(out: Path, index: int) -> list[str]:
    found = [file.read_text().splitlines() for file in out.glob(f"p{index:03d}*/metrics.jsonl")]
    return found[0] if found else []


@pytest.mark.parametrize(
    ("text", "head", "said"),
    [
        ("[axes]\nlora.rnk = [1]\n", "", "unknown key lora.rnk; did you mean lora.rank?"),
        ("[axes]\nlora = 3\n", "", "lora is a table; name one of its keys"),
        ("[axes]\nseed = 3\n", "", "axes: seed needs a list of its values, and is 3"),
        ("[axes]\nname = ['a']\n", "", "name is the same for all runs of a sweep"),
        ("[axes]\nlora.rank = [1, 9]\n", "", "with lora.rank = 9: rank 9 is above 8"),
        ("[axes]\nlora.rank = ['x']\n", "", "with lora.rank = x: lora.rank must be a whole number"),
        ("[axes]\nlora.rank = [1, 1]\n", "", "are the same run; remove one of them"),
        ("[axes]\nlearner.lr = {min = 1e-4, max = 1e-2}\n", "", 'list its values, or set search.kind = "random"'),
        ("[axes]\nlearner.lr = {min = 1, max = 1}\n", "", "needs min below max"),
        ("[axes]\nlora.targets = [['q_proj'], ['no_proj']]\n", "", "lora.targets names no_proj"),
        ("", "", "a sweep needs [axes]"),
        ("[stop]\nscheduler = 'hyperband'\n[axes]\nseed = [0]\n", "", "stop.scheduler"),
        ("[axes]\nseed = [0]\n", "policies = 3", "unknown key policies; a sweep's keys are name, base, axes"),
        ("[axes]\nseed = [0]\n", "policies_at_once = 0", "policies_at_once"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(tmp_path: Path, text: str, head: str, said: str) -> None:
    ran = rankone("sweep", sweep_file(tmp_path, text, head), "--out", tmp_path / "out")
    assert ran.exit_code == 2, ran.output
    assert said in ran.output
    assert len(ran.output.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_sweep_without_a_base_or_with_a_wrong_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sweep.toml").write_text(AXES)
    assert "base is missing" in rankone("sweep", tmp_path / "sweep.toml").output
    (tmp_path / "sweep.toml").write_text('base = "nowhere.toml"\n' + AXES)
    assert "no configuration file" in rankone("sweep", tmp_path / "sweep.toml").output
    assert "no sweep named" in rankone("sweep", sweep_file(tmp_path, AXES, 'name = "no-such"'), "--resume").output


def test_full_fine_tuning_is_sampled_by_the_torch_engine(tmp_path: Path) -> None:
    refused = rankone("train", ROOT / "examples" / "addition.toml", "--set", "learner.weights=full")
    assert refused.exit_code == 2
    assert 'set rollout.engine = "torch"' in refused.output
    file = tmp_path / "sweep.toml"
    file.write_text(f'base = "{ROOT / "examples" / "addition.toml"}"\n[axes]\nlearner.weights = ["lora", "full"]\n')
    assert [point.config.rollout.engine for point in load_sweep(file).points] == ["vllm", "torch"]


def test_random_search_draws_settings_and_runs_each_with_every_seed(tmp_path: Path) -> None:
    text = (
        "[axes]\nlearner.lr = {min = 1e-4, max = 1e-2, log = true}\nlora.rank = {min = 1, max = 8}\nseed = [0, 1, 2]\n"
    )
    file = sweep_file(tmp_path, text + '[search]\nkind = "random"\nsamples = 5\n')
    points = load_sweep(file).points
    assert [point.settings for point in points] == [point.settings for point in load_sweep(file).points]
    assert len(points) == 15
    drawn = {(point.config.learner.lr, point.config.lora.rank) for point in points}
    assert len(drawn) == 5
    assert all(1e-4 <= lr <= 1e-2 and 1 <= rank <= 8 for lr, rank in drawn)
    assert [point.config.seed for point in points[:3]] == [0, 1, 2]


def test_a_base_may_be_written_in_the_sweep_and_a_list_may_be_one_value(tmp_path: Path) -> None:
    file = tmp_path / "sweep.toml"
    file.write_text(
        '[axes]\nseed = [0, 1]\n[[also]]\nlora.targets = ["q_proj"]\nseed = [0, 1]\n'
        '[base]\nname = "inline"\nruntime = "local"\n[base.rollout]\nengine = "torch"\n'
    )
    sweep = load_sweep(file, ["num_steps=7"])
    assert sweep.name == "inline-sweep"
    assert [point.config.lora.targets for point in sweep.points[2:]] == [("q_proj",), ("q_proj",)]
    assert all(point.config.num_steps == 7 for point in sweep.points)
    assert [point.name for point in sweep.points] == ["p000-seed0", "p001-seed1", "p002-q-seed0", "p003-q-seed1"]


@pytest.mark.parametrize("scheduler", ["asha", "median"])
def test_ray_tunes_schedulers_stop_the_worst_and_keep_the_best(scheduler: str) -> None:
    stopper = EarlyStopper(StopConfig.model_validate({"scheduler": scheduler, "grace_steps": 2}), 20)
    running = {f"p{i}": i / 8 for i in range(8)}
    stopped: list[str] = []
    for step in range(0, 20, 2):
        for name in sorted(running, reverse=True):
            if stopper.should_stop(name, step, running[name] * step / 20):
                stopped.append(name)
                del running[name]
    assert stopped
    assert "p7" in running
    assert min(stopped) == "p0"
    assert not any(EarlyStopper(StopConfig(), 20).should_stop("p", step, 0.0) for step in range(20))


def test_early_stopping_ends_runs_and_says_so(tmp_path: Path) -> None:
    text = '[axes]\nlora.rank = [1, 2, 4, 8]\n[stop]\nscheduler = "asha"\ngrace_steps = 2\nreduction_factor = 4\n'
    ran = rankone("sweep", sweep_file(tmp_path, text), "--out", tmp_path / "out", *sets(**{"learner.lr": "3e-2"}))
    assert ran.exit_code == 0, ran.output
    rows = json.loads((tmp_path / "out" / "sweep.json").read_text())
    early = [row for row in rows if row["ended"] == "stopped_early"]
    assert all(row["curve"][-1][0] == 2 and row["steps"] == 3 for row in early)
    assert any(row["ended"] == "finished" for row in rows)
    assert len(early) == sum("stopped_early" in line for line in ran.output.splitlines())


def made(rank: int, lr: float, seed: int, accuracy: float, **more: Any) -> Result:
    settings = {"lora.rank": rank, "learner.lr": lr, "seed": seed} | more.pop("settings", {})
    fields: dict[str, Any] = {
        "directory": f"p{rank}-{lr}-{seed}", "weights": "lora", "rank": rank, "alpha": 32.0, "lr": lr, "seed": seed,
        "targets": [], "layers": "all", "problems_per_step": 16, "group_size": 8, "settings": settings, "steps": 10,
        "ended": "finished", "reason": "", "trained_parameters": 100 * rank, "final_accuracy": accuracy,
        "best_accuracy": accuracy, "curve": [(0, 0.0), (10, accuracy)],
    }  # fmt: skip
    return Result(**fields | more)


def test_nothing_is_said_of_fewer_than_three_seeds() -> None:
    two = [made(1, 1e-3, seed, 0.9) for seed in range(2)]
    assert conclusions(two) == ["too few seeds: 1 setting with fewer than 3 of them, of which nothing is said"]
    three = [made(8, 1e-3, seed, 0.5 + seed / 10) for seed in range(3)]
    lines = conclusions(two + three)
    assert lines[0].startswith("best of 1 settings: lora.rank = 8, learner.lr = 0.001: final held-out accuracy 0.600")


def test_settings_whose_seeds_overlap_are_not_told_apart_and_rates_are_compared() -> None:
    results = [made(1, 1e-2, seed, 0.5 + seed / 10) for seed in range(3)]
    results += [made(2, 1e-2, seed, 0.4 + seed / 10) for seed in range(3)]
    results += [made(4, 1e-2, seed, 0.1) for seed in range(3)]
    full = {"weights": "full", "layers": "every weight", "settings": {"learner.weights": "full"}}
    results += [made(0, 1e-3, seed, 0.3, **full) for seed in range(3)]
    assert "nothing is said of LoRA's rate" in "\n".join(conclusions(results))
    for around in (0.1, 10):
        results += [made(1, 1e-2 * around, seed, 0.05) for seed in range(3)]
        settings = full["settings"] | {"learner.lr": 1e-3 * around}
        results += [made(0, 1e-3 * around, seed, 0.05, **full | {"settings": settings}) for seed in range(3)]
    said = "\n".join(conclusions(results))
    assert "ranges overlap: 1 setting\n" in said
    assert "LoRA's best learning rate is 10 times full fine-tuning's (0.01 to 0.001)" in said
    assert "full fine-tuning: best 0.300" in said


def test_there_is_a_picture_of_everything_that_varies(tmp_path: Path) -> None:
    results = [made(rank, lr, seed, 0.1 * seed) for rank in (1, 8) for lr in (1e-3, 1e-2) for seed in range(3)]
    assert {file.name for file in draw_all(results, "t", tmp_path)} == {"by-step.png", "by-rate.png"}
    for seed in range(3):
        results.append(made(4, 1e-2, seed, 0.2, layers="mlp", settings={"lora.targets": "mlp"}))
        results.append(made(8, 1e-2, seed, 0.3, problems_per_step=64, settings={"problems_per_step": 64}))
    names = {file.name for file in draw_all(results, "t", tmp_path)}
    assert names == {"by-step.png", "by-rate.png", "by-layers.png", "by-batch.png"}


def test_the_example_is_a_sweep() -> None:
    sweep = load_sweep(ROOT / "examples" / "sweep-tiny.toml")
    assert len({point.config.seed for point in sweep.points}) == 3
    assert load_config(TINY).name == sweep.base.name
