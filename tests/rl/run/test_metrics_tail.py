"""The tail of a file of metrics: each row once, those of a file that took its place, and none that is half written."""

from pathlib import Path

import pytest

from lora.files.atomic_write import write_atomic
from rl.run.jsonl import append_objects
from rl.run.metrics_tail import MetricsTail


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def steps(tail: MetricsTail) -> list[int]:
    return [row["step"] for row in tail.unread()]


def test_rows_are_returned_until_they_are_taken(file: Path) -> None:
    tail = MetricsTail(file)
    assert steps(tail) == []
    append_objects(file, [{"step": 0}, {"step": 1}])
    assert steps(tail) == steps(tail) == [0, 1]
    tail.take(2)
    append_objects(file, [{"step": 2}])
    assert (tail.first, steps(tail)) == (2, [2])
    tail.rewind()
    assert (tail.first, steps(tail)) == (0, [0, 1, 2])


def test_a_row_that_is_half_written_waits_for_its_end(file: Path) -> None:
    tail = MetricsTail(file)
    file.write_text('{"step": 0}\n{"step": 1')
    assert steps(tail) == [0]
    tail.take(1)
    assert steps(tail) == []
    with file.open("a") as sink:
        sink.write("7}\n")
    assert steps(tail) == [17]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_file_that_took_its_place_begins_anew_however_long_it_is(file: Path, size: int) -> None:
    tail = MetricsTail(file)
    append_objects(file, [{"step": 0}, {"step": 1}])
    tail.take(len(tail.unread()))
    write_atomic(file, "".join(f'{{"step": {5 + step}}}\n' for step in range(size)).encode())
    assert (steps(tail), tail.first) == ([5, 6, 7][:size], 0)


def test_what_is_no_row_is_passed_over_and_is_not_met_again(file: Path) -> None:
    tail = MetricsTail(file)
    file.write_text('nonsense\n{"step": 0}\n\n{"step": 1, "loss": "high"}\n')
    assert steps(tail) == [0]
    tail.take(1)
    append_objects(file, [{"step": 2}])
    assert (steps(tail), tail.first) == ([2], 1)
