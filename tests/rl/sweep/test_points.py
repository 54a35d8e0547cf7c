"""A sweep's file as its runs: what can stand in one, and what is refused in a line."""

import math
import os
from pathlib import Path

import pytest

from rl.run.best_metric import ACCURACY, LOG_LOSS
from rl.sweep.config import StopConfig
from rl.sweep.directory import newest_sweep, open_directory
from rl.sweep.early_stopping import EarlyStopper
from rl.sweep.points import load_sweep
from rl.sweep.run import prepare_sweep

TINY = Path(__file__).parents[3] / "examples" / "tiny.toml"
RANDOM = '[search]\nkind = "random"\nsamples = 5\n'


def sweep_file(directory: Path, text: str, base: str = "[base]\n") -> Path:
    file = directory / "sweep.toml"
    file.write_text(f"{text}\n{base}")
    return file


@pytest.mark.parametrize(
    ("text", "base", "said"),
    [
        ('[axes]\n"data.digits" = [1, 2]', '[[base.data]]\nlabel = "a"\n[[base.data]]\nlabel = "b"', "write a sweep for"),
        ("[axes]\nlora.targets = [[5]]", "[base]", r"lora.targets\[0\] must be text"),
        ("[[also]]\nlora.rank = []", "[base]", "also: lora.rank has no values"),
        (
            f"[axes]\nseed = {list(range(100))}\nlora.rank = {[1] * 50}", "[base]", "a grid of 100 x 50 = 5000 runs is above"
        ),
        ('[axes]\n"lora.rank" = [1, 2]\n[axes.lora]\nrank = [4]', "[base]", "lora.rank is given twice"),
        (f"[axes]\nlearner.lr = {{ min = 0.1, max = inf }}\n{RANDOM}", "[base]", "needs min below max"),
    ],
)  # fmt: skip
def test_what_no_sweep_can_be_is_one_line(tmp_path: Path, text: str, base: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        load_sweep(sweep_file(tmp_path, text, base))
    assert "\n" not in str(refused.value)


def test_a_narrow_range_is_drawn_from_within_it_and_not_always_the_same(tmp_path: Path) -> None:
    file = sweep_file(tmp_path, f"[axes]\nlearner.beta2 = {{ min = 0.99951, max = 0.99999 }}\n{RANDOM}")
    drawn = [point.config.learner.beta2 for point in load_sweep(file).points]
    assert len(set(drawn)) == 5
    assert all(0.99951 <= value <= 0.99999 for value in drawn)


def test_a_runs_directory_has_a_name_that_a_file_system_takes(tmp_path: Path) -> None:
    text = (
        f'[axes]\nlora.targets = [["../../q_proj", "{"x" * 300}"], ["k_proj"]]\nprompt.suffix = ["{"数" * 99}", "a/b"]'
    )
    names = [point.name for point in load_sweep(sweep_file(tmp_path, text)).points]
    assert len(set(names)) == 4
    assert all(name == os.path.basename(name) and len(name.encode()) <= 200 for name in names)  # noqa: PTH119
    assert names[3] == "p003-k-suffixa_b"


def test_the_newest_sweep_of_a_name_is_none_of_a_longer_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("sums-20260102-030405", "sums-20260102-030406", "sums-of-three-20270102-030405"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "sweep.toml").touch()
    assert newest_sweep("sums") == Path("runs/sums-20260102-030406")


def test_a_sweeps_own_file_finds_what_its_base_named_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though it lies elsewhere, and is read from another directory: the command that resumes a sweep names it."""
    begins, out = tmp_path / "begins", tmp_path / "out"
    begins.mkdir()
    out.mkdir()
    (begins / "more.jsonl").write_text('{"question": "1 + 1 =", "answer": 2}\n')
    (begins / "run.toml").write_text(TINY.read_text() + '\n[[evaluate.sets]]\nname = "more"\nfile = "more.jsonl"\n')
    file, elsewhere = sweep_file(begins, 'base = "run.toml"\n[axes]\nseed = [0]', ""), TINY.parent / "tiny.jsonl"
    sweep = load_sweep(file, [f"data.train={elsewhere}"])
    open_directory(sweep, prepare_sweep(sweep), out, resume=False)
    monkeypatch.chdir(tmp_path)
    (prepared,) = prepare_sweep(load_sweep(out / "sweep.toml"))
    assert [name for name, _ in prepared.problems.sets] == ["more"]


def test_a_reference_that_is_no_adapter_is_refused_whichever_run_has_it(tmp_path: Path) -> None:
    empty = tmp_path / "no-adapter"
    empty.mkdir()
    text = f'base = "{TINY}"\n[axes]\nlearner.kl_reference = ["none", "{empty}"]\nlearner.kl_coef = [0.1]'
    with pytest.raises(ValueError, match=r"p001.*learner\.kl_reference"):
        prepare_sweep(load_sweep(sweep_file(tmp_path, text, "")))


def test_a_run_that_came_to_no_number_is_the_worst() -> None:
    assert LOG_LOSS.best([math.nan, 2.0, 1.0]) == 1.0
    assert ACCURACY.best([math.nan, 0.5]) == 0.5
    stopper = EarlyStopper(StopConfig(scheduler="asha", reduction_factor=2), num_steps=4)
    scores = [LOG_LOSS.score(loss) for loss in (1.0, 1.1, 1.2, math.nan, 1.05)]
    assert [stopper.should_stop(f"run {i}", 1, score) for i, score in enumerate(scores)][3:] == [True, False]
