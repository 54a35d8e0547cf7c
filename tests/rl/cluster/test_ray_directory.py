"""On a machine with other users nothing of theirs is entered, waited for, believed, or told our token."""

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.cluster import without_ray_auth
from typer.testing import CliRunner

from rl.cli.app import app
from rl.cluster.port_owner import is_anothers
from rl.cluster.ray_directory import known_head, latest_session, session_directory
from rl.cluster.token import make_token, token_headers

OTHER_USER = 54321
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can make files that belong to somebody else")


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory for temporary files that all users write to."""
    made = Path(tempfile.mkdtemp(prefix="ro-", dir="/tmp"))  # short, as sockets below it have to be
    made.chmod(0o1777)
    monkeypatch.setenv("RAY_TMPDIR", str(made))
    yield made
    shutil.rmtree(made, ignore_errors=True)


def told(place: Path, address: str, seconds: float = 0) -> Path:
    """Say that the machine is a node of that cluster, so many seconds later than now."""
    file = place / "ray_current_cluster"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(address)
    os.utime(file, (file.stat().st_atime, file.stat().st_mtime + seconds))
    return file


# --- sessions ---


def test_sessions_are_where_nobody_else_gets_in(place: Path) -> None:
    own = place / f"rankone-{os.getuid()}"
    assert session_directory() == own / "ray"
    assert stat.S_IMODE(own.stat().st_mode) == 0o700
    assert session_directory() == own / "ray"


def test_a_private_place_is_used_as_ray_uses_it(place: Path) -> None:
    place.chmod(0o700)
    assert session_directory() == place / "ray"


def test_a_place_that_others_can_enter_or_lead_elsewhere_is_refused(place: Path) -> None:
    own = place / f"rankone-{os.getuid()}"
    (place / "elsewhere").mkdir(mode=0o700)
    own.symlink_to(place / "elsewhere")
    with pytest.raises(ValueError, match=f"{own} is to be a directory that you alone can enter"):
        session_directory()
    own.unlink()
    own.mkdir(mode=0o755)
    with pytest.raises(ValueError, match="set RAY_TMPDIR"):
        session_directory()
    own.rmdir()
    own.write_text("")
    with pytest.raises(ValueError, match="set RAY_TMPDIR"):
        session_directory()


@as_root
def test_a_place_that_somebody_else_took_is_refused(place: Path) -> None:
    own = place / f"rankone-{os.getuid()}"
    own.mkdir(mode=0o700)
    os.chown(own, OTHER_USER, OTHER_USER)
    with pytest.raises(ValueError, match=f"{own} is to be a directory that you alone can enter"):
        session_directory()


START = """
import json, os, ray
from rl.cluster.connect import connect, disconnect
connect()
node = ray._private.worker._global_node
print(json.dumps([node.get_session_dir_path(), oct(os.stat(os.path.expanduser("~/.ray/auth_token")).st_mode)]))
disconnect()
"""


@as_root
def test_a_run_starts_beside_another_users_ray_and_its_token_is_its_own(place: Path) -> None:
    """Who came first has left a FIFO where Ray looks for a cluster."""
    (place / "ray").mkdir(mode=0o755)
    os.mkfifo(place / "ray" / "ray_current_cluster")
    for path in (place / "ray", place / "ray" / "ray_current_cluster"):
        os.chown(path, OTHER_USER, OTHER_USER)
    (place / "home").mkdir(mode=0o700)
    environment = without_ray_auth(HOME=str(place / "home"))
    environment.pop("RAY_ADDRESS", None)
    ended = subprocess.run(
        [sys.executable, "-c", START], env=environment, capture_output=True, text=True, check=False, timeout=180
    )
    assert ended.returncode == 0, ended.stderr
    session, mode = json.loads(ended.stdout.splitlines()[-1])
    assert session.startswith(f"{place}/rankone-{os.getuid()}/ray/session_")
    assert mode == "0o100600"


# --- which cluster this machine is a node of ---


@pytest.mark.timeout(60)
def test_what_is_no_file_names_no_cluster(place: Path) -> None:
    assert known_head() is None
    (place / "ray").mkdir()
    os.mkfifo(place / "ray" / "ray_current_cluster")
    assert known_head() is None
    (place / "ray" / "ray_current_cluster").unlink()
    (place / "ray" / "ray_current_cluster").symlink_to(told(place / "elsewhere", "10.0.0.1:6379"))
    assert known_head() is None


def test_the_cluster_that_was_joined_last_is_known(place: Path) -> None:
    told(place / "ray", "10.0.0.1:6379")
    assert known_head() == "10.0.0.1:6379"
    told(session_directory(), "10.0.0.2:6379", seconds=1)
    assert known_head() == "10.0.0.2:6379"
    told(place / "ray", "10.0.0.3:6379", seconds=2)
    assert known_head() == "10.0.0.3:6379"


@as_root
def test_another_user_does_not_say_which_cluster_we_join(place: Path) -> None:
    os.chown(told(place / "ray", "10.6.6.6:6379", seconds=9), OTHER_USER, OTHER_USER)
    assert known_head() is None
    told(session_directory(), "10.0.0.2:6379")
    assert known_head() == "10.0.0.2:6379"


@as_root
def test_the_grafana_dashboard_goes_into_our_own_session(place: Path) -> None:
    theirs, ours = (
        directory / "session" / "metrics" / "grafana" / "dashboards"
        for directory in (place / "ray", session_directory())
    )
    for folder in (ours, theirs):
        folder.mkdir(parents=True)
        (folder.parents[3] / "session_latest").symlink_to(folder.parents[2])
    os.chown(theirs.parents[3] / "session_latest", OTHER_USER, OTHER_USER, follow_symlinks=False)
    assert latest_session() == ours.parents[3] / "session_latest"
    (place / "precious").write_text("kept")
    (ours / "rankone_grafana_dashboard.json").symlink_to(place / "precious")
    written = CliRunner().invoke(app, ["grafana"])
    assert written.exit_code == 0, written.output
    assert (ours / "rankone_grafana_dashboard.json").read_text().startswith("{")
    assert (place / "precious").read_text() == "kept"
    assert list(theirs.iterdir()) == []


# --- tokens ---


@pytest.fixture
def home(place: Path) -> Iterator[Path]:
    """A home that others write to, as where HOME=/tmp, and no token anywhere else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(place))
        for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
            patch.delenv(name, raising=False)
        yield place
    token_headers()  # Ray keeps what it read


