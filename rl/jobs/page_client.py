"""The cluster's page of curves, asked over HTTP through the port of its dashboard."""

import json
from collections.abc import Mapping
from typing import Any

from rl.cluster.token import refusal
from rl.jobs.errors import ClusterError


class PageClient:
    """Reads what the page knows of runs. Every method raises ClusterError if the cluster does not answer, and
    ValueError if it shows no page."""

    def __init__(self, address: str, headers: Mapping[str, str]) -> None:
        """`headers` hold the cluster's token, if it has one."""
        self._address = address
        self._headers = dict(headers)

    def runs(self) -> list[dict[str, Any]]:
        """Return the runs that the page knows, the latest first: see `RunRecord.summary`."""
        return json.loads(self._get("runs.json"))

    def metrics(self, run: str) -> bytes:
        """Return a run's metrics as JSON lines."""
        return self._get(f"runs/{run}/metrics.jsonl")

    def adapter_zip(self, run: str) -> bytes:
        """Return a run's best adapter as an archive; empty if there is none yet."""
        return self._get(f"runs/{run}/adapter.zip", empty=409)

    def sweep_results(self, job: str) -> bytes:
        """Return what a job's sweep has found, as JSON; empty if it has found nothing, or the job is no sweep."""
        return self._get(f"sweeps/{job}.json", empty=410)

    def _get(self, path: str, *, empty: int | None = None) -> bytes:
        """Return the page's answer; nothing where it answers with the status `empty`."""
        import requests

        try:
            answer = requests.get(f"{self._address}/rankone/{path}", headers=self._headers, timeout=60)
        except requests.RequestException as error:
            raise ClusterError(f"no cluster answers at {self._address}: {error}") from None
        if answer.status_code in (401, 403):
            raise ValueError(refusal(self._address))
        if answer.status_code == 404:
            raise ValueError(
                f"{self._address} shows no page of curves. `rankone page` on its head makes one, for runs that start "
                "from then on. For a run that was a job, `rankone logs` shows its curve; its directory is on the node "
                "that ran its driver."
            )
        if answer.status_code == empty:
            return b""
        if not answer.ok:
            raise ClusterError(f"{self._address} answered: {answer.text.strip()}")
        return answer.content
