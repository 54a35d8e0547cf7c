"""A run, or a sweep, packed into a folder and sent to a cluster as a job."""

import tempfile
from pathlib import Path

from rl.jobs.client import STOP_WAIT_S, Cluster
from rl.jobs.spec import JobSpec


def submit(cluster: Cluster, spec: JobSpec, name: str, submission_id: str) -> str:
    """Send a job, and return its submission id.

    Raises:
        ValueError: it is too large, a file that it needs is not there, or the cluster's Ray is another version.
        ClusterError: the cluster does not answer.
    """
    cluster.require_our_ray()
    with tempfile.TemporaryDirectory(prefix="rankone-job-") as scratch:
        spec.write(Path(scratch))
        environment = {
            "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S),
            "RANKONE_SUBMISSION_ID": submission_id,
            "PYTHONUNBUFFERED": "1",
        }
        out = f'"$HOME/.rankone/runs/{submission_id}"'
        return cluster.start(
            entrypoint=f"rankone {spec.command} {spec.file} --out {out} --resume",
            submission_id=submission_id,
            runtime_env={"working_dir": scratch, "env_vars": environment},
            metadata={"job_name": name},
        )
