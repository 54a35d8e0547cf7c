"""What killed workers leave in memory is removed by the next one, and what living ones use is not."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from rollout.memory_disk import OPENMP, MemoryDirectory, remove_leftovers

HOLD = """
import sys
from pathlib import Path
from rollout.memory_disk import MemoryDirectory
directory = MemoryDirectory(Path(sys.argv[1]))
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
    (tmp_path / "rankone-being-made").mkdir()
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert left.exists(), "a second worker's start does not touch the first one's"
    mine = MemoryDirectory(tmp_path)
    assert not left.exists()
    assert (used / "adapter").read_text() == "x"
    assert (tmp_path / "rankone-being-made").exists()
    mine.close()
    assert not mine.path.exists()
    living.communicate()


def test_openmps_files_of_dead_processes_are_removed(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    ours, theirs = (tmp_path / f"{OPENMP}{pid}_{os.getuid()}" for pid in (dead.pid, os.getpid()))
    other_user = tmp_path / f"{OPENMP}{dead.pid}_{os.getuid() + 1}"
    for file in (ours, theirs, other_user):
        file.write_text("")
    remove_leftovers(tmp_path)
    assert [file.exists() for file in (ours, theirs, other_user)] == [False, True, True]
