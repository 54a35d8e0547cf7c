"""Free-form data becomes rows in which every position predicts, and what does not fit is refused before torch sees it."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from rl.algorithm.batch.datum import Datum, check_datum, datum_batch, datum_logprobs, datum_row
from rl.algorithm.batch.packing import attention_mask, unpack_rows

IDS = torch.tensor([5, 6, 7])


def made(**changes: Any) -> Datum:
    plain = Datum(IDS, torch.tensor([1, 2, 3]), torch.tensor([0.0, 1.0, -1.0]), torch.tensor([0.0, -2.0, -3.0]))
    return replace(plain, **changes)


def matrix() -> Datum:
    """Two targets at each position."""
    targets = torch.tensor([[1, 2], [3, 4], [5, 6]])
    return Datum(IDS, targets, targets / 10, -targets / 100, torch.tensor([True, False, True]))


def test_nothing_is_shifted_and_every_position_predicts() -> None:
    row = datum_row(made())
    assert row.token_ids.tolist() == [5, 6, 7]
    assert row.targets.tolist() == [1, 2, 3]
    assert row.predictors.tolist() == row.position_ids.tolist() == [0, 1, 2]
    assert row.sequence_ids.tolist() == [0, 0, 0]
    assert row.advantages.tolist() == [0, 1, -1]
    assert row.rollout_logprobs.tolist() == [0, -2, -3]
    assert row.in_ratio is None
    assert attention_mask(row.segment_ids).tolist() == torch.ones(3, 3).tril().bool().tolist()


def test_a_position_with_several_targets_predicts_each_of_them() -> None:
    row = datum_row(replace(matrix(), weights=torch.ones(3, 2) * torch.tensor([[1.0], [0.0], [1.0]])))
    assert row.predictors.tolist() == [0, 0, 1, 1, 2, 2]
    assert row.targets.tolist() == [1, 2, 3, 4, 5, 6]
    assert row.advantages.tolist() == [1, 1, 0, 0, 1, 1]
    assert row.in_ratio is not None
    assert row.in_ratio.tolist() == [True, True, False, False, True, True]


def test_logprobs_go_back_into_the_targets_shape() -> None:
    flat = torch.arange(6.0)
    assert datum_logprobs(matrix(), flat).tolist() == [[0, 1], [2, 3], [4, 5]]
    assert datum_logprobs(made(), flat[:3]).tolist() == [0, 1, 2]


def test_a_batch_has_a_row_for_each_and_types_that_the_learner_computes_with() -> None:
    narrow = Datum(IDS.int(), IDS.int(), torch.ones(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64))
    batch = datum_batch([made(), narrow])
    assert (len(batch.rows), batch.num_tokens, batch.num_sequences) == (2, 6, 2)
    row = batch.rows[1]
    assert row.token_ids.dtype == row.targets.dtype == torch.int64
    assert row.advantages.dtype == row.rollout_logprobs.dtype == torch.float32
    assert unpack_rows(batch.rows) == batch.rows  # a model that reads completions alone reads it as it is


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"targets": torch.tensor([1, 2])}, r"target_tokens has shape \[2\], and model_input 3 tokens: send \[3\]"),
        ({"targets": torch.zeros(2, 3).long()}, r"target_tokens has shape \[2, 3\].*\[3, K\]"),
        ({"targets": torch.zeros(3, 0).long()}, r"target_tokens has shape \[3, 0\]"),
        ({"targets": torch.zeros(3, 1, 1).long()}, r"target_tokens has shape \[3, 1, 1\]"),
        ({"targets": torch.tensor(1)}, r"target_tokens has shape \[\]"),
        ({"weights": torch.zeros(4)}, r"weights or advantages have shape \[4\], and target_tokens \[3\]"),
        ({"rollout_logprobs": torch.zeros(3, 1)}, r"logprobs have shape \[3, 1\], and target_tokens \[3\]"),
        ({"token_ids": torch.zeros(0).long()}, "model_input has no tokens"),
        ({"in_ratio": torch.ones(2).bool()}, r"sequence_ratio_mask has shape \[2\], and model_input 3 tokens"),
        ({"in_ratio": torch.tensor([True, True, False])}, "advantages are not 0 outside of sequence_ratio_mask"),
    ],
)
def test_what_does_not_fit_together_is_refused_in_one_line(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refusal:
        datum_row(made(**changes))
    assert "\n" not in str(refusal.value)


def test_advantages_of_several_targets_must_be_in_the_mask_too() -> None:
    with pytest.raises(ValueError, match="outside of sequence_ratio_mask"):
        datum_row(matrix())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"token_ids": torch.tensor([5, 10, 7])}, "model_input holds 10, and the model's tokens are 0 to 9"),
        ({"token_ids": torch.tensor([5, -1, 7])}, "model_input holds -1"),
        ({"targets": torch.tensor([1, 2, 49152])}, "target_tokens holds 49152, and the model's tokens are 0 to 9"),
        ({"targets": torch.tensor([-100, 2, 3])}, "target_tokens holds -100"),
        ({"targets": torch.tensor([[1, 2], [3, 4], [5, 10]])}, "target_tokens holds 10"),
        ({"token_ids": torch.zeros(0).long()}, "model_input must have 1 to 4 tokens, and has 0"),
        ({"token_ids": torch.zeros(5).long()}, "model_input must have 1 to 4 tokens, and has 5"),
        ({"weights": torch.tensor([0.0, math.nan, 0.0])}, "weights or advantages hold nan: send finite numbers"),
        ({"rollout_logprobs": torch.tensor([0.0, -math.inf, 0.0])}, "logprobs hold -inf"),
    ],
)
def test_what_a_model_cannot_compute_is_refused_in_one_line(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refusal:
        check_datum(made(**changes), vocab_size=10, max_length=4)
    assert "\n" not in str(refusal.value)


def test_a_datum_that_fits_is_let_through() -> None:
    check_datum(made(token_ids=torch.tensor([0, 9, 0, 9]), targets=torch.tensor([9, 0, 9, 0])), 10, 4)
