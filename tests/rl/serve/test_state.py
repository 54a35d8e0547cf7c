"""Weights that were saved: what a load brings back, under which name, and for how long."""

import numpy as np
import pytest
import tinker
from helpers.serving import Served
from helpers.tinker_client import MODEL, TIMEOUT, gap, lessons, logprobs, step, trainer
from tinker import types


def trained(service: tinker.ServiceClient, steps: int = 3) -> tinker.TrainingClient:
    client = trainer(service, rank=4, seed=5)
    for _ in range(steps):
        step(client, lessons(client), lr=2e-3)
    return client


def test_a_load_with_the_optimizer_goes_on_as_if_nothing_had_been(service: tinker.ServiceClient) -> None:
    client = trained(service)
    path = client.save_state("three").result(TIMEOUT).path
    whole = service.create_training_client_from_state_with_optimizer(path).result(TIMEOUT)
    weights = service.create_training_client_from_state(path).result(TIMEOUT)
    assert gap(logprobs(whole, lessons(client)), logprobs(client, lessons(client))) == 0.0
    assert gap(logprobs(weights, lessons(client)), logprobs(client, lessons(client))) == 0.0
    for _ in range(3):
        for one in (client, whole, weights):
            step(one, lessons(client), lr=2e-3)
    expected = logprobs(client, lessons(client))
    assert gap(logprobs(whole, lessons(client)), expected) == 0.0
    assert gap(logprobs(weights, lessons(client)), expected) > 1e-3  # Adam's moments began anew


def test_training_and_sampler_weights_of_one_name_are_two(service: tinker.ServiceClient) -> None:
    client = trained(service, steps=1)
    state = client.save_state("same").result(TIMEOUT).path
    step(client, lessons(client), lr=5e-3)
    sampler_path = client.save_weights_for_sampler("same").result(TIMEOUT).path
    assert state != sampler_path
    data = lessons(client)
    sampler = service.create_sampling_client(model_path=sampler_path).result(TIMEOUT)
    scored = [
        sampler.compute_logprobs(
            types.ModelInput.from_ints([*d.model_input.to_ints(), int(d.loss_fn_inputs["target_tokens"].data[-1])])
        ).result(TIMEOUT)[1:]
        for d in data
    ]
    assert gap(logprobs(client, data), scored) < 1e-3
    assert gap(logprobs(service.create_training_client_from_state(state).result(TIMEOUT), data), scored) > 1e-3
    with pytest.raises(tinker.RequestFailedError, match="save_state"):
        service.create_training_client_from_state(sampler_path).result(TIMEOUT)


def test_a_name_is_taken_once_unless_it_is_to_be_overwritten(service: tinker.ServiceClient) -> None:
    client = trained(service, steps=1)
    first = client.save_state("name").result(TIMEOUT).path
    with pytest.raises(tinker.RequestFailedError, match="there already") as refused:
        client.save_state("name").result(TIMEOUT)
    assert refused.value.category == types.RequestErrorCategory.User
    step(client, lessons(client), lr=5e-3)
    assert client.save_state("name", overwrite=True).result(TIMEOUT).path == first
    again = service.create_training_client_from_state(first).result(TIMEOUT)
    assert gap(logprobs(again, lessons(client)), logprobs(client, lessons(client))) == 0.0


def test_runs_and_checkpoints_are_listed_changed_and_deleted(service: tinker.ServiceClient) -> None:
    rest = service.create_rest_client()
    client = trained(service, steps=1)
    path = client.save_state("kept", user_metadata={"note": "a"}).result(TIMEOUT).path
    client.save_weights_for_sampler("kept", ttl_seconds=3600).result(TIMEOUT)
    run = rest.get_training_run(client.get_info().model_id).result(TIMEOUT)
    assert (run.lora_rank, run.is_lora, run.base_model) == (4, True, MODEL)
    assert run.last_checkpoint is not None
    assert run.last_checkpoint.tinker_path == path
    listed = {c.checkpoint_id: c for c in rest.list_checkpoints(run.training_run_id).result(TIMEOUT).checkpoints}
    assert set(listed) == {"weights/kept", "sampler_weights/kept"}
    assert listed["weights/kept"].expires_at is None
    assert listed["weights/kept"].user_metadata == {"note": "a"}
    assert listed["sampler_weights/kept"].expires_at is not None
    assert (listed["weights/kept"].size_bytes or 0) > 1000
    info = rest.get_weights_info_by_tinker_path(path).result(TIMEOUT)
    assert (info.base_model, info.lora_rank, info.train_mlp) == (MODEL, 4, True)
    rest.set_checkpoint_ttl_from_tinker_path(path, 7200).result(TIMEOUT)
    assert rest.get_training_run(run.training_run_id).result(TIMEOUT).last_checkpoint.expires_at is not None  # type: ignore[union-attr]
    rest.delete_checkpoint_from_tinker_path(path).result(TIMEOUT)
    with pytest.raises(tinker.RequestFailedError, match="no weights"):
        service.create_training_client_from_state(path).result(TIMEOUT)
    assert run.training_run_id in {
        r.training_run_id for r in rest.list_training_runs(100).result(TIMEOUT).training_runs
    }


def test_layers_and_ranks_come_back_with_the_weights(service: tinker.ServiceClient) -> None:
    client = trainer(service, rank=8, seed=2, train_unembed=False, train_attn=False)
    step(client, lessons(client), lr=2e-3)
    path = client.save_state("mlp").result(TIMEOUT).path
    again = service.create_training_client_from_state(path).result(TIMEOUT)
    assert again.get_info().lora_rank == 8
    assert gap(logprobs(again, lessons(client)), logprobs(client, lessons(client))) == 0.0


def test_two_ranks_of_one_seed_begin_with_nearly_equal_curves(service: tinker.ServiceClient) -> None:
    """alpha is 32 at every rank."""

    def curve(rank: int) -> np.ndarray:
        client = trainer(service, rank=rank, seed=3)
        return np.array([step(client, lessons(client), lr=3e-4).metrics["loss:sum"] for _ in range(6)])

    low, high = curve(4), curve(32)
    assert low[0] == pytest.approx(high[0], rel=1e-4)
    fell_low, fell_high = low[0] - low[-1], high[0] - high[-1]
    assert 0.4 < fell_low / fell_high < 2.5


def test_a_key_that_is_not_known_opens_nothing(served: Served) -> None:
    with pytest.raises(tinker.AuthenticationError, match="tml-"):
        tinker.RestClient(base_url=served.url, api_key="tml-stranger").list_training_runs().result(TIMEOUT)
