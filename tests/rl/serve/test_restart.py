"""A server that is killed and started again, and one whose learner dies: nothing that was saved is lost, and what is
lost is told."""

import signal
from pathlib import Path

import pytest
import tinker
from helpers.serving import LOCAL, Served, start, stop
from helpers.tinker_client import MODEL, TIMEOUT, gap, lessons, logprobs, step, trainer
from tinker import types


def test_a_killed_server_knows_what_it_had_saved(out: Path) -> None:
    served = start(out, *LOCAL)
    service = served.client()
    client = trainer(service, rank=2, seed=3)
    step(client, lessons(client), lr=2e-3)
    path = client.save_state("one").result(TIMEOUT).path
    sampler_path = client.save_weights_for_sampler("one").result(TIMEOUT).path
    expected = logprobs(client, lessons(client))
    run = client.get_info().model_id
    snapshot = client.save_weights_and_get_sampling_client().result(TIMEOUT)
    prompt = types.ModelInput.from_ints([3, 4, 5])
    before = snapshot.compute_logprobs(prompt).result(TIMEOUT)[1:]
    other = served.client()
    trainer(other, rank=1).save_weights_and_get_sampling_client().result(TIMEOUT)
    other.close("success").result(TIMEOUT)
    step(client, lessons(client), lr=2e-3)  # not saved
    served.process.send_signal(signal.SIGKILL)
    served.process.wait()

    again = start(out, *LOCAL, port=int(served.url.rpartition(":")[2]))
    try:
        assert (again.url, again.key) == (served.url, served.key)
        with pytest.raises(tinker.RequestFailedError, match="one") as lost:
            client.forward(lessons(client), "cross_entropy").result(TIMEOUT)
        assert lost.value.category == types.RequestErrorCategory.Server
        fresh = again.client()
        loaded = fresh.create_training_client_from_state_with_optimizer(path).result(TIMEOUT)
        assert gap(logprobs(loaded, lessons(loaded)), expected) == 0.0
        runs = fresh.create_rest_client().list_training_runs().result(TIMEOUT).training_runs
        assert run in {one.training_run_id for one in runs}
        sampler = fresh.create_sampling_client(model_path=sampler_path).result(TIMEOUT)
        assert sampler.compute_logprobs(prompt).result(TIMEOUT)[1:] == before
        assert snapshot.compute_logprobs(prompt).result(TIMEOUT)[1:] == before
        assert len(list((out / "snapshots").iterdir())) == 1
        service.close("success").result(TIMEOUT)
        assert not list((out / "snapshots").iterdir())
    finally:
        assert stop(again) == 130


def test_two_servers_do_not_share_a_directory(served: Served) -> None:
    with pytest.raises(AssertionError, match="ended with 2"):
        start(served.out, *LOCAL)


def test_the_key_is_for_its_owners_eyes(served: Served) -> None:
    assert (served.out / "api_key").stat().st_mode & 0o777 == 0o600
    assert served.key.startswith("tml-")
    assert (served.out / "serve.sqlite3").stat().st_size > 0
    assert served.key.encode() not in (served.out / "serve.sqlite3").read_bytes()
    served.client().create_sampling_client(base_model=MODEL).result(TIMEOUT)
