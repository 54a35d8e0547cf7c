"""Requests that cannot be served: refused soon, as the client's fault, with what to do instead; the others go on."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tinker
from helpers.tinker_client import MODEL, TIMEOUT, coded, datum, gap, lessons, logprobs, step, trainer
from tinker import types

FAILURES = (tinker.RequestFailedError, tinker.BadRequestError, tinker.NotFoundError, tinker.UnprocessableEntityError)


def refused(call: Callable[[], Any]) -> str:
    start = time.monotonic()
    with pytest.raises(FAILURES) as raised:
        call()
    assert time.monotonic() - start < 5
    assert getattr(raised.value, "category", types.RequestErrorCategory.User) == types.RequestErrorCategory.User
    return str(raised.value)


@pytest.fixture(scope="module")
def client(service: tinker.ServiceClient) -> tinker.TrainingClient:
    return trainer(service)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"rank": 0}, "choose 1 to 32"),
        ({"rank": 33}, "choose 1 to 32"),
    ],
)
def test_models_that_cannot_be(service: tinker.ServiceClient, options: dict[str, Any], says: str) -> None:
    assert says in refused(lambda: service.create_lora_training_client(MODEL, **options).result(TIMEOUT))


def test_a_model_that_is_not_served(service: tinker.ServiceClient) -> None:
    assert "tiny-random" in refused(
        lambda: service.create_lora_training_client("Qwen/Qwen3-8B", rank=4).result(TIMEOUT)
    )
    assert "tiny-random" in refused(lambda: service.create_sampling_client(base_model="Qwen/Qwen3-8B").result(TIMEOUT))


IDS = [3, 4, 5, 6]


def bad(ids: list[int] = IDS, **inputs: Any) -> types.Datum:
    given = {"target_tokens": np.array(ids, np.int64), "weights": np.ones(len(ids), np.float32), **inputs}
    return types.Datum(
        model_input=types.ModelInput.from_ints(ids), loss_fn_inputs={k: v for k, v in given.items() if v is not None}
    )  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("data", "loss", "config", "says"),
    [
        ([bad([3, 99_999, 4])], "cross_entropy", None, "99999"),
        ([bad([3, -1, 4])], "cross_entropy", None, "-1"),
        ([bad(target_tokens=np.array([1, 2, 3, 99_999], np.int64))], "cross_entropy", None, "99999"),
        ([bad(target_tokens=np.array([1, 2], np.int64))], "cross_entropy", None, "target_tokens"),
        ([bad(weights=np.ones(2, np.float32))], "cross_entropy", None, "weights"),
        ([bad(weights=np.array([1, np.nan, 1, 1], np.float32))], "cross_entropy", None, "NaN"),
        ([bad()], "importance_sampling", None, "advantages"),
        ([bad()], "stable_reinforce", None, "importance_sampling"),
        ([bad()], "cross_entropy", {"clip_low_threshold": 0.5}, "clip_low_threshold"),
        ([bad([3] * 500)], "cross_entropy", None, "128"),
    ],
)
def test_data_that_cannot_be_learned_from(
    client: tinker.TrainingClient, data: Any, loss: Any, config: Any, says: str
) -> None:
    assert says in refused(lambda: client.forward_backward(data, loss, config).result(TIMEOUT))


def test_a_refused_pass_adds_nothing_and_those_around_it_stay(service: tinker.ServiceClient) -> None:
    expected, client = trainer(service, seed=9), trainer(service, seed=9)
    data, adam = lessons(client), types.AdamParams(learning_rate=2e-3)
    for one in (expected.forward_backward(data, "cross_entropy"), expected.optim_step(adam)):
        one.result(TIMEOUT)
    sent = [
        client.forward_backward(data[:3], "cross_entropy"),
        client.forward_backward([*data[:2], bad([3, 99_999])], "cross_entropy"),
        client.forward_backward(data[3:], "cross_entropy"),
        client.optim_step(adam),
    ]
    sent[0].result(TIMEOUT)
    refused(lambda: sent[1].result(TIMEOUT))
    for one in sent[2:]:
        one.result(TIMEOUT)
    assert gap(logprobs(client, data), logprobs(expected, data)) < 1e-3


@pytest.mark.parametrize(
    "adam", [{"learning_rate": -1.0}, {"eps": 0.0}, {"beta1": 1.0}, {"beta2": -0.1}, {"grad_clip_norm": -1.0}]
)
def test_steps_that_cannot_be(client: tinker.TrainingClient, adam: dict[str, float]) -> None:
    assert next(iter(adam)) in refused(lambda: client.optim_step(types.AdamParams(**adam)).result(TIMEOUT))
    step(client, lessons(client), lr=0.0)  # the next number is served


@pytest.mark.parametrize("name", ["a/b", "../x", "", "x" * 300, "a b"])
def test_names_that_cannot_be(client: tinker.TrainingClient, name: str) -> None:
    refused(lambda: client.save_state(name).result(TIMEOUT))


def test_paths_that_lead_nowhere(service: tinker.ServiceClient, client: tinker.TrainingClient) -> None:
    run = client.get_info().model_id
    for path in (f"tinker://{run}/weights/none", "tinker://nobody/weights/x", f"tinker://{run}/sampler_weights/none"):
        assert "no weights" in refused(
            lambda path=path: service.create_training_client_from_state(path).result(TIMEOUT)
        )
        refused(lambda path=path: service.create_sampling_client(model_path=path).result(TIMEOUT))


@pytest.mark.parametrize(
    ("ids", "params", "says"),
    [
        ([3, 99_999], {}, "99999"),
        ([3], {"max_tokens": 500}, "128"),
        ([3] * 128, {"max_tokens": 4}, "128"),
        ([3], {"temperature": -1.0}, "temperature"),
        ([3], {"top_p": 0.0}, "top_p"),
        ([3], {"stop": [""]}, "stop"),
    ],
)
def test_samples_that_cannot_be_drawn(
    service: tinker.ServiceClient, ids: list[int], params: dict[str, Any], says: str
) -> None:
    sampler = service.create_sampling_client(base_model=MODEL).result(TIMEOUT)
    call = types.SamplingParams(**{"max_tokens": 4, **params})
    assert says in refused(lambda: sampler.sample(types.ModelInput.from_ints(ids), 1, call).result(TIMEOUT))


def test_pictures_are_refused_by_name(client: tinker.TrainingClient) -> None:
    picture = types.ModelInput(chunks=[types.ImageChunk(data=b"x", format="png", expected_tokens=1)])
    one = types.Datum(model_input=picture, loss_fn_inputs={"target_tokens": np.array([1], np.int64)})  # type: ignore[arg-type]
    assert "image" in refused(lambda: client.forward_backward([one], "cross_entropy").result(TIMEOUT))


def test_the_client_is_alive_after_all_this(client: tinker.TrainingClient) -> None:
    ids = coded(client, "1+1=2")
    assert np.isfinite(logprobs(client, [datum(ids, weights=np.ones(len(ids) - 1))])[0]).all()
