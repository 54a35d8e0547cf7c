"""TOML that a person wrote, or a program gone wrong: parsed within bounds, or refused in one line."""

import re
import tomllib
from typing import Any

from rewards.json_row import is_deeper

Table = dict[str, Any]

MOST_BYTES = 2**19
"""Most bytes of a file: the parser takes seconds for so many."""
MOST_DEPTH = 32
"""Deepest nesting of tables and lists; ours are five deep."""
_NAME = r"""(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*"""
_LONG_KEY = re.compile(rf"(?:^|[\[{{,])[ \t]*(?:{_NAME}\.[ \t]*){{{MOST_DEPTH}}}", re.MULTILINE)
"""A key of too many names: the parser's time grows with their square."""


def parse_toml(text: str, where: str) -> Table:
    """Return the table that the text holds, which stands at `where`.

    Raises:
        ValueError: in one line, with the line's number where there is one.
    """
    if _LONG_KEY.search(text):
        raise ValueError(f"{where}: a key has more than {MOST_DEPTH} names")
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise NotToml(_syntax_error(where, str(error))) from None
    except RecursionError:
        raise ValueError(f"{where}: lists or tables are nested too deeply") from None
    except ValueError as error:  # a number of thousands of digits
        raise ValueError(f"{where}: not usable TOML: {error}") from None
    if is_deeper(table, MOST_DEPTH):
        raise ValueError(f"{where}: lists or tables are nested more than {MOST_DEPTH} deep")
    return table


class NotToml(ValueError):
    """The text is no TOML."""


def _syntax_error(where: str, message: str) -> str:
    match = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", message, re.DOTALL)
    if match is None:  # "... (at end of document)"
        return f"{where}: not TOML: {message}"
    return f"{where}:{match[2]}: not TOML: {match[1]} at column {match[3]}"
