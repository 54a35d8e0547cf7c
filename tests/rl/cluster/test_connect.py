"""Where there is no cluster, or another one than ours."""

import os
import time
from pathlib import Path

import pytest
from helpers.cluster import ROOT, free_port, rankone_as

from rl.cluster.connect import join, mismatch

SAID = """RuntimeError: Version mismatch: The cluster was started with:
    Ray: 2.54.0
    Python: 3.11.7
This process on node 10.0.0.2 was started with:
    Ray: 2.60.0
    Python: 3.12.1
"""
"""What Ray 2.60 said to the head of a Ray 2.54."""


def test_another_version_is_one_line_with_both() -> None:
    said = mismatch(SAID) or ""
    assert "Ray 2.54.0 on Python 3.11.7" in said
    assert "Ray 2.60.0 on Python 3.12.1" in said
    assert "\n" not in said
    assert mismatch("something else") is None


def test_where_nothing_listens_it_is_said_at_once() -> None:
    started = time.monotonic()
    with pytest.raises(ValueError, match=r"no Ray cluster answers at 127\.0\.0\.1"):
        join(f"127.0.0.1:{free_port()}")
    assert time.monotonic() - started < 12


@pytest.mark.parametrize("address", ["ray://127.0.0.1:10001", "http://127.0.0.1:8265"])
def test_an_address_that_is_not_for_nodes_is_refused(address: str) -> None:
    """Others of Ray's commands take it from the same variable."""
    with pytest.raises(ValueError, match=r"is not where nodes join a cluster, as HOST:6379 is: set RAY_ADDRESS"):
        join(address)


def test_where_ray_cannot_start_it_is_said_in_one_line(tmp_path: Path) -> None:
    """Its files would lie below another file, which nothing can make a directory."""
    (tmp_path / "file").write_text("")
    command = ["train", ROOT / "examples" / "tiny.toml", "--out", tmp_path / "run", "--set", "runtime=ray"]
    environment = {**os.environ, "RAY_TMPDIR": str(tmp_path / "file")}
    environment.pop("RAY_ADDRESS", None)
    ended = rankone_as(environment, *command)
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("rankone: ")]
    assert (ended.returncode, "Ray would not start: " in line, "Traceback" in ended.stderr) == (1, True, False), line