@as_root
@pytest.mark.timeout(60)
def test_a_token_that_somebody_else_put_there_is_not_taken(home: Path) -> None:
    file = home / ".ray" / "auth_token"
    file.parent.mkdir()
    file.write_text("theirs")
    os.chown(file, OTHER_USER, OTHER_USER)
    for use in (token_headers, make_token):
        with pytest.raises(ValueError, match=f"{file} is no file of yours; remove it"):
            use()
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(ValueError, match="is no file of yours"):
        make_token()
    file.unlink()
    make_token()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    os.chown(file, OTHER_USER, OTHER_USER)
    os.chown(home, OTHER_USER, OTHER_USER)
    assert token_headers(), "a home that was given to root with all that is in it"


LISTEN = """
import os, socket, sys
if len(sys.argv) > 1:
    os.setuid(int(sys.argv[1]))
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
sys.stdin.read()
"""


@as_root
def test_a_token_is_not_sent_to_whoever_has_the_dashboards_port(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mine:
        assert not is_anothers(mine.getsockname()[1])
    command = [sys.executable, "-c", LISTEN, str(OTHER_USER)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        port = int(other.stdout.readline())
        assert is_anothers(port)
        monkeypatch.setattr("rl.cli.cluster_commands.DASHBOARD_PORT", port)
        monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
        refused = CliRunner().invoke(app, ["jobs"])
        other.communicate()
    assert refused.exit_code == 2
    assert f"port {port} of this machine is another user's" in refused.stderr
    assert not is_anothers(port)
