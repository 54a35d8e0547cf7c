"""Runs as jobs of a Ray cluster: what a job needs is packed, sent, followed, stopped and fetched.

All of it goes through the port of the cluster's dashboard.
"""

import asyncio
import io
import json
import tempfile
import time
import zipfile
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rl.cluster.token import refusal, token_headers
from rl.jobs.spec import JobSpec
from rl.monitoring.curve import accuracy_figure
from rl.monitoring.figure_file import write_figure
from rl.monitoring.loss_curve import loss_figure
from rl.run.jsonl import read_metrics
from rl.run.kind import guess_kind
from rl.sweep.findings import write_findings
from rl.sweep.results import read_all
from rollout import ray_private

STOP_WAIT_S = 120
"""A stopped run may take this long to close what it opened. Ray's own 3 s would kill it half-way."""
AGENT_WAIT_S = 60
"""How long a head may take to be ready for its first job."""
ENDED = {"SUCCEEDED": 0, "STOPPED": 130, "FAILED": 1}


class ClusterError(RuntimeError):
    """The cluster does not answer, or not as expected."""


@dataclass(frozen=True, slots=True)
class Job:
    """A submitted run, as the cluster describes it."""

    id: str
    name: str
    status: str
    started: float | None
    """Seconds since the epoch."""
    ended: float | None
    message: str
    exit_status: int | None

    @property
    def over(self) -> bool:
        return self.status in ENDED

    @property
    def exit_code(self) -> int:
        """What a shell should see: the run's own status. Ray's own command ends with 0 for a stopped job."""
        if self.status == "FAILED":
            return self.exit_status or 1
        return ENDED.get(self.status, 1)


