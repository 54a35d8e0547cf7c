"""Reads functions: those of mathematics with their powers and bases, and the problem's own, applied to something."""

import re
from abc import ABC, abstractmethod
from fractions import Fraction

from rewards.mathematics.expressions.tree import (
    Call,
    Negative,
    Node,
    Number,
    Power,
    Product,
    Quotient,
    Symbol,
    Unparsable,
)
from rewards.mathematics.parse.scanner import Scanner
from rewards.mathematics.text.normalize import FUNCTIONS, KNOWN_WORDS, words

INVERSES = {name: f"arc{name}" for name in ("sin", "cos", "tan", "cot", "sec", "csc")}
GREEK = words(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau "
    "upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega ell hbar"
)
APPLIED = re.compile(
    r"(?P<name>[fgFG]|\\(?:phi|varphi|psi|sigma|tau|Gamma|Phi|Psi|Lambda|zeta|mu) |[A-Za-z](?='))"
    r"(?P<prime>'{1,3}| ?\^ ?\{ ?(?:\\prime ?){1,3}\})?(?P<inverse> ?\^ ?\{ ?-1 ?\})? ?(?=\()"
    r"|(?P<letter>[hpqPQHNTVRCSAEL])(?= ?\( ?(?:[xyzntuv]|-?\d{1,3}) ?\))"
    r"|(?P<chance>(?:[EP]|Var|Cov|Pr) ?(?=\( ?[A-Z]|\[[^\[\]]*[A-Z])|[fgFG] ?(?=\[))"
)
"""A function of the problem's own applied to something: f(0) is not f times 0. Other letters before a bracket are
factors, and of those that are both (the height h, the polynomial P) the argument decides: a random variable makes an
expectation or a probability of E and P."""
ANGLE_FUNCTIONS = words("sin cos tan cot sec csc")
UNARY_FUNCTIONS = FUNCTIONS - {"sqrt", "gcd", "lcm", "det", "max", "min", "lim", "deg", "arg", "dim", "ker", "mod"}

_WORD = re.compile(r"[A-Za-z]+")
_COMMAND = re.compile(r"\\([A-Za-z]+) ?")
_MINUS_ONE = Negative(Number(Fraction(1)))


class FunctionReader(Scanner, ABC):
    """Everything that begins with a function's name. What stands in its brackets is read by whoever extends this."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.in_angle = False
        """Within the argument of a function of angles, where a degree sign is a number and not a unit."""

    @abstractmethod
    def sum(self) -> Node: ...

    @abstractmethod
    def factor(self) -> Node: ...

    @abstractmethod
    def group(self) -> Node: ...

    @abstractmethod
    def argument(self) -> Node: ...

    @abstractmethod
    def exponent(self) -> Node: ...

    def applied(self) -> Node | None:
        """``f(x)``, ``f'(x)``, ``f^{-1}(x)`` or ``\\phi(12)``: a value of a function that only the problem knows."""
        match = self.take(APPLIED)
        if match is None:
            return None
        name = (match["name"] or match["letter"] or match["chance"]).strip("\\ ")
        primes = (match["prime"] or "").count("'") + (match["prime"] or "").count("prime")
        closing = "]" if self.peek() == "[" else ")"
        self.at += 1
        arguments = [self.nested(self.sum)]
        while self.peek() == "," and len(arguments) < 4:
            self.at += 1
            arguments.append(self.nested(self.sum))
        self.expect(closing)
        return Call(name + "'" * primes + ("^-1" if match["inverse"] else ""), tuple(arguments))

    def function(self, name: str) -> Node:
        if name == "sqrt":
            return self.square_root()
        if name == "abs":
            return Call("abs", (self.bracketed(),))
        if name not in UNARY_FUNCTIONS:
            raise Unparsable(f"{name} is not in the grammar")
        base = self.log_base() if name == "log" else None
        power = self.function_power()
        if power == _MINUS_ONE:
            name, power = INVERSES.get(name, name), None if name in INVERSES else power
        in_angle, self.in_angle = self.in_angle, name in ANGLE_FUNCTIONS
        inner = self.nested(self.function_argument)
        self.in_angle = in_angle
        call: Node = Call("ln" if base is not None or name == "ln" else name, (inner,))
        call = call if base is None or base == Symbol("e") else Quotient(call, Call("ln", (base,)))
        return call if power is None else Power(call, power)

    def square_root(self) -> Node:
        degree: Node = Number(Fraction(2))
        if self.peek() == "[":
            degree = self.group()
        if self.peek() == "(":
            return Call("root", (self.group(), degree))
        return Call("root", (self.argument() if not self.peek().isdecimal() else self.radicand(), degree))

    def radicand(self) -> Node:
        """A number right after the root: one digit, as LaTeX reads it. ``\\sqrt13`` has two readings."""
        if self.text[self.at + 1 : self.at + 2].isdecimal() or self.text[self.at + 1 : self.at + 2] == ".":
            raise Unparsable("\\sqrt12 has two readings")
        return self.argument()

    def log_base(self) -> Node | None:
        if self.peek() != "_":
            return None
        self.at += 1
        return self.argument()

    def function_power(self) -> Node | None:
        if self.peek() != "^":
            return None
        self.at += 1
        return self.group() if self.peek() == "{" else self.argument() if self.peek() != "-" else self.exponent()

    def bracketed(self) -> Node:
        if self.peek() not in ("(", "[", "{"):
            raise Unparsable("a bracket is missing")
        return self.group()

    def function_argument(self) -> Node:
        """``\\sin(x)``: the bracket. ``\\sin 2x``: the factors that follow, up to a sign or another function."""
        if self.peek() in ("(", "{", "["):
            return self.group()
        node = self.factor()
        while (character := self.peek()) and (character == "π" or character.isalpha() or self.greek_ahead()):
            word = _WORD.match(self.text, self.at)
            if word is not None and word[0] in KNOWN_WORDS - {"pi"}:
                break
            node = Product((node, self.factor()))
        return node

    def greek_ahead(self) -> bool:
        match = _COMMAND.match(self.text, self.at)
        return match is not None and match[1] in GREEK
