"""Joining a Ray cluster that is there already, or starting one, with one clear line where that cannot be."""

import logging
import os
import re
import socket
from typing import Any

import ray

from rl.cluster.ray_directory import known_head, session_directory
from rl.cluster.token import make_token, settle_token, token_wanted
from rl.cluster.watchdog import call_off
from rl.monitoring.dashboard.host import find_host
from rl.shadowing import raise_if_shadowed
from rollout.ray import private as ray_private

log = logging.getLogger(__name__)

PATIENCE_S = 10.0
"""Ray itself tries for minutes where nothing listens."""
OBJECT_STORE_BYTES = 512 * 2**20
"""For a cluster of our own on this machine: adapters and batches are small."""
TOO_BUSY = "this machine is too busy to start Ray; end what else runs here, and try again"


def connect() -> None:
    """Join the cluster that `RAY_ADDRESS` names, else the one that `rankone up` made this machine a node of.

    Where there is none, or `RAY_ADDRESS` is "local", start one for this run alone.

    Raises:
        ValueError: nothing answers at `RAY_ADDRESS`, it is another version, or a file here hides a package of ours.
        ClusterStartError: Ray would not start.
    """
    if ray.is_initialized():
        return
    raise_if_shadowed()
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "namespace": "rankone"}
    address = os.environ.get("RAY_ADDRESS", "")
    if address not in ("", "local"):
        join(address, **quiet)
    elif address == "local" or not join_here(**quiet):
        start(**quiet)


def disconnect() -> None:
    """Leave the cluster; one that `connect` started ends with it."""
    if ray.is_initialized():
        ray.shutdown()
    call_off()


class ClusterStartError(RuntimeError):
    """Ray would not start."""


def start(**options: Any) -> None:
    """`ray.init` of a cluster that is this process's own, and ends with it.

    Raises:
        ClusterStartError: Ray says no, or does not come up in its time.
    """
    os.environ.setdefault("RAY_worker_niceness", "0")  # the run is what the user is waiting for
    # Ray would start an idle process a core, which serves nobody: each of our actors has variables of its own.
    os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
    # If this process is killed, Ray's agents look for the head that died with it for a minute, by Ray's own setting.
    os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", "10")
    try:
        options = {"_temp_dir": str(session_directory())} | options
        if token_wanted():
            make_token()  # Ray itself would let every user of this machine read it
        ray.init("local", include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, **options)
    except Exception as error:  # Ray's own are of many kinds, bare `Exception` among them
        ray.shutdown()
        message = " ".join(str(error).split())
        why = TOO_BUSY if "timed out" in message else f"Ray would not start: {message[:300] or type(error).__name__}"
        raise ClusterStartError(why) from error


def join(address: str, **options: Any) -> None:
    """`ray.init` at HOST:PORT, or at `auto`.

    Raises:
        ValueError: nothing answers there, it wants a token that is not here, or its Ray or Python is another one.
    """
    head = _current() if address == "auto" else address
    require_head(head)
    try:
        ray.init(head, **options)
    except ConnectionError:
        raise ValueError(no_cluster(address)) from None
    except RuntimeError as error:
        reason = mismatch(str(error))
        if reason is None:
            raise
        raise ValueError(reason) from None


def join_here(**options: Any) -> bool:
    """Join the cluster that `rankone up` made this machine a node of, if there is one and it lets us in.

    One that does not show the curves of runs is somebody's for something else, and left alone.
    """
    address = known_head()
    if address is None or not _listens(address):
        return False
    try:
        join(address, **options)
    except ValueError as error:
        log.warning("%s; so this run gets a cluster of its own", error)
        return False
    if find_host() is None:
        ray.shutdown()
        return False
    log.info("on the Ray cluster at %s, of which this machine is a node (RAY_ADDRESS=local stays out of it)", address)
    return True


def kill_own_cluster() -> None:
    """End the processes of a cluster that this process started, on the spot; one that it joined is left alone."""
    ray_private.kill_started_cluster()


def mismatch(message: str) -> str | None:
    """Ray's words about two versions that do not fit, as one line; None if that is not what they are about."""
    versions = re.findall(r"Ray: (\S+)\s+Python: (\S+)", message)
    if "ersion mismatch" not in message or len(versions) < 2:
        return None
    (their_ray, their_python), (our_ray, our_python) = versions[:2]
    return (
        f"the cluster runs Ray {their_ray} on Python {their_python}, and this is Ray {our_ray} on Python {our_python}; "
        "all nodes and whoever joins them need the same"
    )


def no_cluster(address: str) -> str:
    """Return the words for an address where nothing answers."""
    if address == "auto":
        return "no Ray cluster runs on this machine; run this on one of its nodes, or set RAY_ADDRESS"
    return f"no Ray cluster answers at {address}; start one with `rankone up`, or give another address (RAY_ADDRESS)"


def require_head(address: str) -> None:
    """See that a head answers at HOST:PORT, and let this process use the token that it wants.

    Raises:
        ValueError: nothing answers, what answers is no head, or it wants a token that is not here; or it is the URL of
            something else.
    """
    if "://" in address:
        raise ValueError(
            f"{address} is not where nodes join a cluster, as HOST:6379 is: set RAY_ADDRESS to that on one of its nodes"
            " (Ray Client, at ray://, cannot follow a run's workers), or send the run there with `rankone submit`"
        )
    if not _is_host_and_port(address):
        return  # Ray's own words, such as local
    if not _listens(address):
        raise ValueError(no_cluster(address))
    settle_token(address)


def _is_host_and_port(address: str) -> bool:
    host, colon, port = address.rpartition(":")
    return bool(colon) and port.isdecimal() and "/" not in host


def _listens(address: str) -> bool:
    """Return True if anything listens at HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE_S).close()
    except OSError:
        return False
    return True


def _current() -> str:
    """The head of the cluster that `ray start` made this machine a node of, HOST:PORT. Raises ValueError if none is."""
    address = known_head()
    if address is None:
        raise ValueError(no_cluster("auto"))
    return address
