"""The directory of Ray's sessions on this machine, and the file that says which cluster it is a node of.

Ray's own choice is /tmp/ray, which belongs to whoever was there first, and Ray lets every user write to all that it
makes in it: to the sockets that its processes talk through, and to the file that names the cluster which a run joins.
So what is started here has its sessions inside a directory that nobody else can enter, and of such files only this
user's own, or root's, are believed.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from lora.files.ordinary_file import open_ordinary

CURRENT = "ray_current_cluster"
"""Ray's name for the file with the head's HOST:PORT in it."""


def session_directory() -> Path:
    """Return the directory for the sessions that this user starts, inside one that only this user can enter.

    Raises:
        ValueError: another user is in its place, or it cannot be made.
    """
    place = _place()
    if _is_private(place):
        return place / "ray"
    own = place / f"rankone-{os.getuid()}"
    try:
        own.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        pass
    except OSError as error:
        raise ValueError(f"cannot make {own}: {error.strerror}; set RAY_TMPDIR to a directory of your own") from None
    if not _is_private(own):
        raise ValueError(
            f"{own} is to be a directory that you alone can enter, and is not: remove it, or set RAY_TMPDIR to one"
        )
    return own / "ray"


def known_head() -> str | None:
    """Return HOST:PORT of the head that `rankone up` or `ray start` last made this machine a node of, if any."""
    newest = sorted(_known_heads(), reverse=True)
    return newest[0][1] if newest else None


def latest_session() -> Path:
    """Return the files of the session that was last started here by `rankone up`, or by this user's `ray start`."""
    links = [directory / "session_latest" for directory in _directories()]
    return max(filter(_leads_to_ours, links), key=lambda link: link.lstat().st_mtime, default=links[0])


def _place() -> Path:
    """Return the directory that Ray takes for temporary files."""
    return Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp")


def _is_private(directory: Path) -> bool:
    try:
        status = directory.lstat()
    except OSError:
        return False
    others = stat.S_IRWXG | stat.S_IRWXO
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & others


def _directories() -> list[Path]:
    """Return where sessions may be: those of `rankone up`, and those of a plain `ray start`."""
    return [_place() / f"rankone-{os.getuid()}" / "ray", _place() / "ray"]


def _leads_to_ours(link: Path) -> bool:
    try:
        return _is_trusted(link.lstat()) and _is_trusted(link.stat())
    except OSError:
        return False


def _is_trusted(status: os.stat_result) -> bool:
    return status.st_uid in (os.geteuid(), 0)


def _known_heads() -> Iterator[tuple[float, str]]:
    """Yield what files of ours or of root's say, each with the time of its writing."""
    for directory in _directories():
        with suppress(OSError), os.fdopen(open_ordinary(directory / CURRENT, os.O_RDONLY), errors="replace") as file:
            status = os.fstat(file.fileno())
            if _is_trusted(status) and (address := file.read(256).strip()):
                yield status.st_mtime, address
