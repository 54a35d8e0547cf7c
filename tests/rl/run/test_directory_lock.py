"""One process at a time writes a run, or a sweep and its runs; and what is no lock is not taken for one."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rl.run.directory_lock import InUse, locked, outside_a_sweep, sweep_locked


def fifo(lock: Path) -> None:
    os.mkfifo(lock)


def directory(lock: Path) -> None:
    lock.mkdir()


def link(lock: Path) -> None:
    lock.symlink_to(lock.with_name("precious"))


def dangling_link(lock: Path) -> None:
    lock.symlink_to(lock.with_name("nowhere"))


def unix_socket(lock: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(lock))


@pytest.mark.parametrize("make", [fifo, directory, link, dangling_link, unix_socket])
def test_what_is_no_file_is_refused_at_once_and_left_as_it_is(tmp_path: Path, make: Callable[[Path], None]) -> None:
    (tmp_path / "precious").write_text("kept")
    make(tmp_path / ".lock")
    code = "import sys; from pathlib import Path; from rl.run.directory_lock import locked; locked(Path(sys.argv[1])).__enter__()"
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60)
    last = ended.stderr.splitlines()[-1]
    assert (ended.returncode, last.startswith(f"ValueError: {tmp_path / '.lock'} is to be a file")) == (1, True), last
    assert (tmp_path / "precious").read_text() == "kept"
    assert not (tmp_path / "nowhere").exists()


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match=f"cannot write the directory {path}: .*--out"), locked(path):
            pass


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    with sweep_locked(tmp_path / "sweep"):
        (tmp_path / "sweep" / "sweep.toml").write_text("")
    for name in ("p000", "p001"):
        (tmp_path / "sweep" / name).mkdir()
    return tmp_path / "sweep"


def test_a_sweep_keeps_out_another_and_every_run_of_its_own_that_is_not_its(sweep: Path) -> None:
    with sweep_locked(sweep):
        for other in (sweep_locked(sweep), outside_a_sweep(sweep / "p000"), outside_a_sweep(sweep / "new")):
            with pytest.raises(InUse, match=f"writes to {sweep} \\(process {os.getpid()} on .*--out"), other:
                pass
        with locked(sweep / "p000"), outside_a_sweep(sweep.parent / "a run beside it"):
            pass


def test_runs_of_a_sweep_keep_it_out_but_not_each_other(sweep: Path) -> None:
    (sweep.parent / "link").symlink_to(sweep / "p001")
    linked = outside_a_sweep(sweep.parent / "link")
    with outside_a_sweep(sweep / "p000"), linked, locked(sweep / "p001"), pytest.raises(InUse) as refused:
        sweep_locked(sweep).__enter__()
    assert f"another run writes to {sweep / 'p001'} (process {os.getpid()} on" in str(refused.value)
    with sweep_locked(sweep):
        pass
