"""Problems out of files: the layouts, the columns, and a clear line for whatever is wrong."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.types import Problem
from rl.config import DataConfig, Gsm8k, JsonLines, Math
from rl.data import absolute_paths, check_step_size, load_problems
from rl.data.columns import Columns
from rl.data.draw import MOST_REPEATED
from rl.data.math import last_box

SHARED = Path(__file__).parents[4] / "shared" / "data"
needs_shared_data = pytest.mark.skipif(not SHARED.is_dir(), reason="the data sets for trying are not there")


def write(path: Path, *rows: Any) -> str:
    """A file of rows, those that are text or bytes as they stand."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\n".join(row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows) + b"\n")
    return path.name


def error(config: DataConfig, base: Path) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the callers look at the message)
        load_problems(config, 0, base)
    message = str(caught.value)
    assert "\n" not in message
    return message


def ten(start: int = 0) -> list[dict[str, Any]]:
    return [{"question": f"{n} + 1?", "answer": n + 1, "level": n} for n in range(start, start + 10)]


def test_json_lines_become_problems_with_their_other_columns(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", *ten())
    write(tmp_path / "test.jsonl", b"\xef\xbb\xbf" + json.dumps(ten(50)[0]).encode(), b"", *ten(60))
    split = load_problems(JsonLines(source="jsonl", train="train.jsonl", held_out="test.jsonl"), 0, tmp_path)
    assert split.train[3] == Problem("jsonl/train/4", "3 + 1?", "4", {"level": 3})
    assert [p.id for p in split.held_out[:2]] == ["jsonl/held_out/1", "jsonl/held_out/3"]


def test_held_out_problems_leave_the_training_file(tmp_path: Path) -> None:
    write(tmp_path / "mine.jsonl", *ten(), *ten())
    split = load_problems(JsonLines(source="jsonl", train="mine.jsonl", num_held_out=4), 7, tmp_path)
    assert (len(split.train), len(split.held_out)) == (12, 4)


def test_columns_are_mapped_and_put_together(tmp_path: Path) -> None:
    write(
        tmp_path / "a.jsonl", *({"Body": f"{n} cows.", "Q": "Legs?", "Sol": f"#{n}\n#### {4 * n} "} for n in range(3))
    )
    config = JsonLines(
        source="jsonl", train="a.jsonl", question="{Body} {Q}", answer="Sol", answer_after="####", num_held_out=1
    )
    problems = load_problems(config, 0, tmp_path)
    both = sorted(problems.train + problems.held_out, key=lambda p: p.id)
    assert both[2] == Problem("jsonl/train/3", "2 cows. Legs?", "8", {"solution": "#2"})


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b'{"question": "a", "answer": }', "train.jsonl:2: not JSON: Expecting value at column 29"),
        (b"[1, 2]", "train.jsonl:2: must be a JSON object, and is [1, 2]"),
        (b'{"question": "\xff"}', "train.jsonl:2: not UTF-8 text at byte 15"),
        (b'{"answer": ' + b"9" * 5000 + b"}", "train.jsonl:2: not usable JSON: Exceeds the limit"),
        (b"[" * 100_000, "train.jsonl:2: not usable JSON: maximum recursion depth"),
        (b'{"question": "\\ud800", "answer": 1}', r"train.jsonl:2: half a character, \ud800"),
        (b'{"answer": ' + b"[" * 99 + b"]" * 99 + b"}", "train.jsonl:2: not usable JSON: nested more than 64 deep"),
        (
            b'{"problem": "a", "answer": 1}',
            "train.jsonl:2: there is no column 'question'; the columns are 'problem', 'ans",
        ),
        (
            b'{"question": "a", "reply": 1}',
            "train.jsonl:2: there is no column 'answer'; the columns are 'question', 'rep",
        ),
        (b"{}", "train.jsonl:2: there is no column 'question'; the columns are none"),
        (b'{"question": " ", "answer": 1}', "train.jsonl:2: column 'question' is empty"),
        (b'{"question": 3, "answer": 1}', "train.jsonl:2: column 'question' must be text, and is 3"),
        (b'{"question": "a", "answer": " "}', "train.jsonl:2: the answer column 'answer' is empty"),
        (b'{"question": "a", "answer": null}', "train.jsonl:2: the answer column 'answer' is empty"),
        (
            b'{"question": "a", "answer": NaN}',
            "train.jsonl:2: the answer column 'answer' must be text or a number, and is",
        ),
        (b'{"question": "a", "answer": true}', "the answer column 'answer' must be text or a number, and is True"),
        (b'{"question": "a", "answer": [1]}', "the answer column 'answer' must be text or a number, and is [1]"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: bytes, complaint: str) -> None:
    write(tmp_path / "train.jsonl", ten()[0], line, ten()[1])
    assert complaint in error(JsonLines(source="jsonl", train="train.jsonl", num_held_out=1), tmp_path)


