"""A PostgreSQL server of a test's own, in a directory of its own, where its programs are on this machine."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

PLACES = ("/usr/local/bin", *sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin"))))


def program(name: str) -> str | None:
    """Return where a program of PostgreSQL's is."""
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), *PLACES)))


def available() -> bool:
    """Return True if a server can be started."""
    return program("initdb") is not None and program("pg_ctl") is not None


@contextmanager
def postgres() -> Generator[str]:
    """Run a server inside the block; yields the URL of a database of it."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    data = Path(tempfile.mkdtemp(prefix="pg-"))  # not below pytest's, which its own user alone may enter
    unprivileged = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.getuid() == 0 else []
    if unprivileged:  # PostgreSQL does not run as root
        shutil.chown(data, "nobody", "nogroup")
    control = [*unprivileged, str(program("pg_ctl")), "-D", str(data), "-w"]
    options = f"-p {port} -k {data} -c listen_addresses=127.0.0.1 -c fsync=off"
    try:
        run([*unprivileged, str(program("initdb")), "-D", str(data), "-U", "rankone", "--auth=trust"])
        run([*control, "-o", options, "-l", str(data / "log"), "start"])
        try:
            yield f"postgresql+psycopg://rankone@127.0.0.1:{port}/postgres"
        finally:
            run([*control, "-m", "immediate", "stop"])
    finally:
        shutil.rmtree(data, ignore_errors=True)


def run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")
