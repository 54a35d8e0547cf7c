"""The parser of mathematical expressions: text goes in, a bounded tree comes out.

It is ours, not sympy's or a LaTeX package's, for three reasons: it never calls ``eval``; its tree is bounded in length,
nesting and digits before anything is computed; and where a notation has two readings (``1/2x``, ``x2``) it refuses
instead of guessing, since a guess that a policy can find is worth more to it than a right answer.
"""

import re
from fractions import Fraction

from rewards.mathematics.expressions.tree import (
    Call,
    Negative,
    Node,
    Number,
    Percent,
    PlusMinus,
    Power,
    Product,
    Quotient,
    Sum,
    Symbol,
    Unparsable,
)
from rewards.mathematics.parse.functions import GREEK, UNARY_FUNCTIONS, FunctionReader
from rewards.mathematics.parse.numeral import read_mixed, read_number
from rewards.mathematics.text.normalize import KNOWN_WORDS, MAX_ANSWER_CHARS, MAX_DIGITS

_NEXT_POWER = re.compile(r" ?\d{1,9} ?\^")
_WORD = re.compile(r"[A-Za-z]+")
_UPRIGHT = re.compile(r"\{ ?([A-Za-z]{2,3}) ?\}")
_COMMAND = re.compile(r"\\([A-Za-z]+) ?")
_SUBSCRIPT = re.compile(r" ?_ ?(?:\{ ?([A-Za-z0-9,]{1,12}|[a-z] ?[+-] ?\d) ?\}|([A-Za-z0-9]))")
_STACKED = re.compile(r" ?\\(over|choose) ?")
_ROUNDED_END = re.compile(r"\\r(?:floor|ceil) ?")
_NO_FACTOR = ("\\}", "\\text", "\\end", "\\\\", "\\rfloor", "\\rceil", "\\over ", "\\choose ")
_OPENERS = {"(": ")", "[": "]", "{": "}"}


def parse_expression(text: str) -> Node:
    """The tree of one scalar expression in normalised spelling. Raises `Unparsable` for everything else."""
    digits = text.lstrip("+-")
    if len(text) > MAX_ANSWER_CHARS and not (digits.isdecimal() and len(digits) <= MAX_DIGITS):
        raise Unparsable("longer than an answer")
    parser = _Parser(text)
    node = parser.stacked()
    parser.skip()
    if parser.at < len(text):
        raise Unparsable(f"cannot read {text[parser.at : parser.at + 20]!r}")
    return node


