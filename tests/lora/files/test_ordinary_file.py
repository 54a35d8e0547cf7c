"""Files are opened and written at once, or refused: whatever else has their name is neither waited for nor replaced."""

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from lora.files.atomic_write import new_directory, write_atomic
from lora.files.ordinary_file import NotOrdinary, open_file, read_file, require_directory

OTHERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "directory": (lambda path: path.mkdir(), "a directory"),
    "fifo": (lambda path: os.mkfifo(path), "a FIFO"),
    "socket": (lambda path: socket.socket(socket.AF_UNIX).bind(str(path)), "a socket"),
    "link to nothing": (lambda path: path.symlink_to("nowhere"), "a link to nothing"),
    "link to a device": (lambda path: path.symlink_to("/dev/zero"), "a device"),
    "link to a fifo": (lambda path: (os.mkfifo(f"{path}-fifo"), path.symlink_to(f"{path}-fifo")), "a FIFO"),
}


def about(path: Path) -> tuple[int, ...]:
    """Return all that is known of a file but when it was read: following a link counts as that."""
    status = path.lstat()
    return status.st_ino, status.st_mode, status.st_nlink, status.st_size, status.st_mtime_ns, status.st_ctime_ns


@pytest.mark.timeout(20)
@pytest.mark.parametrize("other", OTHERS)
def test_what_is_no_file_is_refused_at_once_and_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    make, kind = OTHERS[other]
    monkeypatch.chdir(tmp_path)  # a socket's path may have only 107 letters
    path = Path("it")
    make(path)
    before = about(path)
    for use in (
        lambda: open_file(path),
        lambda: open_file(path, "ab"),
        lambda: open_file(path, "a+b"),
        lambda: read_file(path),
        lambda: write_atomic(path, b"x"),
    ):
        with pytest.raises(NotOrdinary, match=f"it is {kind}") as caught:
            use()
        assert caught.value.filename == "it"
    assert about(path) == before
    assert not Path("nowhere").exists()
    assert [found.name for found in Path().iterdir() if found.name.startswith(".")] == []


def test_a_link_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "it").symlink_to(tmp_path / "it")
    for use in (open_file, read_file, lambda path: write_atomic(path, b"x")):
        with pytest.raises(OSError, match="symbolic links"):
            use(tmp_path / "it")


def test_a_link_to_a_file_stays_one_when_the_file_is_written(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to("elsewhere/file")
    write_atomic(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert read_file(tmp_path / "elsewhere" / "file") == b"new"


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "it").open("wb") as file:
        os.truncate(file.fileno(), 2**33)  # nothing of it is on the disk
    with pytest.raises(ValueError, match=r"it is larger than the 1 MiB"):
        read_file(tmp_path / "it", 2**20)


def test_a_name_that_is_too_long_is_named_by_the_error(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 300)
    for use in (lambda: read_file(path), lambda: write_atomic(path, b"")):
        with pytest.raises(OSError, match="too long") as caught:
            use()
        assert caught.value.filename == str(path)
    assert write_atomic(tmp_path / ("x" * 250), b"a").read_bytes() == b"a"


def test_only_a_directory_is_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    require_directory(tmp_path)
    require_directory(tmp_path / "not there")
    for name in ("file", "link"):
        with pytest.raises(NotADirectoryError):
            require_directory(tmp_path / name)


# --- new directories ---


@pytest.mark.parametrize("there", [False, True], ids=["new", "empty"])
def test_a_new_directory_is_whole_or_not_there(tmp_path: Path, there: bool) -> None:
    out = tmp_path / "deep" / "out"
    if there:
        out.mkdir(parents=True)

    def fill(*, fails: bool) -> None:
        with new_directory(out) as scratch:
            (scratch / "inner").mkdir()
            (scratch / "inner" / "file").write_text("x")
            assert not (out / "inner").exists()
            if fails:
                raise RuntimeError

    with pytest.raises(RuntimeError):
        fill(fails=True)
    assert not out.exists() or list(out.iterdir()) == []
    fill(fails=False)
    assert [path.name for path in out.iterdir()] == ["inner"]
    assert (out / "inner" / "file").read_text() == "x"
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    assert stat.S_IMODE(out.stat().st_mode) & 0o755 == 0o755


REFUSED: dict[str, Callable[[Path], Path]] = {
    "a file": lambda home: write_atomic(home / "it", b"x"),
    "below a file": lambda home: write_atomic(home / "it", b"x") / "out",
    "a link to nothing": lambda home: _linked(home / "it", "nowhere"),
    "a link to itself": lambda home: _linked(home / "it", "it"),
    "a long name": lambda home: home / ("x" * 300),
    "not empty": lambda home: home.parent,
    "no place": lambda home: Path("/proc/out"),
}


def _linked(path: Path, target: str) -> Path:
    path.symlink_to(target)
    return path


@pytest.mark.parametrize("where", REFUSED)
def test_a_place_where_there_can_be_none_is_a_users_mistake(tmp_path: Path, where: str) -> None:
    (tmp_path / "home").mkdir()
    out = REFUSED[where](tmp_path / "home")
    before = sorted(os.listdir(tmp_path / "home"))  # noqa: PTH208
    with pytest.raises(ValueError, match="--out"), new_directory(out):
        pass
    assert sorted(os.listdir(tmp_path / "home")) == before  # noqa: PTH208
