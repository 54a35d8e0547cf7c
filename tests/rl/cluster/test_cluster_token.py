"""Who is let into a cluster that `rankone up` started, and what the others are told."""

import os
import stat
import subprocess
from pathlib import Path

import pytest
import ray
from helpers.cluster import RANKONE, ROOT, SMALL, Head, rankone, rankone_as, run_as, without_ray_auth

from rl.cluster.token import settle_token, token_headers

WANTED, OTHER = "wants its token", "is not that of the cluster"


def said(ended: "subprocess.CompletedProcess[str]") -> str:
    """The one line of somebody's mistake."""
    assert ended.returncode == 2, ended.stdout + ended.stderr
    (line,) = ended.stderr.splitlines()
    return line


def test_the_token_is_made_for_its_user_alone(head: Head) -> None:
    file = Path(head.directory, ".ray", "auth_token")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(head.token) == 64


@pytest.mark.parametrize(
    "command", [["jobs"], ["logs", "x"], ["watch", "--once"], ["submit", str(ROOT / "examples" / "tiny.toml")]]
)
def test_whoever_has_no_token_is_told_what_to_do(head: Head, tmp_path: Path, command: list[str]) -> None:
    ended = rankone_as(without_ray_auth(HOME=str(tmp_path)), *command, "--address", head.dashboard)
    assert WANTED in said(ended)


def test_nor_is_a_driver_or_a_node_let_in(head: Head, tmp_path: Path) -> None:
    train = ["train", ROOT / "examples" / "tiny.toml", "--set", "runtime=ray", "--out", tmp_path / "run"]
    for command in (["up", "--join", head.address], ["page"], train):
        ended = rankone_as(without_ray_auth(HOME=str(tmp_path), RAY_ADDRESS=head.address), *command)
        assert WANTED in ended.stderr.splitlines()[-1]
        assert (ended.returncode, "Traceback" in ended.stderr) == (2, False)


def test_another_clusters_token_is_called_that(head: Head) -> None:
    assert OTHER in said(rankone("jobs", "--address", head.dashboard))
    assert OTHER in said(rankone("up", "--join", head.address))


def test_its_own_user_need_not_know_of_it(head: Head) -> None:
    """Nothing is set, as after `rankone up` in another shell."""
    environment = without_ray_auth(HOME=head.directory)
    assert rankone_as(environment, "jobs", "--address", head.dashboard).returncode == 0
    page = run_as({**environment, "RAY_ADDRESS": head.address}, "page")
    assert (page.returncode, "/rankone" in page.stdout) == (0, True), page.stderr


def test_rays_own_commands_work_once_they_are_told_of_it(head: Head, tmp_path: Path) -> None:
    sets = " ".join(f"--set {name}={value}" for name, value in (SMALL | {"num_steps": "1"}).items())
    command = [
        str(RANKONE.with_name("ray")), "job", "submit", "--address", head.dashboard, "--",
        *f"rankone train {ROOT}/examples/tiny.toml --out {tmp_path}/run {sets}".split(),
    ]  # fmt: skip
    environment = without_ray_auth(HOME=head.directory, RAY_AUTH_MODE="token")
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=200)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "held-out accuracy" in ended.stdout
    assert len(head.runs()) >= 1


def test_a_port_that_is_no_heads_is_called_that(head: Head) -> None:
    with pytest.raises(ValueError, match="is no Ray head"):
        settle_token(head.dashboard.removeprefix("http://"))


def test_a_token_file_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/no/such/file")
    with pytest.raises(ValueError, match="/no/such/file"):
        token_headers()


def test_a_cluster_that_a_test_starts_changes_nothing_for_the_next(ray_cluster: None) -> None:
    """Ray itself would set RAY_AUTH_MODE for all that this process starts, and write to the user's home."""
    assert ray.is_initialized()
    assert (os.environ["RAY_AUTH_MODE"], len(os.environ["RAY_AUTH_TOKEN"])) == ("token", 64)
