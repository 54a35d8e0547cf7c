"""Calculations that an answer leaves to do: ``17 + 1`` is worth 18, and answers nothing.

A policy that is paid for restating the sum it was asked for learns that first: it is shorter than adding. So where the
reference is a numeral, an answer is one, too; elsewhere it leaves no kind of calculation that the reference does not.
A number in disguise is one: ``37e^0``, ``-37i^2`` and ``37x/x`` are 37.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction

from rewards.mathematics.expressions.evaluate import approximate, is_known, rational, variables
from rewards.mathematics.expressions.nodes import COMPOUND, nodes
from rewards.mathematics.expressions.shapes import Answer, Relation
from rewards.mathematics.expressions.tree import (
    Call,
    Negative,
    Node,
    Number,
    Percent,
    Power,
    Product,
    Quotient,
    Sum,
    Symbol,
    Unparsable,
    factors,
    parts,
    terms,
    walk,
)

_MAX_DENOMINATOR = 1_000
"""The largest denominator of a number in disguise; a value close to such a fraction is taken for it."""
_POINTS = ((0.7390851, 1.2020569, 0.5671432), (2.2824271, 3.9159655, 1.6434105), (17.13, 29.7, 11.9))
_IMAGINARY = Symbol("i")
_EVALUATED = frozenset(("factorial", "binom"))


def is_evaluated(expected: Answer, given: Answer) -> bool:
    """Return True if an answer that equals the reference leaves no calculation that the reference does not leave."""
    expected_nodes, given_nodes = nodes(expected), nodes(given)
    decimals = any(isinstance(n, Number) and n.digits for node in expected_nodes for n in walk(node))
    if expected_nodes and all(_is_end(n) for n in expected_nodes) and not decimals:
        return all(_is_end(n) for n in given_nodes)
    kinds = _kinds(expected_nodes)
    if kinds & _EVALUATED:  # of numbers too large to write, every form is as good as another
        kinds |= {"sum", "product", "division"}
    if any(isinstance(n, Call) and n.name in _EVALUATED for node in expected_nodes for n in walk(node)):
        kinds |= {"factorial"}  # n!/(3!(n-3)!) for a binomial coefficient
    if isinstance(expected, Relation):
        kinds |= {"power"}  # a circle's radius may stay a square
    left = _kinds(given_nodes) - kinds
    if decimals:
        left.discard("function")  # ln 2 for 0.693147 is the better answer
    return not left


def is_numeral(node: Node) -> bool:
    """A number written as such: whole, decimal, mixed, a fraction of two whole numbers, per cent, or times a
    power of ten."""
    match node:
        case Number():
            return True
        case Negative(inner):
            return not isinstance(inner, Negative) and is_numeral(inner)
        case Percent(inner):
            return is_numeral(inner)
        case Quotient(top, bottom):
            value = rational(node) if _is_whole(top) and _is_whole(bottom) else None
            return value is not None and (value.denominator > 1 or value == 0)
        case Product((first, second)):
            return isinstance(_bare(first), Number) and is_power_of_ten(second)
        case _:
            return is_power_of_ten(node)


def is_power_of_ten(node: Node) -> bool:
    """10^3, and not 1000 or 10: that would be a product that was asked for."""
    return (
        isinstance(node, Power)
        and isinstance(node.base, Number)
        and node.base.value == 10
        and not node.base.digits
        and isinstance(_bare(node.exponent), Number)
    )


def _is_end(node: Node) -> bool:
    """A numeral, or a bare symbol such as ∞ or the x of a condition; -1i is one, too."""
    match _bare(node):
        case Product((Number(value), Symbol())) if value == 1:
            return True
        case bare:
            return is_numeral(node) or isinstance(bare, Symbol)


def _bare(node: Node) -> Node:
    return _bare(node.inner) if isinstance(node, Negative) else node


def _is_whole(node: Node) -> bool:
    node = _bare(node)
    return isinstance(node, Number) and node.value.denominator == 1 and not node.digits and not node.notation


def _kinds(expressions: Sequence[Node]) -> set[str]:
    """The kinds of calculation that expressions leave to do."""
    return {kind for node in expressions for part in _unfinished(node) for kind in _left(part)}


def _unfinished(node: Node) -> Iterator[Node]:
    """The compound parts of an expression, without what lies within its numerals."""
    pending = [node]
    while pending:
        each = pending.pop()
        if not is_numeral(each):
            if isinstance(each, COMPOUND):
                yield each
            pending.extend(_children(each))


def _children(node: Node) -> tuple[Node, ...]:
    """The parts of a node, with sums of sums and products of products flattened."""
    match node:
        case Sum():
            return tuple(terms(node))
        case Product():
            return tuple(factors(node))
        case _:
            return parts(node)


def _left(part: Node) -> Iterator[str]:
    match part:
        case Sum():
            yield from _left_to_add(terms(part))
        case Product():
            yield from _left_to_multiply(factors(part))
        case Call(name, arguments):
            yield from _left_to_call(part, name, arguments)
        case Quotient(_, bottom) if rational(part) is not None or rational(bottom) in (-1, 1):
            yield "division"
        case Power(base, exponent):
            yield from _left_to_raise(part, base, exponent)
        case _:
            pass
    if _is_complex(part):
        yield "complex"
    if rational(part) is None and _is_disguised(part):
        yield "disguise"


def letter_below(factor: Node) -> str | None:
    """The letter that a factor is, or is a power of by a number: x * x^2 is left to do."""
    match factor:
        case Symbol(name):
            return name
        case Power(Symbol(name), exponent) if rational(exponent) is not None:
            return name
        case _:
            return None


def _is_complex(part: Node) -> bool:
    """Return True if complex numbers are left to be multiplied, divided or raised: (1+2i)(3-i), 5/(1-2i), (1+i)^2."""
    if variables(part):
        return False
    match part:
        case Product():
            return sum(_IMAGINARY in walk(f) and not _is_exponential(f) for f in factors(part)) > 1
        case Quotient(_, bottom):
            return _IMAGINARY in walk(bottom)
        case Power(base, exponent):
            return _IMAGINARY in walk(base) and rational(exponent) is not None
        case _:
            return False


def _is_exponential(node: Node) -> bool:
    return isinstance(node, Power) and node.base == Symbol("e")


def _left_to_add(added: Sequence[Node]) -> Iterator[str]:
    numbers = [n for n in added if rational(n) is not None]
    if len(numbers) > 1 or any(rational(n) == 0 for n in numbers):
        yield "sum"
    alike = [_without_number(n) for n in added if rational(n) is None]
    if len(set(alike)) < len(alike):
        yield "like terms"


def _left_to_multiply(multiplied: Sequence[Node]) -> Iterator[str]:
    numbers = [value for f in multiplied if (value := rational(f)) is not None]
    # A sum that is multiplied by one is left as it was, where 1.0i is a number as programs print it.
    holds_sum = any(isinstance(f, Sum) for f in multiplied)
    if len(numbers) > 1 or 0 in numbers or (holds_sum and {-1, 1}.intersection(numbers)):
        yield "product"
    letters = [letter_below(f) for f in multiplied]
    if len(letters) - letters.count(None) > len({*letters} - {None}):
        yield "like factors"


def _left_to_raise(power: Power, base: Node, exponent: Node) -> Iterator[str]:
    if rational(power) is not None or rational(exponent) in (0, 1):
        yield "power"
    if isinstance(base, Power) and variables(base) and None not in (rational(base.exponent), rational(exponent)):
        yield "power of a power"


def _left_to_call(call: Call, name: str, arguments: tuple[Node, ...]) -> Iterator[str]:
    """sqrt(16), sin(π/6) and log 8: functions of constants that have a value one could have given."""
    if name == "root":
        if rational(call) is not None or (rational(arguments[0]) or 0) < 0:
            yield "root"
    elif name in _EVALUATED:
        if rational(call) is not None:
            yield name
    elif name != "exp" and is_known(name) and not any(isinstance(n, Symbol) and n.name not in "πe" for n in walk(call)):
        yield "function"


def _without_number(term: Node) -> tuple[str, ...]:
    """The factors of a term without its numbers."""
    if isinstance(term, Quotient) and rational(term.bottom) is not None:
        return _without_number(term.top)
    return tuple(sorted(repr(f) for f in factors(term) if rational(f) is None))


def _is_disguised(part: Node) -> bool:
    """Return True if an expression with letters is a rational number whatever they are: e^0, i^2, x/x."""
    names = sorted(variables(part))
    values = list[complex]()
    for probe in _POINTS if names else _POINTS[:1]:
        try:
            values.append(approximate(part, {n: probe[i % 3] * (1 + i // 3) for i, n in enumerate(names)})[0])
        except Unparsable:
            return False
    first = values[0]
    if any(abs(v - first) > 1e-9 * max(1, abs(first)) for v in values) or abs(first.imag) > 1e-12 * max(1, abs(first)):
        return False
    near = Fraction(first.real).limit_denominator(_MAX_DENOMINATOR)
    return abs(first.real - float(near)) <= 1e-12 * max(1, abs(first))
