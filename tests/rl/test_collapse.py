"""The guard on real runs whose policy goes bad: it is brought back whole, or the run is stopped, and both are said."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from safetensors.torch import load
from typer.testing import CliRunner

from lora.peft.files import read_peft
from rl.cli.app import app
from rl.data import draw, load_problems
from rl.run import checkpoint
from rl.settings.toml import load_config

EXAMPLE = Path(__file__).parents[2] / "examples" / "tiny.toml"
TURNS_AT = 3
REWARD = """
TURNED = {turned}

def digits(problem, completion):
    share = sum(map(str.isdigit, completion)) / max(1, len(completion))
    return 1 - share if problem.id in TURNED else share
"""
"""Asks for digits, as on the held-out problems; then, on those that come from a certain step on, for anything else."""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return settings of a run that learns its task within a few steps, and is then taught the contrary."""
    home = tmp_path_factory.mktemp("turning")
    rows = [{"question": f"max {i % 10} {i // 10 % 10}", "answer": "1"} for i in range(200)]
    (home / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sets = [
        f"data.train={home / 'data.jsonl'}", "data.num_held_out=8", "problems_per_step=8", "sampling.group_size=4",
        "learner.lr=0.1", "evaluate.every=1", "evaluate.num_problems=8", "reward.workers=1", "tensorboard=false",
        f"reward.function={home / 'turning.py'}:digits", "guard.patience=2",
    ]  # fmt: skip
    config = load_config(EXAMPLE, sets)
    train = load_problems(config.data, config.seed, home).train
    turned = {problem.id for step in range(TURNS_AT, 20) for problem in draw(train, step, 8, config.seed)}
    (home / "turning.py").write_text(REWARD.format(turned=turned))
    return sets


def train(out: Path, settings: list[str], *more: str) -> Result:
    sets = [part for setting in [*settings, *more] for part in ("--set", setting)]
    resume = ["--resume"] if out.exists() else []
    return CliRunner().invoke(app, ["train", str(EXAMPLE), "--out", str(out), *resume, *sets])


def rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def timeless(out: Path) -> list[dict[str, Any]]:
    measured = "time", "throughput", "policy/sampler", "policy/distance"  # a resumed run checks the sampler once more
    return [{name: value for name, value in row.items() if not name.startswith(measured)} for row in rows(out)]


ROLL_BACK = ("guard.action=roll_back", "guard.lr_factor=0.5", "guard.max_roll_backs=1")


def test_a_collapse_is_rolled_back_to_the_best_policy_bit_for_bit_once_and_the_next_one_ends_the_run(
    tmp_path: Path, settings: list[str]
) -> None:
    """A run that is resumed right after the roll-back ends like the one that went on."""
    whole = train(tmp_path / "whole", settings, *ROLL_BACK, "num_steps=60")
    assert whole.exit_code == 1, whole.output
    lines = [line for line in whole.stderr.splitlines() if line.startswith("rankone: ")]
    assert len(lines) == 1
    found = rows(tmp_path / "whole")
    (at,) = [row["step"] for row in found if row.get("guard/rolled_back")]
    assert at > TURNS_AT
    assert f"stopped at step {found[-1]['step']}, where the run collapses, rolled back 1 times: " in lines[0]
    assert "adapters/best" in lines[0]
    assert [row["step"] for row in found] == list(range(found[-1]["step"] + 1))
    best = max(found, key=lambda row: row["eval/accuracy"])
    assert found[at]["eval/accuracy"] < 0.7 < best["eval/accuracy"] == found[at + 1]["eval/accuracy"]
    assert best["policy/version"] == found[at + 1]["policy/version"] < found[at]["policy/version"]
    rates = {row["step"]: row["update/lr"] for row in found if "update/lr" in row}  # steps without a signal have none
    assert rates == pytest.approx({step: 0.1 if step <= at else 0.05 for step in rates})
    assert found[-1]["guard/alarms"] > 0

    out = tmp_path / "stopped"
    first = train(out, settings, *ROLL_BACK, f"num_steps={at + 1}")
    assert first.exit_code == 0, first.output
    kept, newest = checkpoint.best(out / "checkpoints"), checkpoint.newest(out / "checkpoints")
    assert kept is not None
    assert newest is not None
    assert (kept.step, newest.step) == (best["step"], at + 1)
    assert newest.state == kept.state, "the adapter, the optimizer and the version"
    assert {name.split(".")[1] for name in load(kept.state) if name.startswith("adam.")} == {"step", "exp_avg", "exp_avg_sq"}  # fmt: skip
    assert read_peft(out / "adapters" / "last").payload == read_peft(out / "adapters" / "best").payload
    second = train(out, settings, *ROLL_BACK, "num_steps=60")
    assert second.exit_code == 1, second.output
    assert timeless(out) == timeless(tmp_path / "whole")
    for which in ("best", "last"):
        assert read_peft(out / "adapters" / which).payload == read_peft(tmp_path / "whole" / "adapters" / which).payload


def test_a_collapse_stops_a_run_that_is_to_stop_and_other_settings_let_it_go_on(
    tmp_path: Path, settings: list[str]
) -> None:
    out = tmp_path / "run"
    stopped = train(out, settings, "guard.action=stop", "num_steps=60")
    assert stopped.exit_code == 1, stopped.output
    last = rows(out)[-1]
    assert f"rankone: stopped at step {last['step']}, where the run collapses: held-out accuracy is" in stopped.stderr
    assert last["eval/accuracy"] < 0.7 < max(row["eval/accuracy"] for row in rows(out))
    again = train(out, settings, "guard.action=stop", "num_steps=60")
    assert (again.exit_code, rows(out)[-1]["step"]) == (1, last["step"])
    best = read_peft(out / "adapters" / "best").payload
    on = train(out, settings, "guard.action=warn", f"num_steps={last['step'] + 2}")
    assert on.exit_code == 0, on.output
    assert [row["step"] for row in rows(out)] == list(range(last["step"] + 3))
    assert read_peft(out / "adapters" / "best").payload == best
