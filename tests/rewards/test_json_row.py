"""A line of JSON is an object that everything behind it can take, or it is refused with the reason."""

import pickle

import pytest

from rewards.json_row import MOST_DEPTH, is_deeper, parse_row

REFUSED = {
    "nothing": (b"", "not JSON"), "half": (b'{"a": ', "not JSON"), "a list": (b"[1]", "must be a JSON object"),
    "half a character": (b'{"a": "\\ud83d"}', r"half a character, \ud83d"),
    "the other half": (b'{"a": "x\\ude00"}', r"half a character, \ude00"),
    "half a character in a name": (b'{"\\uD800": 1}', r"half a character, \ud800"),
    "not UTF-8": (b'{"a": "\xff"}', "not UTF-8 text at byte 8"),
    "brackets": (b"[" * 100_000, "not usable JSON"), "deep": (b'{"a": ' + b"[" * 100 + b"]" * 100 + b"}", "nested more"),
    "deep and half": (b'{"b": "\\ud800", "a": ' + b"[" * 900 + b"]" * 900 + b"}", "not usable JSON|half a character"),
    "digits": (b'{"a": ' + b"9" * 5000 + b"}", "not usable JSON"), "a deep list": (b"[" * 900 + b"]" * 900, "nested more"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_used_is_refused_with_the_reason(what: str) -> None:
    line, reason = REFUSED[what]
    with pytest.raises(ValueError, match=reason.replace("\\u", "\\\\u")) as caught:
        parse_row(line)
    assert len(str(caught.value)) < 300


def test_whole_characters_are_read() -> None:
    assert parse_row('{"a": "\\ud83d\\ude00 ä 😀"}'.encode()) == {"a": "😀 ä 😀"}
    assert parse_row(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}


def test_what_is_read_can_be_sent_to_a_grading_process() -> None:
    deepest = MOST_DEPTH - 1
    row = parse_row(b'{"a": ' + b"[" * deepest + b"]" * deepest + b"}")
    assert pickle.loads(pickle.dumps(row)) == row
    assert is_deeper(row, deepest - 1)
    assert not is_deeper(row, deepest)
