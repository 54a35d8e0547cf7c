"""The public Python API: its names in whatever order they are imported, and runs from a script and from a notebook."""

import asyncio
import inspect
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import rl
from lora.peft.files import read_peft, unpack
from rewards.types import Outcome
from rl import RunConfig, RunResult, SweepConfig, evaluate, grade, load_config, sft, sweep, train
from rl.run.directory import RunDirectory

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
TINY, SFT_TINY = EXAMPLES / "tiny.toml", EXAMPLES / "sft-tiny.toml"
SMALL: dict[str, Any] = {
    "num_steps": 3, "problems_per_step": 4, "sampling.group_size": 2, "sampling.max_tokens": 3, "evaluate.every": 2,
    "evaluate.num_problems": 4, "checkpoint_every": 1, "reward.workers": 1, "tensorboard": False,
}  # fmt: skip


# --- names ---

ORDERS = """
import itertools, os
import aiohttp.web, jaxtyping, platformdirs, pydantic, ray, rich.console, safetensors, tomlkit, torch, transformers
import transformers.tokenization_utils_base  # noqa: the children have it

IMPORTS = (
    "from rl import train, sft, sweep",
    "import rl.train, rl.sft, rl.sweep",
    "from rl.train import Components; from rl.sft import train_sft; from rl.sweep.points import Sweep",
    "import rl; rl.train, rl.sft, rl.sweep",
    "import rl.train as loop, rl.sweep as package; assert loop.train",
    "import rl.api",
    "from rl import *",
)
CHECK = '''
import sys, rl, rl.train, rl.sweep.points
from rl import sft, sweep, train
from rl.sft import train_sft
from rl.train import Components, train as loop
for function in (train, sft, sweep, rl.train, rl.sft, rl.sweep):
    assert callable(function), function
assert train is rl.train is sys.modules["rl.train"]
assert rl.train.train is loop
assert rl.sweep.points.Sweep
'''
for order in [*((one,) for one in IMPORTS), *itertools.permutations(IMPORTS[:3], 2)]:
    if os.fork() == 0:
        exec("\\n".join([*order, CHECK]), {})
        os._exit(0)
    assert os.wait()[1] == 0, order
"""


