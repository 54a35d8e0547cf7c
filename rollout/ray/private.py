"""Ray's private API: every name of Ray's that may change without notice is used here, and nowhere else.

One function a call, and in `tests/rl/cluster/test_ray_private.py` one test a function against a real cluster, so that a
new release of Ray which moves one of them fails there, by name, and not in the middle of a run.
"""

import logging
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any, cast

import ray
import ray.experimental.internal_kv

JOB_CLIENT_LOGGERS = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
_AUTOSCALER_REPORT = "__autoscaling_status"
"""The key under which the first autoscaler keeps its latest report."""


def started_cluster() -> bool:
    """Return True if this process started the cluster that it is connected to, and False if it joined one, or none."""
    node = _node()
    return node is not None and bool(node.is_head())


def kill_started_cluster() -> None:
    """Kill all processes of a cluster that this process started, without asking them first."""
    if started_cluster():
        _node().kill_all_processes(check_alive=False, allow_graceful=False)


def session_path() -> str:
    """Return the directory of this node's session: its logs, its sockets, and objects that memory has no room for."""
    return str(_node().get_session_dir_path())


def held_references() -> int:
    """Return how many objects this process holds a reference to. The public count needs a dashboard."""
    return len(cast(Any, ray)._private.worker.global_worker.core_worker.get_all_reference_counts())


def autoscaler_report() -> bytes | None:
    """Return the latest report of the first autoscaler, as JSON; None where the second one runs, which writes none."""
    return cast(Any, ray.experimental.internal_kv)._internal_kv_get(_AUTOSCALER_REPORT)


def cluster_status(gcs_address: str) -> Any:
    """Return the second autoscaler's view of the cluster: `stats.autoscaler_version`, `active_nodes`, `idle_nodes`."""
    return import_module("ray.autoscaler.v2.sdk").get_cluster_status(gcs_address)


def reload_auth_mode() -> None:
    """Make Ray's core read RAY_AUTH_MODE again: it keeps what it read when Ray was imported."""
    _core().Config.initialize("")


def reload_token() -> None:
    """Make Ray's core forget the token that it read, so that the next use reads it again."""
    _core().AuthenticationTokenLoader.instance().reset_cache()


def stored_token_headers() -> dict[str, str]:
    """Return the token at hand as HTTP headers, whatever RAY_AUTH_MODE is; empty if there is none.

    Raises:
        AuthenticationError: RAY_AUTH_TOKEN_PATH names a file that cannot be read.
    """
    return dict(_core().AuthenticationTokenLoader.instance().get_token_for_http_header(ignore_auth_mode=True))


def ask_cluster_id(address: str, headers: Mapping[str, str], timeout_s: float) -> str | None:
    """Ask the head at HOST:PORT for its cluster's id, as every node and driver does first.

    Ray's own client would ask twenty times, and log each. Returns None if it answers, else the name of gRPC's status:
    UNAUTHENTICATED if the token is wrong or missing, UNAVAILABLE if no head is there.
    """
    import grpc

    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        ask = channel.unary_unary("/ray.rpc.NodeInfoGcsService/GetClusterId")
        try:
            ask(b"", timeout=timeout_s, metadata=tuple(headers.items()))
        except grpc.RpcError as error:
            return str(cast(Any, error).code().name)
    return None


def dashboard_wants_token(dashboard: str, timeout_s: float) -> bool:
    """Return True if the dashboard at that http:// address lets in only who has its token.

    A Ray that is too old to know the question wants none.
    """
    import requests

    answer = requests.get(f"{dashboard}/api/authentication_mode", timeout=timeout_s)
    return answer.ok and answer.json()["authentication_mode"] == "token"


def quiet_job_client(loggers: Iterable[str] = JOB_CLIENT_LOGGERS) -> None:
    """Silence the lines about packages and their hashes that Ray's job client logs; importing it sets these to INFO."""
    for name in loggers:
        logging.getLogger(name).setLevel(logging.WARNING)


def dashboard_ray_version(job_client: Any) -> str | None:
    """Return the version of the Ray that answers a `JobSubmissionClient`; None if it will not say."""
    answer = job_client._do_request("GET", "/api/version")
    return str(answer.json().get("ray_version", "")) if answer.ok else None


def job_client_headers(job_client: Any) -> dict[str, str]:
    """Return the HTTP headers that a `JobSubmissionClient` sends, its token among them."""
    return dict(job_client._headers)


def _node() -> Any:
    """Return Ray's object of this process's node; None where Ray is not initialized."""
    return cast(Any, ray)._private.worker._global_node


def _core() -> Any:
    """Return Ray's compiled core, which has no types."""
    return import_module("ray._raylet")
