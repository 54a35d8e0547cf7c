"""Whether an equal answer is one at all, or only the question again: ``59 + 37`` is worth 96 and answers nothing.

A policy that is paid for restating the sum it was asked for learns that first: it is shorter than adding. So an answer
must not contain a calculation that the reference does not contain, and must not repeat an expression of the question.
"""

import re

from rewards.answer import parse_answer
from rewards.choice import without_choice
from rewards.exact import rational
from rewards.expression import Call, Node, Number, Power, Product, Quotient, Sum, Symbol, Unparsable, walk
from rewards.extract import formulas
from rewards.normalize import normalize
from rewards.shapes import Answer, Items, Matrix, Named, Ratio, Relation, Scalar, Union

MAX_FORMULAS = 20
"""Formulas of a question that are looked at."""
_COMPOUND = (Sum, Product, Quotient, Power, Call)
_NUMERAL = re.compile(r"[-+$\s]*[\d.,]+[%\s.]*")


def is_worked_out(question: str, reference: str, answer: str) -> bool:
    """Assumes that `answer` equals `reference`; raises `Unparsable` if one of them cannot be read."""
    if _NUMERAL.fullmatch(answer):
        return True
    expected_text, text = without_choice(normalize(reference), normalize(answer))
    if expected_text == text:
        return True
    expected, given = parse_answer(expected_text), parse_answer(text)
    if expected == given:
        return True
    left = _calculations(given) - _calculations(expected)
    if _has_decimals(expected):
        left.discard("function")  # ln 2 for 0.693147 is the better answer
    return not left and not (_is_compound(given) and (_echoes(question, answer) or _repeats(question, given)))


def _calculations(answer: Answer) -> set[str]:
    """The kinds of arithmetic on plain numbers that are left to do in it."""
    found: set[str] = set()
    if isinstance(answer, Ratio) and len(answer.terms) == 2 and not answer.clock:
        answer = Scalar(Quotient(*answer.terms))  # 10:2 for 5
    for node in _nodes(answer):
        for part in walk(node):
            if isinstance(part, Sum) and _rational_count(part.terms) > 1:
                found.add("sum")
            if isinstance(part, Product) and _rational_count(part.factors) > 1 and not _is_scientific(part):
                found.add("product")
            if isinstance(part, Call) and (left := _left_to_call(part)) is not None:
                found.add(left)
            if isinstance(part, Quotient) and (value := rational(part)) is not None and value.denominator == 1:
                found.add("division")  # 6/4 is a number written as a fraction, 6/2 a division not done
    return found


def _has_decimals(answer: Answer) -> bool:
    return any(isinstance(n, Number) and n.digits for node in _nodes(answer) for n in walk(node))


def _left_to_call(call: Call) -> str | None:
    """sqrt(16), sin(π/6) and log 8: functions of constants that have a value one could have given."""
    if call.name == "root":
        return "root" if rational(call) is not None else None
    if call.name in ("factorial", "binom", "exp") or any(
        isinstance(n, Symbol) and n.name not in "πe" for n in walk(call)
    ):
        return None
    return "function"


def _rational_count(parts: tuple[Node, ...]) -> int:
    return sum(rational(part) is not None for part in parts)


def _is_scientific(product: Product) -> bool:
    """``1.5 × 10^3`` and ``23 hundred``: a numeral in two parts."""
    return len(product.factors) == 2 and _is_power_of_ten(product.factors[1])


def _is_power_of_ten(node: Node) -> bool:
    """10^3, and not 1000 or 10: that would be a product that was asked for."""
    return isinstance(node, Power) and isinstance(node.base, Number) and node.base.value == 10


def _is_compound(answer: Answer) -> bool:
    """More than a numeral or a name: only such an answer can be an expression out of the question."""
    return any(isinstance(part, _COMPOUND) for node in _nodes(answer) for part in walk(node))


def _echoes(question: str, answer: str) -> bool:
    return _squeezed(answer) in _squeezed(question)


def _repeats(question: str, given: Answer) -> bool:
    """Whether the answer is a formula of the question, however that is spelt: 6/8 for the fraction 6 over 8."""
    wanted = [n for n in _nodes(given) if isinstance(n, _COMPOUND)]
    return any(node in wanted for formula in formulas(question)[:MAX_FORMULAS] for node in _expressions(formula))


def _expressions(formula: str) -> list[Node]:
    try:
        found = _nodes(parse_answer(normalize(formula)))
    except (Unparsable, RecursionError):
        return []
    return [part for node in found for part in walk(node)]


def _squeezed(text: str) -> str:
    return re.sub(r"[\s{}$\\]|left|right|cdot|times", "", normalize(text) or text)


def _nodes(answer: Answer) -> list[Node]:
    """Every expression in an answer of any shape."""
    match answer:
        case Scalar(node):
            return [node]
        case Named(_, value):
            return _nodes(value)
        case Items(_, _, items):
            return [node for item in items for node in _nodes(item)]
        case Union(pieces):
            return [node for piece in pieces for node in _nodes(piece)]
        case Relation(sides):
            return list(sides)
        case Matrix(rows):
            return [node for row in rows for node in row]
        case Ratio(terms):
            return list(terms)
        case _:
            return []
