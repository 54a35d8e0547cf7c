"""Requests of a hostile or broken client: nobody else is harmed, and whatever is final is no 5xx, which is asked again."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import requests
import tinker
from helpers.serving import LOCAL, Served, start, stop
from helpers.tinker_client import MODEL, TIMEOUT, lessons, trainer

from rl.serve.config import ServeConfig
from rl.serve.server import make_key
from rl.wire import tinker_pb2 as pb

JSON = {"Content-Type": "application/json"}
FLAGS = "client_flags={fwdbwd_max_chunk_len=2}"


class User:
    """One user's raw requests."""

    def __init__(self, served: Served, key: str) -> None:
        self.url = served.url
        self.headers = {"X-API-Key": key}
        self.session_id = self.post("create_session", tags=[])["session_id"]

    def send(self, method: str, path: str, **more: Any) -> requests.Response:
        headers = {**self.headers, **more.pop("headers", {})}
        return requests.request(method, f"{self.url}{path}", headers=headers, timeout=60, **more)

    def post(self, path: str, /, **body: Any) -> dict[str, Any]:
        answer = self.send("POST", f"/api/v1/{path}", json=body)
        assert answer.ok, answer.text
        return answer.json()

    def outcome(self, request_id: str) -> requests.Response:
        return self.send("POST", "/api/v1/retrieve_future", json={"request_id": request_id})

    def result(self, path: str, /, **body: Any) -> dict[str, Any]:
        return self.outcome(self.post(path, **body)["request_id"]).json()

    def model(self, number: int, rank: int = 1) -> str:
        shape = {"rank": rank, "seed": 1, "train_unembed": False}
        session = {"session_id": self.session_id, "model_seq_id": number}
        return self.result("create_model", **session, base_model=MODEL, lora_config=shape)["model_id"]

    def forward_backward(self, model: str, number: int, **more: Any) -> requests.Response:
        body = request_of(model, number, **more).SerializeToString()
        return self.outcome(self.send("POST", "/api/v1/forward_backward", data=body).json()["request_id"])

    def step(self, model: str, number: int, lr: float = 0.1) -> dict[str, Any]:
        return self.result("optim_step", model_id=model, seq_id=number, adam_params={"learning_rate": lr})


def request_of(model: str, number: int, *, forward_only: bool = False) -> pb.ForwardBackwardRequest:
    request = pb.ForwardBackwardRequest(
        model_id=model, seq_id=number, loss_fn="cross_entropy", forward_only=forward_only
    )
    datum = request.data.add()
    datum.model_input.add().encoded_text.tokens = np.array([5, 6, 7, 8], np.int32).tobytes()
    targets = pb.Tensor(dense=np.array([6, 7, 8, 9], np.int64).tobytes(), dtype=pb.DTYPE_INT64, shape=[4])
    datum.loss_fn_inputs["target_tokens"].CopyFrom(targets)
    return request


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[User, User]]:
    out = tmp_path_factory.mktemp("attacked")
    served = start(out, *LOCAL, "resident_policies=2", "limits.models=8", "limits.queued_requests=5", FLAGS)
    try:
        yield User(served, served.key), User(served, make_key(ServeConfig(), out, "mallory"))
    finally:
        stop(served)


@pytest.fixture
def alice(users: tuple[User, User]) -> User:
    return users[0]


@pytest.fixture
def mallory(users: tuple[User, User]) -> User:
    return users[1]


def test_a_sampler_is_made_in_an_own_session_only(alice: User, mallory: User) -> None:
    own = {"session_id": alice.session_id, "sampling_session_seq_id": 1, "base_model": MODEL}
    sampler = alice.post("create_sampling_session", **own)["sampling_session_id"]
    assert mallory.send("POST", "/api/v1/create_sampling_session", json=own).status_code == 404
    assert alice.send("GET", f"/api/v1/samplers/{sampler}").json()["base_model"] == MODEL
    assert alice.send("POST", "/api/v1/create_sampling_session", json=own).ok, "sent again"
    other = {**own, "base_model": None, "model_path": "tinker://a/weights/b"}
    assert "other weights" in alice.send("POST", "/api/v1/create_sampling_session", json=other).json()["detail"]
    nowhere = {**own, "session_id": "nowhere"}
    assert alice.send("POST", "/api/v1/create_sampling_session", json=nowhere).status_code == 404


def test_nobody_keeps_another_users_session_alive(alice: User, mallory: User) -> None:
    beat = {"session_id": alice.session_id}
    assert mallory.send("POST", "/api/v1/session_heartbeat", json=beat).status_code == 404
    assert alice.send("POST", "/api/v1/session_heartbeat", json=beat).ok


