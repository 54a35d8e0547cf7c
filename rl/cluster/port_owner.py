"""The user who listens at a port of this machine: a token is sent unasked only to ourselves."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

LISTENS = "0A"
TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
"""Linux's tables of sockets; other systems have none, and there nobody is known."""


def is_anothers(port: int) -> bool:
    """Return True if a user other than this one, and not root, listens at that port."""
    return any(number == port and user not in (os.geteuid(), 0) for number, user in _listeners())


def _listeners() -> Iterator[tuple[int, int]]:
    """Yield the port and the user of each listening socket."""
    for table in TABLES:
        with suppress(OSError):
            for line in table.read_text().splitlines()[1:]:
                _, local, _, state, _, _, _, user, *_ = line.split()
                if state == LISTENS:
                    yield int(local.rpartition(":")[2], 16), int(user)