class _Parser(FunctionReader):
    """Recursive descent over characters. Each method reads one construct."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.in_bars = 0
        self.after_power = False

    def sum(self) -> Node:
        terms = [self.signed_term()]
        while self.peek() in ("+", "-", "±", "∓") and self.peek():
            terms.append(self.signed_term())
        return terms[0] if len(terms) == 1 else Sum(tuple(terms))

    def stacked(self) -> Node:
        """A sum, or TeX's own ``p \\over q`` and ``n \\choose k``, which take all that stands in their group."""
        top = self.sum()
        match = self.take(_STACKED)
        if match is None:
            return top
        bottom = self.sum()
        return Quotient(top, bottom) if match[1] == "over" else Call("binom", (top, bottom))

    def signed_term(self) -> Node:
        sign = self.peek()
        if sign in ("+", "-", "±", "∓") and sign:
            self.at += 1
            term = self.product() if self.peek() not in ("+", "-") else self.nested(self.signed_term)
            return term if sign == "+" else Negative(term) if sign == "-" else PlusMinus(term, 1 if sign == "±" else -1)
        return self.product()

    def product(self) -> Node:
        node = self.factor()
        divided = False
        while True:
            operator = self.peek()
            if operator == "*":
                self.at += 1
                node, divided = Product((node, self.signed_factor())), False
            elif operator == "/":
                if divided:
                    raise Unparsable("a/b/c has two readings")
                self.at += 1
                node, divided = Quotient(node, self.signed_factor()), True
            elif self.starts_factor(operator):
                if divided:
                    raise Unparsable("1/2x has two readings")
                node = Product((node, self.factor()))
            else:
                return node

    def starts_factor(self, character: str) -> bool:
        """Return True if a factor begins here with no sign between. A digit does not (x2 and 2 3 have two readings),
        unless it is a power after another."""
        if character == "|":
            return not self.in_bars
        if character.isdecimal():
            return self.after_power and self.power_ahead()
        if character == "\\":
            return not self.text.startswith(_NO_FACTOR, self.at)
        return bool(character) and (character in "([{π∞" or (character.isascii() and character.isalpha()))

    def signed_factor(self) -> Node:
        if self.peek() == "-":
            self.at += 1
            return Negative(self.nested(self.signed_factor))
        if self.peek() == "+":
            self.at += 1
        return self.factor()

    def factor(self) -> Node:
        node = self.postfixed(self.nested(self.atom))
        self.after_power = (
            isinstance(node, Call) and node.name == "binom"
        )  # a power of a number may follow: C(n, k) 2^k
        if self.peek() != "^":
            return node
        self.at += 1
        power = self.postfixed(Power(node, self.nested(self.exponent)))
        self.after_power = True
        return power

    def postfixed(self, node: Node) -> Node:
        while (mark := self.peek()) in ("!", "%", "°") and mark:
            self.at += 1
            if mark == "!" and self.peek() == "!":
                raise Unparsable("double factorial")
            node = self.degrees(node) if mark == "°" else Percent(node) if mark == "%" else Call("factorial", (node,))
        return node

    def degrees(self, node: Node) -> Node:
        """Radians within a function of angles. Elsewhere the sign is a unit, and 180° - x means 180 - x."""
        if self.in_angle:
            return Product((node, Quotient(Symbol("π"), Number(Fraction(180)))))
        if "π" in self.text or self.text[self.at : self.at + 1] in ("C", "F"):
            raise Unparsable("degrees beside another unit")
        return node

    def exponent(self) -> Node:
        """The power after ``^``: a group, a signed number (``2^10`` is the tenth power), or a factor."""
        if self.peek() == "{":
            return self.group()
        if self.peek() == "-":
            self.at += 1
            return Negative(self.nested(self.exponent))
        return self.factor()

    def atom(self) -> Node:
        character = self.peek()
        if character.isdecimal() or character == ".":
            return self.number()
        if character in _OPENERS:
            return self.group()
        if character == "|":
            return self.bars()
        if character in ("π", "∞") and character:
            self.at += 1
            return Symbol(character)
        if character == "\\":
            return self.applied() or self.command()
        if character.isascii() and character.isalpha():
            return self.applied() or self.word()
        raise Unparsable(f"cannot read {self.text[self.at : self.at + 20]!r}" if character else "something is missing")

    def group(self) -> Node:
        opener = self.peek()
        self.at += 1
        bars, self.in_bars = self.in_bars, 0
        node = self.nested(self.stacked if opener == "{" else self.sum)
        self.in_bars = bars
        self.expect(_OPENERS[opener])
        return node

    def bars(self) -> Node:
        if self.in_bars:
            raise Unparsable("bars within bars")
        self.at += 1
        self.in_bars = 1
        node = self.nested(self.sum)
        self.in_bars = 0
        self.expect("|")
        return Call("abs", (node,))

    def number(self) -> Node:
        start = self.at
        number, self.at = read_number(self.text, start)
        if not self.text[start : self.at].replace(" ", "").isdecimal():
            return number
        if (mixed := read_mixed(int(number.value), self.text, self.at)) is not None:
            number, self.at = mixed
        elif self.peek().isdecimal() and not self.power_ahead():
            raise Unparsable("two numbers side by side")
        return number

    def power_ahead(self) -> bool:
        """Return True if a power of a number comes next: ``2^6 3^5`` is a product, ``2 3`` has two readings."""
        return _NEXT_POWER.match(self.text, self.at) is not None

    def word(self) -> Node:
        """A known name, or a product of one-letter variables. Longer unknown words are not mathematics."""
        match = self.take(_WORD)
        assert match is not None
        name = match[0]
        if name in ("pi", "inf", "infty", "infinity"):
            return Symbol("π" if name == "pi" else "∞")
        if name in KNOWN_WORDS:
            return self.function(name)
        for known in ("sin", "cos", "tan", "cot", "sec", "csc", "ln"):
            if name.startswith(known) and len(name) == len(known) + 1:
                self.at -= 1
                return self.function(known)
        if len(name) > 3:
            raise Unparsable(f"{name[:20]!r} is a word")
        # One letter at a time, so that the exponent in ab^2 and the subscript in ab_1 belong to b.
        self.at -= len(name) - 1
        return Symbol(name[0] + self.subscript())

    def subscript(self) -> str:
        match = self.take(_SUBSCRIPT)
        return "" if match is None else f"_{(match[1] or match[2]).replace(' ', '')}"

    def command(self) -> Node:
        match = self.take(_COMMAND)
        if match is None:
            raise Unparsable(f"cannot read {self.text[self.at : self.at + 20]!r}")
        name = match[1]
        if name in GREEK:
            return Symbol(name + self.subscript())
        if name == "text" and (letters := self.take(_UPRIGHT)) is not None:
            return Product(tuple(Symbol(letter) for letter in letters[1]))
        if name == "frac":
            return Quotient(self.argument(), self.argument())
        if name in ("bar", "hat", "tilde", "vec"):
            accented = self.argument()
            if not isinstance(accented, Symbol):
                raise Unparsable(f"\\{name} over more than a letter")
            return Symbol(f"{name} {accented.name}")
        if name == "binom":
            return Call("binom", (self.argument(), self.argument()))
        if name == "sqrt" or name in UNARY_FUNCTIONS:
            return self.function(name)
        if name in ("lfloor", "lceil"):
            return self.rounded(name)
        raise Unparsable(f"\\{name} is not in the grammar")

    def rounded(self, opening: str) -> Node:
        """The floor or the ceiling of what stands up to its end."""
        inner = self.nested(self.sum)
        self.skip()
        if self.take(_ROUNDED_END) is None:
            raise Unparsable("an open floor or ceiling")
        return Call("floor" if opening == "lfloor" else "ceil", (inner,))

    def argument(self) -> Node:
        """A command's argument: a group, or one character, as in ``\\frac43``."""
        if self.peek() == "{":
            return self.group()
        if self.peek().isdecimal():
            self.at += 1
            return Number(Fraction(int(self.text[self.at - 1])))
        if self.peek() == "\\":
            return self.nested(self.atom)
        if self.peek() == "π" or (self.peek().isascii() and self.peek().isalpha()):
            self.at += 1
            return Symbol(self.text[self.at - 1])
        raise Unparsable("an argument is missing")
