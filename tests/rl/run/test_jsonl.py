"""Lines of a run's files: what is a row is read, and whatever else stands there is passed over and spoils nothing."""

import json
import logging
import math
from pathlib import Path

import pytest

from rl.run.jsonl import MOST_LINE_BYTES, append_objects, is_metrics, is_row, read_metrics, read_samples, warn_of_others

GOOD = {"step": 1, "time": 2.5, "update/loss": math.inf, "eval/accuracy": 1}
NO_ROW = {
    "a list": "[1]", "null": "null", "a number": "3", "a text": '"step"', "no step": '{"a": 1}',
    "a step that is text": '{"step": "1"}', "half a step": '{"step": 1.5}', "no step at all": '{"step": null}',
    "a truth": '{"step": true}', "infinite": '{"step": 1e400}', "NaN": '{"step": NaN}', "below 0": '{"step": -1}',
    "a step of 30 digits": '{"step": ' + "9" * 30 + "}", "of 5,000 digits": '{"step": ' + "9" * 5000 + "}",
    "cut off": '{"step": 1, "a', "brackets": "[" * 100_000, "not UTF-8": '{"step": 1, "\udcff": 2}',
}  # fmt: skip
NO_METRICS = NO_ROW | {
    "a text among numbers": '{"step": 1, "eval/accuracy": "0.5"}', "null among numbers": '{"step": 1, "time": null}',
    "a list among numbers": '{"step": 1, "time": [1]}', "a number of 30 digits": '{"step": 1, "x": ' + "9" * 30 + "}",
}  # fmt: skip


@pytest.mark.parametrize("what", NO_METRICS)
def test_a_line_that_is_no_row_is_passed_over(tmp_path: Path, what: str, caplog: pytest.LogCaptureFixture) -> None:
    file, good = tmp_path / "metrics.jsonl", json.dumps(GOOD)
    text = f"{good}\n{NO_METRICS[what]}\n\n{good}\n"
    file.write_bytes(text.encode(errors="surrogateescape"))
    assert list(read_metrics(file)) == [GOOD, GOOD]
    assert len(list(read_samples(file))) == (2 if what in NO_ROW else 3)
    warn_of_others(file, is_metrics)
    assert caplog.messages == [f"{file}: line 2 is no row of a step, and is left out"]


def test_a_last_line_that_a_kill_cut_off_is_no_damage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "metrics.jsonl"
    append_objects(file, [GOOD, GOOD])
    whole = file.read_bytes()
    for end in range(len(whole)):
        file.write_bytes(whole[:end])
        assert list(read_metrics(file)) == [GOOD] * (whole[:end] + b"\n").count(json.dumps(GOOD).encode() + b"\n")
        warn_of_others(file, is_row)
    assert caplog.messages == []


def test_of_many_lines_that_are_no_rows_the_first_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "x").write_text('{"step": 1}\n' + "3\n" * 1000)
    with caplog.at_level(logging.WARNING):
        warn_of_others(tmp_path / "x", is_row)
    (message,) = caplog.messages
    assert "1000 lines" in message
    assert "line 2" in message


def test_a_line_without_end_is_passed_over_and_not_kept_in_memory(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    with file.open("wb") as sink:
        sink.write(b'{"step": 1}\n')
        sink.truncate(MOST_LINE_BYTES * 8)
        sink.seek(0, 2)
        sink.write(b'\n{"step": 2}\n')
    assert [row["step"] for row in read_metrics(file)] == [1, 2]


def test_no_file_has_no_rows(tmp_path: Path) -> None:
    assert list(read_metrics(tmp_path / "nowhere")) == []
    warn_of_others(tmp_path / "nowhere", is_row)


def test_half_a_character_is_written_and_read_back(tmp_path: Path) -> None:
    append_objects(tmp_path / "x", [{"step": 1, "completion": "\ud800"}])
    assert list(read_samples(tmp_path / "x")) == [{"step": 1, "completion": "\ud800"}]