@pytest.mark.timeout(20)
def test_paths_that_lead_to_no_file_are_named_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for path, complaint in (
        ("fifo", "data.train: 'fifo' is something else, not a file"),
        ("zero", "data.train: 'zero' is something else, not a file"),
        ("loop", "data.train: there is no file 'loop'"),
        ("x" * 300, "File name too long"),
        ("~nobody-of-that-name/x", "cannot look for '~nobody-of-that-name/x'"),
        ("\0", "data.train: there is no file"),
    ):
        said = error(JsonLines(source="jsonl", train=path), tmp_path)
        assert complaint in said
        assert len(said) < 400


def test_a_step_of_far_more_problems_than_there_are_is_refused() -> None:
    problems = [Problem(str(i), "q", "1") for i in range(5)]
    check_step_size(problems, MOST_REPEATED)
    with pytest.raises(ValueError, match=r"problems_per_step = 1025, and there are 5 problems .* at most 1024"):
        check_step_size(problems, MOST_REPEATED + 1)
    check_step_size(problems * 1000, 5000)


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    write(tmp_path / "empty.jsonl", b"", b"  ")
    write(tmp_path / "ten.jsonl", *ten())
    assert "empty.jsonl is empty" in error(JsonLines(source="jsonl", train="empty.jsonl"), tmp_path)
    assert "'.' is a directory, not a file" in error(JsonLines(source="jsonl", train="."), tmp_path)
    missing = error(JsonLines(source="jsonl", train="ten.jsonl", held_out="no.jsonl"), tmp_path)
    assert missing.startswith(f"data.held_out: there is no file 'no.jsonl' in {tmp_path} or {Path.cwd()}")
    assert "ten.jsonl has 10 different problems" in error(JsonLines(source="jsonl", train="ten.jsonl"), tmp_path)
    shared = error(JsonLines(source="jsonl", train="ten.jsonl", held_out="ten.jsonl"), tmp_path)
    assert "10 of 10 held-out problems are also in the training set, such as jsonl/held_out/1" in shared
    assert "leave data.held_out away" in shared


def test_relative_paths_start_at_the_configuration_and_then_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    write(here / "a.jsonl", *ten())
    write(here / "b.jsonl", *ten(20))
    write(there / "a.jsonl", *ten(40))
    monkeypatch.chdir(here)
    config = JsonLines(source="jsonl", train="a.jsonl", held_out="b.jsonl")
    split = load_problems(config, 0, there)
    assert (split.train[0].question, split.held_out[0].question) == ("40 + 1?", "20 + 1?")
    assert load_problems(absolute_paths(config, there), 0, tmp_path) == split


