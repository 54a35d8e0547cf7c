"""Dataclasses whose tensors cross to another process as arrays."""

import pickle
from dataclasses import fields

import pytest
import torch

from rl.learner.passes.policy_loss import ForwardBackward
from rl.types import Row, TrainBatch


def _row(in_ratio: torch.Tensor | None) -> Row:
    indices = [torch.arange(4) + shift for shift in range(6)]
    return Row(*indices, torch.randn(4), torch.randn(4), in_ratio)


def _through_a_store(value: object) -> object:
    """Send a value as Ray does: its buffers apart, where nobody may write."""
    buffers: list[pickle.PickleBuffer] = []
    payload = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    return pickle.loads(payload, buffers=[memoryview(bytes(buffer.raw())) for buffer in buffers])


@pytest.mark.parametrize("in_ratio", [None, torch.tensor([True, False, True, True])])
def test_a_row_arrives_as_it_was_and_may_be_written_to(in_ratio):
    row = _row(in_ratio)
    batch = _through_a_store(TrainBatch([row], 4, 1))
    assert isinstance(batch, TrainBatch)
    for field in fields(Row):
        sent, arrived = getattr(row, field.name), getattr(batch.rows[0], field.name)
        if sent is None:
            assert arrived is None
            continue
        assert arrived.dtype is sent.dtype
        assert torch.equal(arrived, sent)
        arrived.zero_()


def test_an_outcome_arrives_with_its_lists_in_any_type_of_number():
    logprobs = [torch.randn(3), torch.randn(0), torch.randn(2).bfloat16(), torch.randn(2, requires_grad=True)]
    outcome = _through_a_store(ForwardBackward({"update/loss": 0.5}, logprobs))
    assert isinstance(outcome, ForwardBackward)
    assert outcome.metrics == {"update/loss": 0.5}
    for sent, arrived in zip(logprobs, outcome.logprobs, strict=True):
        assert arrived.dtype is sent.dtype
        assert torch.equal(arrived, sent.detach())


def test_a_tensors_own_pickle_is_not_used():
    assert b"torch.storage" not in pickle.dumps(TrainBatch([_row(None)], 4, 1), protocol=5)
