"""The type of the model where the configuration leaves it open."""

from pathlib import Path

import pytest
import torch

from rl.cluster import device
from rl.cluster.device import resolve_dtype
from rl.cluster.learner import say_what_costs
from rl.config import RunConfig, replaced

RUN = replaced(RunConfig(), runtime="ray")
ALONE = replaced(RunConfig(), runtime="local", rollout={"engine": "torch"})


@pytest.fixture(autouse=True)
def slow_processor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without a GPU, whose processor lacks bfloat16, and which is no cluster's node."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.mark.parametrize("config", [RUN, ALONE])
def test_a_run_that_has_this_machine_alone_takes_what_is_fast_here(config: RunConfig) -> None:
    assert resolve_dtype(config).model.dtype == "float32"


def test_a_cluster_has_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert resolve_dtype(RUN).model.dtype == "bfloat16"
    assert resolve_dtype(ALONE).model.dtype == "float32"
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert resolve_dtype(RUN).model.dtype == "float32"


def test_so_does_the_cluster_that_this_machine_belongs_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "known_head", lambda: "10.0.0.1:6379")
    assert resolve_dtype(RUN).model.dtype == "bfloat16"


def test_a_gpu_takes_bfloat16_unless_it_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_dtype(RUN).model.dtype == "bfloat16"
    assert resolve_dtype(replaced(ALONE, learner={"device": "cpu"})).model.dtype == "float32"


@pytest.mark.parametrize("said", ["bfloat16", "float32"])
def test_what_is_said_is_taken(said: str) -> None:
    assert resolve_dtype(replaced(RUN, model={"dtype": said})).model.dtype == said


@pytest.mark.parametrize("emulates", [0, 1])
def test_a_learner_without_products_in_bfloat16_says_so(emulates: int, caplog: pytest.LogCaptureFixture) -> None:
    say_what_costs(RUN, {"gradient_checkpointing": 0, "emulates_bfloat16": emulates})
    assert ('set model.dtype = "float32"' in caplog.text) == bool(emulates)
