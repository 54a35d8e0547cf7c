"""A cluster's jobs: started, listed, followed and stopped, all through the port of its dashboard."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rl.cluster.token import refusal, token_headers
from rl.jobs.errors import translated_errors
from rl.jobs.page_client import PageClient
from rollout.ray import private as ray_private

STOP_WAIT_S = 120
"""A stopped run may take this long to close what it opened. Ray's own 3 s would kill it half-way."""
AGENT_WAIT_S = 60
"""A head may take this long to be ready for its first job."""
EXIT_CODES = {"SUCCEEDED": 0, "STOPPED": 130, "FAILED": 1}
"""Exit codes of the states in which a job is over."""


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
        return self.status in EXIT_CODES

    @property
    def exit_code(self) -> int:
        """The run's own status, for a shell. Ray's own command ends with 0 for a stopped job."""
        if self.status == "FAILED":
            return self.exit_status or 1
        return EXIT_CODES.get(self.status, 1)


class Cluster:
    """A Ray cluster, by its dashboard's address. Every method raises ClusterError if it does not answer."""

    def __init__(self, address: str) -> None:
        from ray.job_submission import JobSubmissionClient

        ray_private.quiet_job_client()
        self.address = address.rstrip("/")
        with translated_errors(self.address):
            self._client: Any = JobSubmissionClient(self.address, headers=self._token_headers())

    def _token_headers(self) -> dict[str, str]:
        """Return the token if the cluster asks for it. Raises ValueError if none is here."""
        if not ray_private.dashboard_wants_token(self.address, timeout_s=30):
            return {}
        if not (headers := token_headers()):
            raise ValueError(refusal(self.address))
        return headers

    @property
    def page(self) -> PageClient:
        """The cluster's page of curves."""
        return PageClient(self.address, ray_private.job_client_headers(self._client))

    def require_our_ray(self) -> None:
        """Compare the cluster's version of Ray with the installed one, whose client cannot use another's answers.

        Raises:
            ValueError: they differ.
        """
        with translated_errors(self.address):
            remote = ray_private.dashboard_ray_version(self._client)
        local = ray_version()
        if remote is not None and remote.split(".")[:2] != local.split(".")[:2]:
            raise ValueError(
                f"the cluster at {self.address} runs Ray {remote}, and this is Ray {local}: use the same on both"
            )

    def start(
        self, *, entrypoint: str, submission_id: str, runtime_env: Mapping[str, Any], metadata: Mapping[str, str]
    ) -> str:
        """Start a job with Ray's own arguments, and return its submission id.

        A head that has just started answers before the agent that starts its jobs does; that is waited for.
        """
        deadline = time.monotonic() + AGENT_WAIT_S
        with translated_errors(self.address):
            while True:
                try:
                    return self._client.submit_job(
                        entrypoint=entrypoint,
                        submission_id=submission_id,
                        runtime_env=dict(runtime_env),
                        metadata=dict(metadata),
                    )
                except RuntimeError as error:
                    if "No available agent" not in str(error) or time.monotonic() > deadline:
                        raise
                    time.sleep(1)

    def job(self, submission_id: str, *, has_answered: bool = False) -> Job:
        """Return one job. Raises ValueError if there is none of that id."""
        with translated_errors(self.address, submission_id, has_answered=has_answered):
            return _job(self._client.get_job_info(submission_id))

    def jobs(self) -> list[Job]:
        """Return all submitted jobs, the latest first."""
        with translated_errors(self.address):
            jobs = [_job(info) for info in self._client.list_jobs() if info.submission_id]
        return sorted(jobs, key=lambda job: -(job.started or 0))

    def logs(self, submission_id: str) -> str:
        with translated_errors(self.address, submission_id):
            return self._client.get_job_logs(submission_id)

    def follow(self, submission_id: str, write: Callable[[str], None]) -> Job:
        """Write the logs as they come, until the job is over; return the job as it is then."""
        self.job(submission_id)

        async def tail() -> None:
            async for lines in self._client.tail_job_logs(submission_id):
                write(lines)

        with translated_errors(self.address, submission_id, has_answered=True):
            asyncio.run(tail())
        return self.wait(submission_id, 30)

    def stop(self, submission_id: str) -> Job:
        """Ask the run to end, and wait until it has."""
        if not self.job(submission_id).over:
            with translated_errors(self.address, submission_id):
                self._client.stop_job(submission_id)
        return self.wait(submission_id, STOP_WAIT_S + 10)

    def wait(self, submission_id: str, timeout_s: float) -> Job:
        """Return the job, of a head that has answered, once it is over, or as it is after that time."""
        deadline = time.monotonic() + timeout_s
        while not (job := self.job(submission_id, has_answered=True)).over and time.monotonic() < deadline:
            time.sleep(0.3)
        return job


def ray_version() -> str:
    """Return the version of the installed Ray."""
    import ray

    return ray.__version__


def _job(info: Any) -> Job:
    started, ended = (moment / 1000 if moment else None for moment in (info.start_time, info.end_time))
    name = (info.metadata or {}).get("job_name", "")
    status = str(getattr(info.status, "value", info.status))
    return Job(info.submission_id, name, status, started, ended, info.message or "", info.driver_exit_code)
