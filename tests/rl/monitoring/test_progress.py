"""The views of a run: lines, a live display, a curve."""

import io
from pathlib import Path

import pytest
from helpers.fakes import RIGHT, WRONG, problem
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from rewards.types import Problem
from rl.algorithm.evaluation.held_out import Evaluation
from rl.monitoring.curve import accuracy_figure
from rl.monitoring.figure_file import write_figure
from rl.monitoring.progress import BARS, LiveDisplay, LogLines, sparkline
from rl.monitoring.trackers import TensorBoard
from rl.run.sinks import Ended, Sink, Sinks
from rl.types import Group
from rollout.types import Completion

METRICS = {"reward/mean": 0.375, "throughput/sample_tokens_per_s": 120.0, "time/sample_s": 1.5, "time/update_s": 0.5}


def group(question: str = "what?", text: str = "an answer") -> Group:
    completions = [Completion((3,), (0.0,), text, "stop", 0)] * 2
    return Group(Problem("p", question, "1"), [1], completions, [RIGHT, WRONG])


@given(st.lists(st.floats(0, 1), max_size=60), st.integers(1, 50))
def test_a_sparkline_has_a_bar_a_value_and_higher_bars_for_higher_values(values: list[float], width: int) -> None:
    bars = sparkline(values, width)
    assert len(bars) == min(len(values), width)
    heights = [BARS.index(bar) for bar in bars]
    for (low, one), (high, other) in zip(
        sorted(zip(values[-width:], heights, strict=True)),
        sorted(zip(values[-width:], heights, strict=True))[1:],
        strict=False,
    ):
        assert low <= high
        assert one <= other


def test_log_lines_say_accuracy_and_reward_by_step() -> None:
    text = io.StringIO()
    lines = LogLines(Console(file=text, width=200), num_steps=30)
    lines.on_eval(0, Evaluation(0.125, 0.125, 0.125, [group()]))
    lines.on_step(0, METRICS, [group()])
    lines.on_step(30, {"eval/accuracy": 1.0}, [])
    first, second = text.getvalue().splitlines()
    assert first.split() == ["step", "0/30", "held-out", "accuracy", "0.125", "▂"]
    assert "reward 0.375" in second
    assert "120 tokens/s" in second
    assert "sample 1.5 s + update 0.5 s" in second


def test_the_live_display_shows_progress_and_what_the_model_wrote_even_if_it_looks_like_markup() -> None:
    text = io.StringIO()
    display = LiveDisplay(Console(file=text, force_terminal=True, width=120), "name", num_steps=4, first=0)
    display.on_eval(0, Evaluation(0.5, 0.5, 0.5, [group()]))
    display.on_step(0, METRICS, [group("[/red] [bold", "[/] \x1b[2J \\boxed{1}")])
    display.on_step(4, {}, [])
    display.close("finished")
    shown = text.getvalue()
    for expected in ("0.500", "0.375", "120", "[/red] [bold", "\\boxed{1}", "1/4"):
        assert expected in shown


class Failing(Sink):
    """Breaks at every call."""

    def __init__(self) -> None:
        self.calls = 0

    def on_eval(self, step: int, evaluation: Evaluation) -> None:
        self.on_step(step, {}, [])

    def on_step(self, *_: object) -> None:
        self.calls += 1
        raise OSError("the disk is full")

    def close(self, ended: Ended) -> None:
        self.on_step()


def test_a_sink_that_fails_is_left_out_and_the_others_go_on(tmp_path: Path) -> None:
    failing, text = Failing(), io.StringIO()
    sinks = Sinks([failing, LogLines(Console(file=text, width=200), 3), TensorBoard(tmp_path, 0)])
    for step in range(3):
        sinks.on_step(step, METRICS, [group()])
    sinks.close("finished")
    assert failing.calls == 1
    assert len(text.getvalue().splitlines()) == 3


def test_tensorboard_gets_every_metric_by_step(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = TensorBoard(tmp_path, 0)
    for step in range(3):
        board.on_step(step, {"reward/mean": step / 4}, [])
    board.close("finished")
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("reward/mean")] == [(0, 0.0), (1, 0.25), (2, 0.5)]


@pytest.mark.parametrize("metrics", [[], [{"step": 0, "eval/accuracy": 0.5}], [{"step": 0, "reward/mean": 0.5}]])
def test_a_curve_is_drawn_from_however_little_there_is(tmp_path: Path, metrics: list[dict[str, float]]) -> None:
    write_figure(accuracy_figure(metrics, problem().question), tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_rewards_of_any_size_are_on_the_curve() -> None:
    rows = [{"step": step, "reward/mean": reward} for step, reward in enumerate((-1.0, 7.5, float("nan"), 0.5))]
    assert accuracy_figure(rows, "").axes[0].get_ylim() == (-1.0, 7.5)
    assert accuracy_figure(rows[3:], "").axes[0].get_ylim() == (0.0, 1.0)