def test_gsm8k_answers_stand_behind_the_marks(tmp_path: Path) -> None:
    write(tmp_path / "g" / "train.jsonl", {"question": "How much?", "answer": "Half of #### is\n#### 1,234"})
    write(tmp_path / "g" / "test.jsonl", {"question": "How many?", "answer": "#### -5"})
    split = load_problems(Gsm8k(source="gsm8k", path="g"), 0, tmp_path)
    assert split.train == (Problem("gsm8k/train/1", "How much?", "1234", {"solution": "Half of #### is"}),)
    assert split.held_out[0].answer == "-5"
    write(tmp_path / "g" / "test.jsonl", {"question": "How many?", "answer": "5"})
    assert "test.jsonl:1: the answer column has no '####'" in error(Gsm8k(source="gsm8k", path="g"), tmp_path)
    (tmp_path / "g" / "test.jsonl").unlink()
    assert "'g' has no test.jsonl" in error(Gsm8k(source="gsm8k", path="g"), tmp_path)
    assert "there is no directory 'h'" in error(Gsm8k(source="gsm8k", path="h"), tmp_path)


def test_math_answers_come_from_their_column_or_the_last_box(tmp_path: Path) -> None:
    rows = [
        {"problem": "One?", "answer": r"\frac12", "solution": "...", "level": 3},
        {"problem": "Two?", "solution": r"Not \boxed{1} but $\boxed{\frac{1}{2}}$.", "type": "Algebra"},
    ]
    write(tmp_path / "train.jsonl", *rows)
    write(tmp_path / "test.jsonl", {"problem": "Three?", "answer": 3})
    config = Math(source="math", train="train.jsonl", held_out="test.jsonl")
    first, second = load_problems(config, 0, tmp_path).train
    assert (first.answer, first.metadata["level"]) == (r"\frac12", 3)
    assert (second.answer, second.metadata["type"]) == (r"\frac{1}{2}", "Algebra")
    write(tmp_path / "train.jsonl", {"problem": "One?", "solution": "none"})
    assert r"train.jsonl:1: the solution has no \boxed{...}" in error(config, tmp_path)
    write(tmp_path / "train.jsonl", {"problem": "One?"})
    assert "train.jsonl:1: there is no column 'answer'" in error(config, tmp_path)


@pytest.mark.parametrize(
    ("text", "box"),
    [
        (r"\boxed{5}", "5"),
        (r"\fbox{5}", "5"),
        (r"\boxed 5.", "5"),
        (r"so $\boxed 12$ it is", "12"),
        (r"\boxed\pi", r"\pi"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{a} then \boxed{b", None),
        (r"\boxedness{5}", None),
        (r"ends in \boxed", None),
        ("5", None),
    ],
)
def test_the_last_box(text: str, box: str | None) -> None:
    assert last_box(text) == box


@given(inner=st.text(alphabet="ab{} \\", max_size=20))
def test_a_box_never_raises_and_returns_what_it_was_given(inner: str) -> None:
    found = last_box(rf"\boxed{{{inner}}}")
    assert found is None or found in inner


@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_keep_their_value_as_answers(value: float) -> None:
    answer = Columns().problem({"question": "q", "answer": value}, id="1", where="here").answer
    assert float(answer) == value
    assert "e" in answer or not answer.endswith(".0")


@needs_shared_data
def test_the_real_gsm8k() -> None:
    split = load_problems(Gsm8k(source="gsm8k", path="gsm8k"), 0, SHARED)
    assert (len(split.train), len(split.held_out)) == (7473, 1319)
    assert all(float(p.answer) is not None for p in split.train + split.held_out)


@needs_shared_data
def test_the_real_math500() -> None:
    split = load_problems(Math(source="math", train="math500/test.jsonl", num_held_out=100), 0, SHARED)
    assert (len(split.train), len(split.held_out)) == (400, 100)
    same = [p for p in split.train + split.held_out if last_box(p.metadata["solution"]) == p.answer]
    assert len(same) > 480  # a few answers are written a little differently in their solutions


@needs_shared_data
def test_the_real_svamp() -> None:
    config = JsonLines(source="jsonl", train="svamp/test.jsonl", question="{Body} {Question}", answer="Answer")
    split = load_problems(config, 0, SHARED)
    assert (len(split.train), len(split.held_out)) == (744, 256)
    assert split.train[0].answer == "145"