def test_each_name_is_function_and_module_in_every_order_of_imports() -> None:
    ended = subprocess.run([sys.executable, "-c", ORDERS], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_importing_the_package_loads_no_library(tmp_path: Path) -> None:
    code = "import rl, sys; assert not {'torch', 'ray', 'transformers', 'pydantic'} & set(sys.modules); print(dir(rl))"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert all(f"'{name}'" in ended.stdout for name in rl.__all__)


def test_every_name_is_there_and_others_are_not() -> None:
    for name in rl.__all__:
        assert getattr(rl, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        rl.trian  # noqa: B018
    with pytest.raises(ImportError, match="trian"):
        exec("from rl import trian")


# --- runs ---


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunResult, list[tuple[int, Mapping[str, float]]]]:
    seen: list[tuple[int, Mapping[str, float]]] = []
    out = tmp_path_factory.mktemp("runs") / "run"
    result = train(
        TINY, out=out, settings=SMALL, on_step=lambda step, metrics: seen.append((step, metrics)), quiet=True
    )
    return result, seen


def test_a_run_returns_its_curve_its_adapters_and_a_plot(
    trained: tuple[RunResult, list[tuple[int, Mapping[str, float]]]], tmp_path: Path
) -> None:
    result, seen = trained
    assert [step for step, _ in seen] == [0, 1, 2, 3]
    assert all("reward/mean" in metrics for _, metrics in seen[:-1])
    assert [step for step, _ in result.curve] == [0, 2, 3]
    assert [row["step"] for row in result.metrics] == [0, 1, 2, 3]
    assert (result.kind, result.config.num_steps) == ("train", 3)
    assert "3 steps" in result.summary
    for adapter in (result.best_adapter, result.last_adapter):
        assert unpack(read_peft(adapter).payload)[1].base_model == "tiny-random"
    assert result.plot()._repr_png_().startswith(b"\x89PNG")
    assert result.plot().save(tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_goes_on_where_it_was_and_a_second_one_is_refused(tmp_path: Path) -> None:
    train(TINY, out=tmp_path / "run", settings=SMALL, quiet=True)
    with pytest.raises(ValueError, match="holds a run already"):
        train(TINY, out=tmp_path / "run", settings=SMALL, quiet=True)
    result = train(TINY, out=tmp_path / "run", settings=SMALL | {"num_steps": 4}, resume=True, quiet=True)
    assert [row["step"] for row in result.metrics] == [0, 1, 2, 3, 4]


def test_an_evaluation_gives_the_accuracy_in_the_curve(
    trained: tuple[RunResult, list[tuple[int, Mapping[str, float]]]],
) -> None:
    result, _ = trained
    assert evaluate(result.config, result, which="last").accuracy == result.curve[-1][1]
    assert evaluate(TINY, settings=SMALL).accuracy == result.curve[0][1]


def test_a_configuration_is_as_good_as_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLES)
    config = load_config(SFT_TINY)
    assert isinstance(config, RunConfig)
    results = [
        sft(one, out=tmp_path / name, settings=SMALL | {"num_steps": 1}, quiet=True)
        for one, name in ((config, "config"), ("sft-tiny.toml", "file"))
    ]
    assert results[0].curve == results[1].curve
    assert RunDirectory(tmp_path / "file").kind == results[0].kind == "sft"
    with pytest.raises(ValueError, match="lora\\.rank"):
        sft(config, out=tmp_path / "wrong", settings={"lora.rank": "high"})


def test_a_callback_ends_a_run_by_returning_true_or_by_failing(tmp_path: Path) -> None:
    def fail(step: int, metrics: Mapping[str, float]) -> None:
        raise ZeroDivisionError(f"in step {step}")

    result = sft(SFT_TINY, out=tmp_path / "run", settings=SMALL, on_step=lambda step, _: step == 1, quiet=True)
    assert [row["step"] for row in result.metrics] == [0, 1]
    assert "stopped early" in result.summary
    with pytest.raises(ZeroDivisionError, match="in step 0"):
        sft(SFT_TINY, out=tmp_path / "other", settings=SMALL, on_step=fail, quiet=True)
    again = sft(SFT_TINY, out=tmp_path / "run", settings=SMALL, resume=True, quiet=True)
    assert [row["step"] for row in again.metrics] == [0, 1, 2, 3]


def test_a_sweep_returns_its_results_and_the_best_of_them(tmp_path: Path) -> None:
    config = SweepConfig(base=str(SFT_TINY), recipe="sft", axes={"learner.lr": [1e-4, 1e-2]})
    result = sweep(config, out=tmp_path / "out", settings=SMALL, quiet=True)
    assert [one.ended for one in result.results] == ["finished"] * 2
    assert result.best is not None
    assert result.best.lr == 1e-2
    assert result.best.final_value == min(one.final_value or 99.0 for one in result.results)
    assert result.best_adapter is not None
    assert read_peft(result.best_adapter)
    assert result.conclusions
    assert (tmp_path / "out" / "sweep.json") in result.files


def test_completions_are_graded_alone_and_together() -> None:
    assert grade("1/2", "so it is \\boxed{0.5}").outcome is Outcome.CORRECT
    rewards = grade("96", ["\\boxed{96}", "\\boxed{59 + 37}", "I do not know"], question="What is 59 + 37?")
    assert [reward.value for reward in rewards] == [1.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="no_such"):
        grade("1", "1", reward="no_such")


# --- notebooks ---


async def test_everything_works_inside_a_running_loop(tmp_path: Path) -> None:
    """As in a notebook's cell, which is a coroutine of a loop that is running."""
    threads: set[str] = set()
    before = set(threading.enumerate())
    result = train(
        TINY, out=tmp_path / "run", settings=SMALL | {"num_steps": 1},
        on_step=lambda *_: threads.add(threading.current_thread().name), quiet=True,
    )  # fmt: skip
    assert [step for step, _ in result.curve] == [0, 1]
    assert threads == {"rankone-session"}
    assert evaluate(TINY, settings=SMALL).accuracy == result.curve[0][1]
    assert grade("1", "\\boxed{1}").value == 1.0
    with pytest.raises(ValueError, match="unknown"):
        train(TINY, settings={"lora.rnk": 1})
    assert asyncio.get_running_loop().is_running()
    assert not {thread for thread in set(threading.enumerate()) - before if thread.name == "rankone-session"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_interrupted_cell_ends_its_run_in_order(tmp_path: Path, number: signal.Signals) -> None:
    def interrupt(step: int, metrics: Mapping[str, float]) -> None:
        if step == 1:
            os.kill(os.getpid(), number)

    more = {"num_steps": 100_000, "evaluate.every": 100_000}
    handler = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        sft(SFT_TINY, out=tmp_path / "run", settings=SMALL | more, on_step=interrupt, quiet=True)
    assert signal.getsignal(number) is handler
    assert (tmp_path / "run" / "curve.png").exists()
    done = len(RunDirectory(tmp_path / "run").metrics())
    again = sft(SFT_TINY, out=tmp_path / "run", settings=SMALL | {"num_steps": done + 1}, resume=True, quiet=True)
    assert [row["step"] for row in again.metrics] == list(range(done + 2))


def test_the_example_notebook_runs(tmp_path: Path) -> None:
    for name in ("tiny.toml", "tiny.jsonl"):
        (tmp_path / name).write_bytes((EXAMPLES / name).read_bytes())
    notebook = nbformat.read(EXAMPLES / "notebook.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "it is kept without outputs"
    (training,) = (cell for cell in notebook.cells if '"num_steps": 20' in cell.source)
    training.source = training.source.replace('"num_steps": 20', '"num_steps": 5')
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs), "the curve is shown"
    assert not [output for output in outputs if output.output_type == "error"]
    text = "".join(output.get("text", "") for output in outputs)
    assert "held-out accuracy" in text


def test_what_the_documentation_says_of_the_arguments_is_so() -> None:
    for function in (train, sft):
        assert list(inspect.signature(function).parameters) == [
            "config", "out", "resume", "settings", "on_step", "quiet",
        ]  # fmt: skip
