"""`rankone serve` as a job on a cluster that is there already: its models' curves are on Ray's page."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.cluster import RANKONE, Head, actors, free_port, until
from helpers.tinker_client import TIMEOUT, lessons, step, trainer
from ray.job_submission import JobSubmissionClient
from tinker import SamplingParams, ServiceClient, types

KEY = "tml-a-key-of-the-test"
SMALL = ("model.dtype=float32", "model.max_length=128", "rollout.engine=torch", "max_rank=8")


@pytest.fixture
def job(head: Head) -> Iterator[tuple[str, str, Path]]:
    """A server's job, its address and its directory."""
    port, out = free_port(), Path(head.directory, "served")
    sets = " ".join(f"--set {setting}" for setting in SMALL)
    client = JobSubmissionClient(head.dashboard, headers={"Authorization": f"Bearer {head.token}"})
    submission = client.submit_job(
        entrypoint=f"{RANKONE} serve --model tiny-random --port {port} --out {out} --api-key {KEY} {sets}"
    )
    yield submission, f"http://127.0.0.1:{port}", out
    client.stop_job(submission)
    until(lambda: client.get_job_status(submission).is_terminal())


def test_a_server_is_a_job_and_its_models_are_on_the_page(head: Head, job: tuple[str, str, Path]) -> None:
    submission, url, out = job
    until(lambda: "serving tiny-random" in head.rankone("logs", submission).stdout)
    service = ServiceClient(base_url=url, api_key=KEY)
    client = trainer(service, rank=2)
    data = lessons(client)
    losses = [step(client, data).metrics["loss:sum"] for _ in range(4)]
    sampler = client.save_weights_and_get_sampling_client().result(TIMEOUT)
    prompt = types.ModelInput.from_ints([5, 6, 7])
    answer = sampler.sample(prompt, 2, SamplingParams(max_tokens=4)).result(TIMEOUT)
    assert len(answer.sequences) == 2

    run = until(lambda: next((run for run in head.runs() if run["submission_id"] == submission and run["loss"]), None))
    assert (run["kind"], run["state"], run["step"]) == ("serve", "running", 4)
    assert (run["settings"]["user"], run["settings"]["rank"], run["settings"]["layers"]) == (
        "admin", 2, "all and unembedding",
    )  # fmt: skip
    weights = sum(sum(datum.loss_fn_inputs["weights"].data) for datum in data)
    tokens = [row["update/tokens"] for row in map(json.loads, next(out.glob("runs/*/metrics.jsonl")).open())]
    assert tokens == [weights] * 4
    assert [loss for _, _, loss in run["loss"]] == pytest.approx([loss / weights for loss in losses], rel=1e-5)

    assert head.rankone("stop", submission).returncode == 0
    until(lambda: head.run_of(submission)["state"] == "stopped")  # pyright: ignore[reportOptionalSubscript]
    until(lambda: not actors(head.directory, "LearnerActor") and not actors(head.directory, "EngineActor"))
