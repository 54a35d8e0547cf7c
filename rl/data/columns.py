"""The columns of a row of data: which of them are a problem's question and answer, and what becomes of the others."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lora.messages import shortened
from rewards.types import Problem

_COLUMN = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of question and answer.

    The others become the problem's metadata, and so does the text that an answer comes after.

    Example: ``Columns(question="{Body} {Question}", answer="Answer")``
    """

    question: str = "question"
    answer: str = "answer"
    answer_after: str | None = None

    def problem(self, row: Mapping[str, Any], *, id: str, where: str) -> Problem:
        """Return the row's problem. Raises ValueError, naming `where` the row is, for missing and unusable columns."""
        question, used = self._question(row, where)
        answer = whole = _answer_text(column(row, self.answer, where), f"{where}: the answer column {self.answer!r}")
        metadata = {name: value for name, value in row.items() if name not in used and name != self.answer}
        if self.answer_after is not None:
            answer = text_after(whole, self.answer_after, f"{where}: the answer column {self.answer!r}")
            metadata.setdefault("solution", whole.rpartition(self.answer_after)[0].strip())
        return Problem(id=id, question=question, answer=answer, metadata=metadata)

    def _question(self, row: Mapping[str, Any], where: str) -> tuple[str, set[str]]:
        names = _COLUMN.findall(self.question)
        if not names or self.question in row:
            return text_column(row, self.question, where), {self.question}
        texts = {name: text_column(row, name, where) for name in names}
        return _COLUMN.sub(lambda match: texts[match[1]], self.question), set(texts)


def fill(template: str, row: Mapping[str, Any], where: str) -> str:
    """Put the row's columns in place of their names in braces, or return the one column that `template` names.

    Numbers are written as answers are.

    Raises:
        ValueError: a column is missing or unusable; it names `where` the row is.
    """
    names = [template] if template in row else _COLUMN.findall(template)
    if not names:
        raise ValueError(
            f"{where}: {shortened(template, 100)!r} names no column; the columns are {', '.join(map(repr, row))}"
        )
    texts = {name: _answer_text(column(row, name, where), f"{where}: column {name!r}") for name in names}
    return texts[template] if template in texts else _COLUMN.sub(lambda match: texts[match[1]], template)


def column(row: Mapping[str, Any], name: str, where: str) -> Any:
    """Return the value in a column. Raises ValueError naming the columns there are."""
    if name not in row:
        columns = ", ".join(map(repr, row)) or "none"
        raise ValueError(f"{where}: there is no column {shortened(name, 100)!r}; the columns are {columns}")
    return row[name]


def text_column(row: Mapping[str, Any], name: str, where: str) -> str:
    """Return the text in a column, stripped of white space. Raises ValueError if it is missing, empty or no text."""
    value = column(row, name, where)
    if not isinstance(value, str):
        raise ValueError(f"{where}: column {name!r} must be text, and is {shown(value)}")
    if not value.strip():
        raise ValueError(f"{where}: column {name!r} is empty")
    return value.strip()


def text_after(text: str, marker: str, what: str) -> str:
    """Return the text behind the last `marker`. Raises ValueError if there is no marker, or nothing behind it."""
    _, separator, rest = text.rpartition(marker)
    if not separator:
        raise ValueError(f"{what} has no {shown(marker)}, after which the answer is expected: {shown(text)}")
    if not rest.strip():
        raise ValueError(f"{what} is empty after {marker!r}")
    return rest.strip()


def shown(value: object, length: int = 60) -> str:
    """Return a value as an error message shows it: short, on one line."""
    return shortened(repr(value), length)


def _answer_text(value: object, what: str) -> str:
    match value:
        case str() if value.strip():
            return value.strip()
        case str() | None:
            raise ValueError(f"{what} is empty")
        case bool():
            pass
        case int():
            return str(value)
        case float() if math.isfinite(value):
            # A column of numbers is often read as floats: 145.0 means 145.
            return str(int(value)) if value.is_integer() and abs(value) < 1e16 else repr(value)
        case _:
            pass
    raise ValueError(f"{what} must be text or a number, and is {shown(value)}")
