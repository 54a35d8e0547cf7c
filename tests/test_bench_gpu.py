"""The measurements for a card run without one, on a model of two layers, and fill every column."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.vllm
def test_all_parts_run_on_a_cpu(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    done = subprocess.run(
        [sys.executable, "-m", "bench.gpu", "--out", str(out)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    figures = json.loads(out.read_text())
    assert figures["numbers"][0]["gradient_difference"] == 0, "a CPU's gradients are its own"
    (update,), (rollout,) = figures["update"], figures["rollout"]
    assert update["tokens"] == 512
    assert update["tokens_per_s"] > 0
    assert rollout["publish_to_first_token_s"] > 0
    assert 0.1 < rollout["share_of_base"] < 10
    assert "| tiny | 256 |" in done.stdout
