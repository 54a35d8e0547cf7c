"""A place in a text, moved forward by whoever reads it, with a limit on nesting."""

import re
from collections.abc import Callable

from rewards.mathematics.expressions.tree import Node, Unparsable

MAX_DEPTH = 40
"""Brackets within brackets; the recursion of the parser takes about eight Python frames a level."""


class Scanner:
    """``at`` is the next character of ``text``."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.depth = 0

    def skip(self) -> None:
        while self.at < len(self.text) and self.text[self.at] == " ":
            self.at += 1

    def peek(self) -> str:
        self.skip()
        return self.text[self.at] if self.at < len(self.text) else ""

    def ahead(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        return pattern.match(self.text, self.at)

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = self.ahead(pattern)
        if match is not None:
            self.at = match.end()
        return match

    def expect(self, character: str) -> None:
        if self.peek() != character:
            raise Unparsable(f"{character!r} is missing")
        self.at += 1

    def nested(self, read: Callable[[], Node]) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unparsable("nested too deep")
        node = read()
        self.depth -= 1
        return node