class Cluster:
    """A Ray cluster, by its dashboard's address. Every method raises ClusterError if it does not answer."""

    def __init__(self, address: str) -> None:
        from ray.job_submission import JobSubmissionClient

        ray_private.quiet_job_client()
        self.address = address.rstrip("/")
        with translated(self.address):
            self._client: Any = JobSubmissionClient(self.address, headers=self._token_headers())

    def _token_headers(self) -> dict[str, str]:
        """What lets us in, if the cluster asks for it."""
        if not ray_private.dashboard_wants_token(self.address, timeout_s=30):
            return {}
        if not (headers := token_headers()):
            raise ValueError(refusal(self.address))
        return headers

    def submit(self, work: JobSpec, name: str, submission_id: str) -> str:
        """Send a job; its submission id.

        Raises:
            ValueError: it is too large, a file that it needs is not there, or the cluster's Ray is another one.
        """
        self._require_our_ray()
        with tempfile.TemporaryDirectory(prefix="rankone-job-") as scratch:
            folder = Path(scratch)
            work.write(folder)
            environment = {
                "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S),
                "RANKONE_SUBMISSION_ID": submission_id,
                "PYTHONUNBUFFERED": "1",
            }
            out = f'"$HOME/.rankone/runs/{submission_id}"'
            request = {
                "entrypoint": f"rankone {work.command} {work.file} --out {out} --resume",
                "submission_id": submission_id,
                "runtime_env": {"working_dir": str(folder), "env_vars": environment},
                "metadata": {"job_name": name},
            }
            with translated(self.address):
                return self._submit_when_an_agent_is_there(request)

    def _require_our_ray(self) -> None:
        """A rankone that runs there has the Ray that is there, and this one has no use for its answers."""
        with translated(self.address):
            theirs = ray_private.dashboard_ray_version(self._client)
        ours = ray_version()
        if theirs is not None and theirs.split(".")[:2] != ours.split(".")[:2]:
            raise ValueError(
                f"the cluster at {self.address} runs Ray {theirs}, and this is Ray {ours}: use the same on both"
            )

    def _submit_when_an_agent_is_there(self, request: dict[str, Any]) -> str:
        """A head that has just started answers before the agent that starts its jobs does."""
        deadline = time.monotonic() + AGENT_WAIT_S
        while True:
            try:
                return self._client.submit_job(**request)
            except RuntimeError as error:
                if "No available agent" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(1)

    def job(self, submission_id: str) -> Job:
        """One job. Raises ValueError if there is none of that id."""
        with translated(self.address, submission_id):
            return _job(self._client.get_job_info(submission_id))

    def jobs(self) -> list[Job]:
        """All submitted jobs, the latest first."""
        with translated(self.address):
            found = [_job(info) for info in self._client.list_jobs() if info.submission_id]
        return sorted(found, key=lambda job: -(job.started or 0))

    def logs(self, submission_id: str) -> str:
        with translated(self.address, submission_id):
            return self._client.get_job_logs(submission_id)

    def follow(self, submission_id: str, write: Callable[[str], None]) -> Job:
        """Write the logs as they come, until the job is over; the job then."""
        self.job(submission_id)

        async def tail() -> None:
            async for lines in self._client.tail_job_logs(submission_id):
                write(lines)

        with translated(self.address, submission_id):
            asyncio.run(tail())
        return self.wait(submission_id, 30)

    def stop(self, submission_id: str) -> Job:
        """Ask the run to end, and wait until it has."""
        if not self.job(submission_id).over:
            with translated(self.address, submission_id):
                self._client.stop_job(submission_id)
        return self.wait(submission_id, STOP_WAIT_S + 10)

    def wait(self, submission_id: str, seconds: float) -> Job:
        """The job once it is over, or as it is after that time."""
        deadline = time.monotonic() + seconds
        while not (job := self.job(submission_id)).over and time.monotonic() < deadline:
            time.sleep(0.3)
        return job

    def runs(self) -> list[dict[str, Any]]:
        """The runs that the cluster's page knows, the latest first: see `RunRecord.summary`.

        Raises:
            ValueError: it has no page.
        """
        return json.loads(self._get("runs.json"))

    def fetch(self, submission_id: str, out: Path) -> bool:
        """Write a job's metrics, their curve and the best adapter to `out`, from the cluster's page of curves.

        Of a sweep each run gets a directory of its own, and the sweep's results stand beside them. Whether there is an
        adapter yet.

        Raises:
            ValueError: `out` is not empty, or the cluster's page knows no such run.
        """
        if out.exists() and any(out.iterdir()):
            raise ValueError(f"{out} is not empty; choose another --out")
        runs = self.runs()
        mine = [run for run in runs if submission_id in (run["submission_id"], run["id"])]
        if not mine:
            known = ", ".join(dict.fromkeys(run["submission_id"] or run["id"] for run in runs[:5])) or "none"
            raise ValueError(f"the cluster's page knows no run {submission_id}; the latest it knows: {known}")
        results = self._get(f"sweeps/{submission_id}.json", empty=410)
        if len(mine) == 1 and not results:
            return self._fetch_run(mine[0], out)
        adapters = [self._fetch_run(run, out / Path(run["place"]).name) for run in mine]
        if results:
            write_findings(read_all(results), submission_id, out)
        return any(adapters)

    def _fetch_run(self, run: Mapping[str, Any], out: Path) -> bool:
        """Do one run's part of `fetch`; return True if it has an adapter already."""
        place = f"runs/{run['id']}"
        metrics, adapter = self._get(f"{place}/metrics.jsonl"), self._get(f"{place}/adapter.zip", empty=409)
        out.mkdir(parents=True, exist_ok=True)
        (out / "metrics.jsonl").write_bytes(metrics)
        rows = list(read_metrics(out / "metrics.jsonl"))
        kind = run.get("kind") or guess_kind(rows)
        figure = loss_figure if kind == "sft" else accuracy_figure
        write_figure(figure(rows, run["id"]), out / "curve.png")
        if adapter:
            with zipfile.ZipFile(io.BytesIO(adapter)) as archive:
                archive.extractall(out / "adapter")
        return bool(adapter)

    def _get(self, path: str, *, empty: int | None = None) -> bytes:
        """What the page answers; nothing where it answers with the status `empty`."""
        import requests

        try:
            answer = requests.get(
                f"{self.address}/rankone/{path}", headers=ray_private.job_client_headers(self._client), timeout=60
            )
        except requests.RequestException as error:
            raise ClusterError(f"no cluster answers at {self.address}: {error}") from None
        if answer.status_code in (401, 403):
            raise ValueError(refusal(self.address))
        if answer.status_code == 404:
            raise ValueError(
                f"{self.address} shows no page of curves: `rankone page` on its head makes one for runs to come, "
                "`rankone logs` has the curve of one that was a job, and its directory is on its driver's node"
            )
        if answer.status_code == empty:
            return b""
        if not answer.ok:
            raise ClusterError(f"{self.address} answered: {answer.text.strip()}")
        return answer.content


def ray_version() -> str:
    """Of the Ray here."""
    import ray

    return ray.__version__


@contextmanager
def translated(address: str, submission_id: str = "") -> Generator[None]:
    """Ray's errors as ours, of one line."""
    import requests
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError:
        raise ValueError(refusal(address)) from None
    except (ConnectionError, requests.RequestException) as error:
        raise ClusterError(
            f"no Ray cluster answers at {address}; start one with `rankone up`, or give --address"
        ) from error
    except RuntimeError as error:
        said = str(error)
        if "WebSocket" in said:
            raise ClusterError(
                f"the head at {address} is gone; when it is back, `rankone status {submission_id}` "
                "knows what became of the run"
            ) from None
        if "does not exist" in said:
            raise ValueError(f"{address} has no job {submission_id}; `rankone jobs` lists them") from None
        raise ClusterError(f"{address} answered: {said.strip().splitlines()[-1]}") from error


def _job(info: Any) -> Job:
    began, ended = (moment / 1000 if moment else None for moment in (info.start_time, info.end_time))
    name = (info.metadata or {}).get("job_name", "")
    status = str(getattr(info.status, "value", info.status))
    return Job(info.submission_id, name, status, began, ended, info.message or "", info.driver_exit_code)