def test_a_link_to_deleted_weights_does_not_lead_to_the_next_ones(alice: User, mallory: User) -> None:
    """SQLite gives a deleted row's number to the next row."""
    theirs = mallory.model(1)
    mallory.result("save_weights_for_sampler", model_id=theirs, seq_id=1, path="gone")
    place = f"/api/v1/training_runs/{theirs}/checkpoints/sampler_weights/gone"
    link = mallory.send("GET", f"{place}/external_weights_urls").json()["urls"]["adapter_config.json"]
    assert requests.get(link, timeout=30).ok
    assert mallory.send("DELETE", place).ok
    model = alice.model(1)
    alice.result("save_weights_for_sampler", model_id=model, seq_id=1, path="secret")
    assert requests.get(link, timeout=30).status_code == 403


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("session_heartbeat", b'{"session_id":"\\ud800"}'),
        ("create_session", b'{"display_name":"\\ud800"}'),
        ("create_session", b'{"user_metadata":{"a":"\\ud800"}}'),
        ("create_session", b'{"user_metadata":{"a":NaN}}'),
        ("create_session", b'{"user_metadata":{"a":"' + b"a" * 70_000 + b'"}}'),
        ("create_session", b'{"user_metadata":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}"),
        ("create_session", b'{"display_name":"' + b"a" * 501 + b'"}'),
        ("create_session", b'{"display_name":"\xff"}'),
        ("optim_step", b'{"model_id":"\\ud800","seq_id":1}'),
        ("optim_step", b'{"model_id":"a","seq_id":1e400}'),
        ("asample", b"[" * 100_000),
    ],
)
def test_what_is_no_request_is_refused_for_good(alice: User, path: str, body: bytes) -> None:
    answer = alice.send("POST", f"/api/v1/{path}", data=body, headers=JSON)
    assert 400 <= answer.status_code < 429, answer.text
    assert answer.json()["detail"]


def test_numbers_of_a_list_may_be_any(alice: User) -> None:
    for path in ("training_runs", "checkpoints", "sessions"):
        assert alice.send("GET", f"/api/v1/{path}?offset=-1&limit=-1").ok
        assert alice.send("GET", f"/api/v1/{path}?offset={10**30}").status_code == 400
    for link in ("/api/v1/files/1/x?until=1&signature=%C3%A9", f"/api/v1/files/{10**30}/x?until=1&signature=a"):
        assert alice.send("GET", link).status_code in (400, 403)


def test_bodies_in_json_are_bounded_too(alice: User) -> None:
    body = b'{"display_name":"' + b"a" * (65 * 2**20)
    assert alice.send("POST", "/api/v1/create_session", data=body, headers=JSON).status_code == 413
    assert alice.send("POST", "/api/v1/create_session", data=iter([body]), headers=JSON).status_code == 413


def test_a_few_bytes_do_not_stand_for_all_memory(alice: User) -> None:
    """A sparse tensor names its shape, and is filled."""
    model = alice.model(2)
    for rows, count, says in ((4, 4000, "cells"), (2**18, 1, "model_input must have")):
        request = request_of(model, 1 if rows == 4 else 2)
        datum = request.data[0]
        datum.model_input[0].encoded_text.tokens = b"\0\0\0\0" * rows
        targets = datum.loss_fn_inputs["target_tokens"]
        targets.sparse_csr.crow_indices = np.zeros(rows + 1, np.int64).tobytes()
        targets.shape[:] = [rows, 4096]
        for _ in range(count - 1):
            request.data.add().CopyFrom(datum)
        begin = time.monotonic()
        sent = alice.send("POST", "/api/v1/forward_backward", data=request.SerializeToString()).json()
        outcome = alice.outcome(sent["request_id"]).json()
        assert outcome["category"] == "user"
        assert says in outcome["error"]
        assert time.monotonic() - begin < 5


def test_a_full_queue_lets_in_what_it_waits_for(alice: User) -> None:
    """Clients send the first part of a batch last."""
    model = alice.model(3)

    def send(number: int) -> requests.Response:
        return alice.send("POST", "/api/v1/forward_backward", data=request_of(model, number).SerializeToString())

    waiting = [send(number) for number in range(2, 7)]
    assert all(answer.ok for answer in waiting)
    assert send(7).status_code == 429
    for answer in (send(1), *waiting):
        assert alice.outcome(answer.json()["request_id"]).headers["content-type"] == "application/x-protobuf"


def test_a_batch_of_more_parts_than_the_queue_holds_goes_through(alice: User) -> None:
    service = tinker.ServiceClient(base_url=alice.url, api_key=alice.headers["X-API-Key"])
    client = trainer(service, rank=1)
    batch = lessons(client) * 6
    passed = client.forward_backward(batch, "cross_entropy").result(TIMEOUT)
    assert len(passed.loss_fn_outputs) == len(batch)
    service.close("success").result(30)


ADD = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}


@pytest.mark.parametrize(
    "wrong",
    [
        {"chat_template": "{% for i in range(10 ** 9) %}{% endfor %}"},
        {"chat_template_kwargs": {"return_tensors": "pt"}},
        {"max_tokens": 0},
        {"max_completion_tokens": 0},
        {"n": 0},
        {"stop": [""]},
        {"best_of": 3},
        {"functions": [{"name": "add"}]},
        {"tools": [ADD], "tool_choice": "required"},
        {"tools": [ADD], "tool_choice": {"type": "function", "function": {"name": "add"}}},
        {"logprobs": True, "top_logprobs": -2},
    ],
)
def test_a_chat_that_cannot_be_served_is_refused(alice: User, wrong: dict[str, Any]) -> None:
    chat = {"model": "base", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
    assert alice.send("POST", "/v1/chat/completions", json={**chat, **wrong}).status_code == 400
