"""examples/rayjob.yaml: its form against KubeRay's, and what it says done without a Kubernetes.

KubeRay's resource definition is generated from the Go types of its API (ray-operator/apis/ray/v1); the fields here are
those types', as far as the example goes. No cluster of Kubernetes was there to apply it to.
"""

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import requests
import yaml
from helpers.cluster import RANKONE, ROOT, SMALL, free_port, kill_all, processes_of, quietly, until
from jsonschema import Draft202012Validator

from rl.settings.toml import load_config

EXAMPLE = ROOT / "examples" / "rayjob.yaml"


def closed(required: str = "", **properties: Any) -> dict[str, Any]:
    """An object with these fields and no others."""
    return {
        "type": "object", "properties": properties, "required": required.split(), "additionalProperties": False,
    }  # fmt: skip


TEXT, WHOLE, YES_NO = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
LIST: Any = lambda item: {"type": "array", "items": item}  # noqa: E731
QUANTITIES = {"type": "object", "additionalProperties": {"type": "string", "pattern": r"^\d+(\.\d+)?(Mi|Gi|Ti|m)?$"}}
CONTAINER = closed(
    "name image",
    name=TEXT, image=TEXT, env=LIST(closed("name value", name=TEXT, value=TEXT)),
    ports=LIST(closed("containerPort", name={"type": "string", "maxLength": 15}, containerPort=WHOLE)),
    resources=closed(requests=QUANTITIES, limits=QUANTITIES),
    volumeMounts=LIST(closed("name mountPath", name=TEXT, mountPath=TEXT)),
)  # fmt: skip
VOLUME = closed(
    "name",
    name=TEXT, persistentVolumeClaim=closed("claimName", claimName=TEXT), configMap=closed("name", name=TEXT),
    emptyDir=closed(medium={"enum": ["", "Memory"]}, sizeLimit=TEXT),
)  # fmt: skip
TEMPLATE = closed("spec", spec=closed("containers", containers=LIST(CONTAINER), volumes=LIST(VOLUME)))
RAY_JOB = closed(
    "apiVersion kind metadata spec",
    apiVersion={"const": "ray.io/v1"}, kind={"const": "RayJob"}, metadata=closed("name", name=TEXT),
    spec=closed(
        "entrypoint rayClusterSpec",
        entrypoint=TEXT, runtimeEnvYAML=TEXT, backoffLimit=WHOLE, shutdownAfterJobFinishes=YES_NO,
        ttlSecondsAfterFinished=WHOLE, submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode"]},
        rayClusterSpec=closed(
            "headGroupSpec",
            rayVersion=TEXT, enableInTreeAutoscaling=YES_NO,
            headGroupSpec=closed("rayStartParams template", rayStartParams=TEXTS, template=TEMPLATE),
            workerGroupSpecs=LIST(closed(
                "groupName minReplicas maxReplicas rayStartParams template",
                groupName=TEXT, replicas=WHOLE, minReplicas=WHOLE, maxReplicas=WHOLE, rayStartParams=TEXTS,
                template=TEMPLATE,
            )),
        ),
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def documents() -> dict[str, Any]:
    return {document["kind"]: document for document in yaml.safe_load_all(EXAMPLE.read_text())}


def test_the_example_has_kuberays_form(documents: dict[str, Any]) -> None:
    errors = [
        f"{error.json_path}: {error.message}"
        for error in Draft202012Validator(RAY_JOB).iter_errors(documents["RayJob"])
    ]
    assert errors == []
    cluster = documents["RayJob"]["spec"]["rayClusterSpec"]
    assert cluster["rayVersion"] == ray.__version__
    pods = [group["template"]["spec"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]
    for pod in pods:
        mounted = {mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}, "what is mounted is there"
        claims = {
            volume["persistentVolumeClaim"]["claimName"]
            for volume in pod["volumes"]
            if "persistentVolumeClaim" in volume
        }
        assert claims == {documents["PersistentVolumeClaim"]["metadata"]["name"]}


def test_its_run_is_a_configuration_that_fits_its_nodes(documents: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(documents["ConfigMap"]["data"]["run.toml"])
    config = load_config(tmp_path / "run.toml")
    (group,) = documents["RayJob"]["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    gpus = int(group["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"])
    assert config.rollout.num_workers + 1 <= gpus * group["maxReplicas"]


class PlainHead:
    """A head that the example's own parameters and variables start, as KubeRay does; nothing of ours starts it."""

    def __init__(self, group: dict[str, Any], directory: str) -> None:
        self.directory = directory
        self.page, self.port, self.dashboard_port = free_port(), free_port(), free_port()
        variables = {item["name"]: item["value"] for item in group["template"]["spec"]["containers"][0]["env"]}
        pages = {name: value.replace(":8266", f":{self.page}") for name, value in variables.items()}
        del pages["HF_HOME"]  # nothing is on that volume here, and warm processes have none
        beside = str(RANKONE.parent)
        self.environment = {
            **os.environ, **pages, "PATH": f"{beside}:{os.environ['PATH']}", "HOME": directory,
            "RANKONE_PAGE_DIR": f"{directory}/page", "RAY_TMPDIR": directory, "RAY_AUTH_MODE": "disabled",
        }  # fmt: skip
        parameters = group["rayStartParams"] | {
            "dashboard-host": "127.0.0.1", "port": self.port, "dashboard-port": self.dashboard_port,
            "dashboard-agent-listen-port": free_port(), "temp-dir": directory,
            "proxy-server-url": f"http://127.0.0.1:{self.page}",
        }  # fmt: skip
        arguments = [f"--{name}={value}" for name, value in parameters.items()]
        self.ray("start", "--head", "--disable-usage-stats", *arguments)
        self.dashboard = f"http://127.0.0.1:{self.dashboard_port}"

    def ray(self, *arguments: str, cwd: Path | None = None, status: int = 0) -> str:
        command = [str(RANKONE.with_name("ray")), *arguments]
        ended = subprocess.run(
            command, env=self.environment, cwd=cwd, capture_output=True, text=True, check=False, timeout=200
        )
        assert ended.returncode == status, ended.stdout + ended.stderr
        return ended.stdout

    def join(self, *arguments: str) -> None:
        """Another node, which counts what it is told to."""
        self.ray("start", f"--address=127.0.0.1:{self.port}", "--disable-usage-stats", *arguments)

    def runs(self) -> list[dict[str, Any]]:
        return requests.get(f"{self.dashboard}/rankone/runs.json", timeout=10).json()


@pytest.fixture(scope="module")
def plain_head(documents: dict[str, Any]) -> Iterator[PlainHead]:
    directory = tempfile.mkdtemp(prefix="ro-", dir="/tmp")
    try:
        yield PlainHead(documents["RayJob"]["spec"]["rayClusterSpec"]["headGroupSpec"], directory)
    finally:
        kill_all(processes_of(directory))
        shutil.rmtree(directory, ignore_errors=True)


def test_its_head_and_its_entrypoint_show_the_curve_in_rays_dashboard(
    plain_head: PlainHead, documents: dict[str, Any], tmp_path: Path
) -> None:
    spec = documents["RayJob"]["spec"]
    settings = {**SMALL, "num_steps": "4"}
    sets = "".join(f" --set {shlex.quote(f'{name}={value}')}" for name, value in settings.items())
    entrypoint = (
        spec["entrypoint"]
        .replace("rankone page", f"rankone page --port {plain_head.page}")
        .replace("/etc/rankone/run.toml", str(ROOT / "examples" / "tiny.toml") + sets)
        .replace("/runs/", f"{tmp_path}/")
    )
    until(lambda: quietly(lambda: requests.get(f"{plain_head.dashboard}/api/version", timeout=5).ok))
    said = plain_head.ray(
        "job", "submit", "--address", plain_head.dashboard, "--submission-id", "kube-1", "--",
        "bash", "-c", entrypoint,
    )  # fmt: skip
    assert "held-out accuracy" in said
    (run,) = plain_head.runs()
    assert [point[0] for point in run["curve"]] == [0, 2, 4]
    assert (run["submission_id"], run["state"], run["id"]) == ("kube-1", "finished", "math-8b")
    for health in ("grafana_health", "prometheus_health"):
        assert requests.get(f"{plain_head.dashboard}/api/{health}", timeout=10).json()["result"], health
    again = plain_head.ray("job", "submit", "--address", plain_head.dashboard, "--", "bash", "-c", entrypoint)
    assert "held-out accuracy" in again, "a retry of a run that is done ends well"
    assert len(plain_head.runs()) == 1, "and is the same run"


def test_rays_own_command_sends_a_run_with_what_lies_beside_it(plain_head: PlainHead, tmp_path: Path) -> None:
    for name in ("tiny.toml", "tiny.jsonl"):
        shutil.copy(ROOT / "examples" / name, tmp_path / name)
    sets = [part for name, value in (SMALL | {"num_steps": "2"}).items() for part in ("--set", f"{name}={value}")]
    said = plain_head.ray(
        "job", "submit", "--address", plain_head.dashboard, "--submission-id", "plain-1", "--working-dir", ".", "--",
        "rankone", "train", "tiny.toml", *sets, cwd=tmp_path,
    )  # fmt: skip
    assert "held-out accuracy" in said
    assert "plain-1" in [run["submission_id"] for run in plain_head.runs()]


def test_a_node_with_gpus_that_joins_takes_the_learner_and_the_workers(plain_head: PlainHead, tmp_path: Path) -> None:
    """The example's own run, as far as the GPU that is not there; the last test here, because the node stays."""
    plain_head.join("--num-cpus=32", "--num-gpus=8")
    sets = [part for name, value in SMALL.items() for part in ("--set", f"{name}={value}")]
    said = plain_head.ray(
        "job", "submit", "--address", plain_head.dashboard, "--", "rankone", "train",
        str(ROOT / "examples" / "tiny.toml"), "--out", str(tmp_path / "run"), *sets, "--set", "learner.device=cuda", status=1,
    )  # fmt: skip
    assert "Ray counts a GPU on" in said
    assert "exit code 2" in said
