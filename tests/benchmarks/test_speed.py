"""The benchmarks measure what their names say, and the page shows what they found."""

import json
from pathlib import Path

import pytest

from bench.compare import COMPARISONS, results
from bench.compare.rollout_child import policies
from bench.compare.table import Row
from lora.config import ModelConfig
from rl.config import RunConfig
from rollout.older_first import OlderFirst
from rollout.vllm_engine import _Call


def test_policies_of_a_sweep_are_sampled_together() -> None:
    """Four versions of one run are not: they are sampled one after another, at half the speed."""
    config = RunConfig(model=ModelConfig(name="tiny-random", dtype="float32"))
    waiting: OlderFirst[_Call] = OlderFirst()
    calls = [_Call([[1]], [], adapter) for adapter in policies(config, 4)]
    for call in calls:
        waiting.put(call)
    assert waiting.take([]) == calls


def test_the_page_shows_the_figures_that_are_kept() -> None:
    kept = results.load()
    figures = results.table(kept, [name for name in COMPARISONS if name in kept["measured"]])
    assert results.publish(results.PAGE.read_text(), figures) == results.PAGE.read_text()


def test_figures_of_two_commits_make_no_table() -> None:
    row = {"comparison": "a", "what": "x", "value": 1.0, "unit": "", "key": None, "target": "", "shown": True}
    measured = {name: {"when": "2026-01-01 10:00", "commit": name, "machine": "m"} for name in ("a", "b")}
    kept = {"rows": {"a": [row], "b": [row]}, "measured": measured}
    with pytest.raises(ValueError, match="more than one commit: a, b"):
        results.table(kept, ["a", "b"])
    with pytest.raises(ValueError, match="never measured: c"):
        results.table(kept, ["a", "c"])
    assert "| x " in results.table(kept, ["a"])


def test_only_the_figures_of_a_page_are_replaced() -> None:
    page = f"before\n\n{results.BEGIN}old\n{results.END}\nafter\n"
    assert results.publish(page, "new\n") == page.replace("old", "new")


def test_a_row_is_kept_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results.json")
    row = Row("a", "x", 1.25, "s", "x_s", "<= 2", shown=True)
    results.keep("a", [row], 12.3)
    kept = json.loads((tmp_path / "results.json").read_text())
    assert kept["x_s"] == 1.25
    assert Row(**kept["rows"]["a"][0]) == row
    assert kept["measured"]["a"]["commit"] == results.commit()
