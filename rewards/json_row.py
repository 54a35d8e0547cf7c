"""One line of JSON as an object that everything behind it can take: tokenizers, graders in other processes, files."""

import json
from typing import Any, cast

MOST_DEPTH = 64
"""Lists and objects in each other; what goes to a grading process is packed by a function that calls itself."""


def parse_row(line: bytes) -> dict[str, Any]:
    """The line's object. Raises ValueError, saying what the line is instead, for everything else."""
    try:
        row: object = json.loads(line.decode("utf-8-sig"))
        if b"\\u" in line:  # as raw bytes, half a character is no UTF-8
            json.dumps(row, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 text at byte {error.start + 1}") from error
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        raise ValueError(f"half a character, {half}, as where a text was cut in the middle of an emoji") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from error
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, thousands of brackets
        raise ValueError(f"not usable JSON: {error}") from error
    if line.count(b"[") + line.count(b"{") > MOST_DEPTH and is_deeper(row, MOST_DEPTH):
        raise ValueError(f"not usable JSON: nested more than {MOST_DEPTH} deep")
    if not isinstance(row, dict):
        shown = repr(row)
        raise ValueError(f"must be a JSON object, and is {shown if len(shown) <= 60 else shown[:57] + '...'}")
    return cast("dict[str, Any]", row)


def is_deeper(value: object, most: int) -> bool:
    """Return True if lists and dicts are more than `most` deep in each other."""
    level = [value]
    for _ in range(most + 1):
        level = [inner for outer in level for inner in _inside(outer)]
    return bool(level)


def _inside(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(cast("dict[str, object]", value).values())
    return cast("list[object]", value) if isinstance(value, list) else []
