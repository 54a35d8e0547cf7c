"""Leftovers of killed workers in memory are removed by the next one; files of living ones are not."""

import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from rollout.vllm import shm_dir
from rollout.vllm.shm_dir import OPENMP, SharedMemoryDir, remove_leftovers

HOLD = """
import stat
import sys
from pathlib import Path

import pytest
from rollout.vllm.shm_dir import SharedMemoryDir
directory = SharedMemoryDir(Path(sys.argv[1]))
(directory.path / "adapter").write_text("x")
print(directory.path, flush=True)
sys.stdin.read()
"""


def holder(home: Path) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    return process, Path(process.stdout.readline().strip())


def test_only_the_directories_of_the_dead_are_removed(tmp_path: Path) -> None:
    killed, left = holder(tmp_path)
    living, used = holder(tmp_path)
    (tmp_path / f"rankone-{os.getuid()}-being-made").mkdir()
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert left.exists(), "a second worker's start does not touch the first one's"
    mine = SharedMemoryDir(tmp_path)
    assert not left.exists()
    assert (used / "adapter").read_text() == "x"
    assert (tmp_path / f"rankone-{os.getuid()}-being-made").exists()
    mine.close()
    assert not mine.path.exists()
    living.communicate()


def test_where_shared_memory_is_small_the_disk_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that nobody told otherwise."""
    (tmp_path / "disk").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "disk"))
    directory = SharedMemoryDir(tmp_path)
    assert directory.path.parent == tmp_path
    directory.close()
    monkeypatch.setattr(shm_dir, "LEAST_FREE", 2**60)
    directory = SharedMemoryDir(tmp_path)
    assert directory.path.parent == tmp_path / "disk"
    directory.close()


def test_openmps_files_of_dead_processes_are_removed(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    ours, theirs = (tmp_path / f"{OPENMP}{pid}_{os.getuid()}" for pid in (dead.pid, os.getpid()))
    other_user = tmp_path / f"{OPENMP}{dead.pid}_{os.getuid() + 1}"
    for file in (ours, theirs, other_user):
        file.write_text("")
    remove_leftovers(tmp_path)
    assert [file.exists() for file in (ours, theirs, other_user)] == [False, True, True]


OTHER_USER = 54321
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can make files that belong to somebody else")


def of_another_user(*paths: Path) -> None:
    for path in paths:
        os.chown(path, OTHER_USER, OTHER_USER, follow_symlinks=False)


def start(home: Path) -> subprocess.CompletedProcess[str]:
    """A worker's start, in a process that is given up if it does not come to its end."""
    code = "import sys; from pathlib import Path; from rollout.vllm.shm_dir import SharedMemoryDir; "
    code += "SharedMemoryDir(Path(sys.argv[1])).close()"
    return subprocess.run([sys.executable, "-c", code, str(home)], capture_output=True, text=True, timeout=60)


def test_a_directory_is_its_users_alone(tmp_path: Path) -> None:
    mine = SharedMemoryDir(tmp_path)
    assert mine.path.name.startswith(f"rankone-{os.getuid()}-{os.getpid()}-")
    assert stat.S_IMODE(mine.path.stat().st_mode) == 0o700
    mine.close()


def test_a_lock_that_is_a_fifo_does_not_stop_a_worker_from_starting(tmp_path: Path) -> None:
    """Opening one as a file would wait until somebody writes to it."""
    for name in ("rankone-trap", f"rankone-{os.getuid()}-1-trap"):
        (tmp_path / name).mkdir()
        os.mkfifo(tmp_path / name / "lock")
    os.mkfifo(tmp_path / f"rankone-{os.getuid()}-fifo")
    assert start(tmp_path).returncode == 0
    assert len(list(tmp_path.iterdir())) == 3


@as_root
def test_another_users_directories_are_left_alone_whatever_their_names(tmp_path: Path) -> None:
    trap, free = (tmp_path / f"rankone-{os.getuid()}-1-{name}" for name in ("trap", "free"))
    for directory in (trap, free):
        directory.mkdir()
        (directory / "adapter").write_text("theirs")
    os.mkfifo(trap / "lock")
    (free / "lock").write_text("")
    of_another_user(*tmp_path.rglob("*"))
    assert start(tmp_path).returncode == 0
    assert (trap / "adapter").exists()
    assert (free / "adapter").exists()


def test_no_link_is_followed_to_what_looks_abandoned(tmp_path: Path) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir()
    elsewhere.mkdir()
    (elsewhere / "lock").write_text("")
    (home / f"rankone-{os.getuid()}-1-link").symlink_to(elsewhere)
    (home / f"rankone-{os.getuid()}-1-inner").mkdir()
    (home / f"rankone-{os.getuid()}-1-inner" / "lock").symlink_to(elsewhere / "lock")
    remove_leftovers(home)
    assert (elsewhere / "lock").exists()
    assert len(list(home.iterdir())) == 2


@as_root
def test_only_this_users_openmp_files_are_removed(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    theirs, ours = (tmp_path / f"{OPENMP}{dead.pid}{suffix}_{os.getuid()}" for suffix in ("", "_1"))
    for file in (theirs, ours):
        file.write_text("")
    of_another_user(theirs)
    remove_leftovers(tmp_path)
    assert (theirs.exists(), ours.exists()) == (True, False)
