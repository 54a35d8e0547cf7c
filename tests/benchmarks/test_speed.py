"""The benchmarks measure what their names say, and the page shows what they found."""

import json
from pathlib import Path

import psutil
import pytest

from bench.compare import COMPARISONS, results
from bench.compare.flops import count
from bench.compare.learner_child import executed, make_batch, one_policy
from bench.compare.neighbour import busy_core
from bench.compare.table import Row
from lora.base.load import load_skeleton
from lora.config import ModelConfig
from rl.config import RunConfig
from rollout.vllm.engine_thread import Call
from rollout.vllm.policy_queue import OldestPolicyQueue


def test_policies_of_a_sweep_are_sampled_together() -> None:
    """Four versions of one run are not: they are sampled one after another, at half the speed."""
    from bench.compare.rollout_child import policies  # it loads vLLM, which other tests need not wait for

    config = RunConfig(model=ModelConfig(name="tiny-random", dtype="float32"))
    waiting: OldestPolicyQueue[Call] = OldestPolicyQueue()
    calls = [Call([[1]], [], adapter) for adapter in policies(config, 4)]
    for call in calls:
        waiting.push(call)
    assert waiting.pop_ready([]) == calls


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


def test_an_updates_operations_are_counted_whichever_thread_they_are_in(tiny_model: ModelConfig) -> None:
    """torch's counter sees one thread, and an update on several cores is in others."""
    config = RunConfig(model=tiny_model.model_copy(update={"max_length": 512}))
    batch = make_batch([[5, 6, 7]] * 8, config, 40)
    products = count(load_skeleton(config.model), config.lora, batch.rows)
    assert executed(one_policy(config), batch) >= products.linears + products.adapters


def test_a_neighbour_keeps_one_core_busy_and_is_gone_afterwards() -> None:
    children = psutil.Process().children
    before = children()
    with busy_core():
        (neighbour,) = set(children()) - set(before)
        assert neighbour.cpu_times().user > 0
    assert not neighbour.is_running()
