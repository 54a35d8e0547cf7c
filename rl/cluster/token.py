"""The token of a Ray cluster: whoever has it may run anything there, and nobody else.

A cluster's ports take code from whoever reaches them, on this machine or through the network, unless the cluster has a
token. Ray 2.60 makes one for a cluster that `ray.init` starts, keeps it in `~/.ray/auth_token`, and from then on
`ray start` uses it too: but no client does so of its own accord, unless told with `RAY_AUTH_MODE=token`. Here a head
always has a token unless that is switched off, and every command asks the cluster whether it wants one.
"""

import os
import secrets
import stat
from pathlib import Path

from ray.exceptions import AuthenticationError

from lora.files.ordinary_file import open_ordinary
from rollout.ray import private as ray_private

MODE = "RAY_AUTH_MODE"
"""Ray's: `token`, or `disabled`."""
ASK_S = 10.0


def token_headers() -> dict[str, str]:
    """The token that is at hand on this machine, as HTTP's header and gRPC's metadata; empty if there is none.

    Raises:
        ValueError: RAY_AUTH_TOKEN_PATH names a file that cannot be read, or the file of the home directory is one that
            somebody else put there.
    """
    _require_trusted(_file())
    try:
        ray_private.reload_token()
        return ray_private.stored_token_headers()
    except AuthenticationError as error:
        raise ValueError(str(error).partition(". ")[0]) from None


def make_token() -> None:
    """Make the token that a new cluster will have, if none is at hand.

    Raises:
        ValueError: it cannot be written.
    """
    if token_headers():
        return
    path = _file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Ray itself would let every user of this machine read it.
        with os.fdopen(open_ordinary(path, os.O_WRONLY | os.O_CREAT), "w") as file:
            os.fchmod(file.fileno(), 0o600)
            file.truncate()
            file.write(secrets.token_hex(32))
        ray_private.reload_token()
    except OSError as error:
        raise ValueError(
            f"cannot write the cluster's token to {path}: {error.strerror}; set RAY_AUTH_TOKEN, or use --no-token "
            "(RAY_AUTH_MODE=disabled)"
        ) from None


def token_wanted() -> bool:
    """Return True unless the user has switched tokens off for clusters that are started here."""
    return os.environ.get(MODE, "token").lower() == "token"


def use_token(needs_token: bool) -> None:
    """Let this process, and those that it starts, talk to clusters with the token, or without it."""
    os.environ[MODE] = "token" if needs_token else "disabled"
    ray_private.reload_auth_mode()


def settle_token(address: str) -> None:
    """Find out whether the head at HOST:PORT wants a token, and let this process use ours if so.

    Raises:
        ValueError: it wants one, and none is at hand or it is another cluster's; or no head is there.
    """
    needs_token = not _lets_in(address, {})
    if needs_token and not _lets_in(address, token_headers()):
        raise ValueError(refusal(address))
    use_token(needs_token)


def refusal(address: str) -> str:
    """Return the words for somebody whom the cluster at that address does not let in."""
    if token_headers():
        return (
            f"the token here is not that of the cluster at {address}: copy ~/.ray/auth_token from its head, or set "
            "RAY_AUTH_TOKEN"
        )
    return (
        f"the cluster at {address} wants its token: copy ~/.ray/auth_token from its head to the same place here, or "
        "set RAY_AUTH_TOKEN"
    )


def _lets_in(address: str, headers: dict[str, str]) -> bool:
    """Return False if the head refuses these headers, and True if it answers, or fails for another reason."""
    status = ray_private.ask_cluster_id(address, headers, ASK_S)
    if status == "UNAVAILABLE":
        raise ValueError(
            f"what answers at {address} is no Ray head: give the port that nodes join at (6379 by default), "
            "not the dashboard's"
        )
    return status != "UNAUTHENTICATED"


def _file() -> Path:
    """Return where Ray keeps the token if nothing in the environment says otherwise."""
    return Path.home() / ".ray" / "auth_token"


def _require_trusted(file: Path) -> None:
    """Raises ValueError if the file is none, which Ray would wait for, or belongs to a user who is a stranger here."""
    if any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")) or not file.exists():
        return
    status = file.stat()
    if not stat.S_ISREG(status.st_mode) or status.st_uid not in (os.geteuid(), 0, Path.home().stat().st_uid):
        raise ValueError(f"{file} is no file of yours; remove it, or set RAY_AUTH_TOKEN")
