"""Requests by their number and not by their arrival, once however often they are sent, held until they are done."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import requests
import tinker
import zstandard
from helpers.serving import Served
from helpers.tinker_client import MODEL, TIMEOUT, gap, lessons, logprobs, trainer
from tinker import types

from rl.serve.config import ServeConfig
from rl.serve.server import listening
from rl.wire import tinker_pb2 as pb


class Wire:
    """The protocol by hand."""

    def __init__(self, served: Served) -> None:
        self.url = f"{served.url}/api/v1"
        self.headers = {"X-API-Key": served.key}
        self.session_id = self.post("create_session", tags=[], sdk_version="0.38.0")["session_id"]

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        answer = requests.post(f"{self.url}/{path}", json=body, headers=self.headers, timeout=60)
        answer.raise_for_status()
        return answer.json()

    def result(self, request_id: str) -> requests.Response:
        while True:
            answer = requests.post(
                f"{self.url}/retrieve_future", json={"request_id": request_id}, headers=self.headers, timeout=60
            )
            if answer.status_code != 408:
                return answer

    def model(self, number: int, seed: int = 4) -> str:
        lora = {"rank": 2, "seed": seed, "train_unembed": False}
        sent = self.post(
            "create_model", session_id=self.session_id, model_seq_id=number, base_model=MODEL, lora_config=lora
        )
        return self.result(sent["request_id"]).json()["model_id"]

    def forward_backward(self, model: str, number: int, *, packed: bool = False, forward_only: bool = False) -> str:
        body = message(model, number, forward_only=forward_only)
        headers = {**self.headers, "Content-Type": "application/x-protobuf"}
        if packed:
            headers["Content-Encoding"], body = "zstd", zstandard.compress(body)
        answer = requests.post(f"{self.url}/forward_backward", data=body, headers=headers, timeout=60)
        answer.raise_for_status()
        return answer.json()["request_id"]

    def step(self, model: str, number: int) -> str:
        adam = {
            "learning_rate": 0.01,
            "beta1": 0.9,
            "beta2": 0.95,
            "eps": 1e-8,
            "weight_decay": 0.0,
            "grad_clip_norm": 0.0,
        }
        return self.post("optim_step", model_id=model, seq_id=number, adam_params=adam, type="optim_step")["request_id"]

    def loss(self, model: str, number: int) -> float:
        output = pb.ForwardBackwardOutput()
        output.ParseFromString(self.result(self.forward_backward(model, number, forward_only=True)).content)
        return output.metrics["loss:sum"]


def message(model: str, number: int, *, forward_only: bool) -> bytes:
    request = pb.ForwardBackwardRequest(
        model_id=model, seq_id=number, loss_fn="cross_entropy", forward_only=forward_only
    )
    datum = request.data.add()
    datum.model_input.add().encoded_text.tokens = np.array([5, 6, 7, 8], np.int32).tobytes()
    targets = pb.Tensor(dense=np.array([6, 7, 8, 9], np.int64).tobytes(), dtype=pb.DTYPE_INT64, shape=[4])
    datum.loss_fn_inputs["target_tokens"].CopyFrom(targets)
    return request.SerializeToString()


@pytest.fixture(scope="module")
def wire(served: Served) -> Wire:
    return Wire(served)


def test_what_is_sent_again_is_done_once(wire: Wire) -> None:
    model, other = wire.model(1), wire.model(2)
    twice = [wire.forward_backward(model, 1, packed=again) for again in (False, True)]
    assert twice[0] == twice[1]
    steps = [wire.step(model, 2) for _ in range(3)]
    assert len(set(steps)) == 1
    wire.forward_backward(other, 1)
    wire.step(other, 2)
    assert wire.loss(model, 3) == wire.loss(other, 3)
    again = wire.post(
        "create_model", session_id=wire.session_id, model_seq_id=1, base_model=MODEL, lora_config={"rank": 2}
    )
    assert wire.result(again["request_id"]).json()["model_id"] == model
    assert wire.loss(model, 4) == wire.loss(other, 4)


def test_the_number_decides_and_not_the_arrival(wire: Wire) -> None:
    first, second = wire.model(3), wire.model(4)
    for number in (1, 3):
        wire.result(wire.forward_backward(first, number))
        wire.result(wire.step(first, number + 1))
    waiting = [
        wire.step(second, 4),
        wire.forward_backward(second, 3),
        wire.step(second, 2),
        wire.forward_backward(second, 1),
    ]
    for request_id in waiting:
        assert "error" not in str(wire.result(request_id).headers)
    assert wire.loss(first, 5) == wire.loss(second, 5)


def test_a_number_that_is_refused_is_used_up(wire: Wire) -> None:
    model = wire.model(5)
    wire.result(wire.forward_backward(model, 1))
    refused = wire.post("optim_step", model_id=model, seq_id=2, adam_params={"learning_rate": "fast"})
    assert wire.result(refused["request_id"]).json()["category"] == "user"
    assert "error" not in wire.result(wire.step(model, 3)).json()


def test_a_pass_that_is_too_large_is_refused_in_its_turn(wire: Wire) -> None:
    """Its number is never sent again, and the next one would wait for it."""
    model = wire.model(9)
    headers = {**wire.headers, "Content-Encoding": "zstd"}
    body = zstandard.compress(message(model, 1, forward_only=False) + bytes(65 * 2**20))
    sent = [requests.post(f"{wire.url}/forward_backward", data=body, headers=headers, timeout=60) for _ in range(2)]
    assert sent[0].json() == sent[1].json()
    outcome = wire.result(sent[0].json()["request_id"]).json()
    assert (outcome["category"], "limits.body_bytes" in outcome["error"]) == ("user", True)
    assert "error" not in wire.result(wire.step(model, 2)).json()


def test_requests_without_a_number_are_each_carried_out(wire: Wire) -> None:
    models = wire.model(10), wire.model(11)
    sent = [wire.forward_backward(models[0], 0) for _ in range(2)]
    assert sent[0] != sent[1]
    for number in (1, 2):
        wire.result(wire.forward_backward(models[1], number))
    norms = [wire.result(wire.step(model, 3)).json()["metrics"]["unclipped_grad_l2:mean"] for model in models]
    assert norms[0] == norms[1] > 0


def test_a_request_of_another_model_does_not_wait_for_a_missing_number(wire: Wire) -> None:
    stuck, free = wire.model(6), wire.model(7)
    wire.step(stuck, 9)
    start = time.monotonic()
    wire.result(wire.forward_backward(free, 1))
    assert time.monotonic() - start < 10


def test_a_result_may_be_asked_for_again_and_by_several_at_once(wire: Wire) -> None:
    model = wire.model(8)
    request_id = wire.forward_backward(model, 1)
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(wire.result, [request_id] * 4))
    assert len({answer.content for answer in answers}) == 1
    assert wire.result(request_id).content == answers[0].content


def test_a_request_that_is_not_known_has_failed(wire: Wire) -> None:
    assert wire.result("earlier-12").json()["category"] == "server"


def test_batches_in_pieces_make_the_update_of_one(service: tinker.ServiceClient) -> None:
    """The client sends chunk one last, and waits for nothing."""
    whole, pieces = trainer(service, seed=6), trainer(service, seed=6)
    data, adam = lessons(whole), types.AdamParams(learning_rate=2e-3)
    for _ in range(3):
        for one in (whole.forward_backward(data, "cross_entropy"), whole.optim_step(adam)):
            one.result(TIMEOUT)
    sent: list[Any] = []
    for _ in range(3):
        sent += [pieces.forward_backward(data[i : i + 2], "cross_entropy") for i in range(0, 6, 2)]
        sent.append(pieces.optim_step(adam))
    for one in sent:
        one.result(TIMEOUT)
    assert gap(logprobs(whole, data), logprobs(pieces, data)) < 1e-3


def test_heartbeats_answer_and_samples_go_on_while_a_long_pass_runs(wire: Wire, service: tinker.ServiceClient) -> None:
    client = trainer(service, rank=8)
    sampler = service.create_sampling_client(base_model=MODEL).result(TIMEOUT)
    data = lessons(client) * 300
    long = client.forward_backward(data, "cross_entropy")
    waits: list[float] = []
    samples = 0
    done = threading.Event()
    long.future().add_done_callback(lambda _: done.set()) if hasattr(long, "future") else None
    end = time.monotonic() + 8
    while time.monotonic() < end and not done.is_set():
        start = time.monotonic()
        wire.post("session_heartbeat", session_id=wire.session_id)
        waits.append(time.monotonic() - start)
        samples += len(
            sampler.sample(types.ModelInput.from_ints([3, 4]), 1, types.SamplingParams(max_tokens=2))
            .result(TIMEOUT)
            .sequences
        )
    long.result(TIMEOUT)
    assert max(waits) < 1.0
    assert samples > 0


def test_bodies_are_bounded_and_packed_ones_too(wire: Wire) -> None:
    bomb = zstandard.compress(b"\0" * (80 * 2**20))
    for headers in ({"Content-Encoding": "zstd"}, {"Content-Encoding": "br"}):
        answer = requests.post(
            f"{wire.url}/forward_backward", data=bomb, headers={**wire.headers, **headers}, timeout=60
        )
        assert answer.status_code in (413, 415)
    answer = requests.post(f"{wire.url}/forward_backward", data=b"\xff\xff", headers=wire.headers, timeout=60)
    assert answer.status_code == 400
    assert "protobuf" in answer.json()["detail"]


def test_answers_leave_at_once() -> None:
    """A connection takes this over from the socket that listens; without it an answer waits 40 ms for the client."""
    with listening(ServeConfig(port=0)) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
