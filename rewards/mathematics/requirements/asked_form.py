"""The form that a question asks for: a decimal, a fraction in lowest terms, factors, a sum of powers, ...

A form is only held against an answer when the question names it and the reference has it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from rewards.mathematics.expressions.evaluate import rational
from rewards.mathematics.expressions.nodes import is_root, nodes
from rewards.mathematics.expressions.shapes import Answer, Named, Relation, Union
from rewards.mathematics.expressions.tree import (
    Negative,
    Node,
    Product,
    Symbol,
    walk,
)
from rewards.mathematics.requirements.asked_factors import is_factored, is_prime_factorization
from rewards.mathematics.requirements.expression_forms import (
    has_positive_exponents,
    has_rational_denominators,
    has_real_denominators,
    has_small_radicands,
    is_expanded,
    is_mixed,
    is_reduced,
    without,
)
from rewards.mathematics.requirements.restatement import notation


@dataclass(frozen=True, slots=True)
class Form:
    """Words of a question, and a test of answers that it asks for; the reference comes along for what is counted."""

    asked: re.Pattern[str]
    has: Callable[[Answer, Answer], bool]


_EXPRESSION = re.compile(r"[\d$\\]")


def has_form(question: str, expected: Answer, given: Answer) -> bool:
    """False when the question asks for a form that the reference has, and the answer has not."""
    if not _EXPRESSION.search(question):
        return True  # "Expand the product" with no product in it asks for nothing that could be echoed
    forms = [f for f in _FORMS if f.asked.search(question)]
    return all(form.has(given, expected) for form in forms if form.has(expected, expected))


def _asked(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


def _every(holds: Callable[[Node], bool]) -> Callable[[Answer, Answer], bool]:
    return lambda given, _: all(map(holds, nodes(given)))


def _has_each_letter_as_often(given: Answer, expected: Answer) -> bool:
    """The square completed: a(x - h)^2 + k has its letter once."""
    return _count_letters(given) <= _count_letters(expected)


def _count_letters(answer: Answer) -> int:
    return sum(isinstance(part, Symbol) and part.name not in "πe" for node in nodes(answer) for part in walk(node))


def _solves_for_y(given: Answer, _: Answer) -> bool:
    if isinstance(given, Relation):
        return Symbol("y") in given.sides
    return isinstance(given, Named) and (given.name == "y" or given.name.endswith("(x)"))


def _is_interval(given: Answer, _: Answer) -> bool:
    return not isinstance(given, Relation) and not (
        isinstance(given, Union) and any(isinstance(p, Relation) for p in given.pieces)
    )


def _is_scientific(given: Answer, _: Answer) -> bool:
    return all(notation(n) == "scientific" and 1 <= abs(_mantissa(n)) < 10 for n in nodes(given))


def _mantissa(node: Node) -> Fraction:
    """The number before the power of ten."""
    match node:
        case Negative(inner):
            return _mantissa(inner)
        case Product((first, _)):
            return rational(first) or Fraction(0)
        case _:
            return Fraction(1)  # 3.2e4


def _same_sides(given: Answer, expected: Answer) -> bool:
    """An equation with a letter alone on one side exactly when the reference has one; a value alone is no equation."""
    if not (isinstance(given, Named | Relation) and isinstance(expected, Named | Relation)):
        return True
    return _letters_alone(given) == _letters_alone(expected)


def _letters_alone(answer: Answer) -> bool:
    if isinstance(answer, Relation):
        return any(isinstance(s, Symbol) for s in answer.sides)
    return isinstance(answer, Named)


def _mentions_pi(given: Answer, _: Answer) -> bool:
    return any(Symbol("π") in walk(node) for node in nodes(given))


def _leaves_roots(given: Answer, expected: Answer) -> bool:
    """No decimal where the reference has a root: 8.485281 is not the simplified root of 72."""
    if not any(is_root(part) for node in nodes(expected) for part in walk(node)):
        return True
    return all(map(without("decimal"), nodes(given)))


_SIMPLE = r"\b(?:simplif\w+|simplest|lowest terms|reduced?|fully reduced|common fraction|irreducible)\b"
_AS = r"\b(?:as|to|into) (?:an? )?(?:\w+ ){0,2}"
_FORMS = (
    Form(_asked(_SIMPLE), _every(is_reduced)),
    Form(_asked(r"\bsimplif\w+|simplest|rationaliz\w+"), _every(has_rational_denominators)),
    Form(_asked(r"\bsimplif\w+|simplest"), _every(has_small_radicands)),
    Form(_asked(r"\bsimplif\w+|simplest|\bexact\b|radical form"), _leaves_roots),
    Form(
        _asked(r"\bsimplif\w+|\ba ?\+ ?bi\b|standard form|rectangular form|evaluate|compute"),
        _every(has_real_denominators),
    ),
    Form(
        _asked(rf"{_AS}fraction|common fraction|lowest terms"),
        _every(without("decimal", "percent", "repeating", "scientific")),
    ),
    Form(
        _asked(rf"{_AS}decimal|\bin decimal|decimal (?:form|notation|expansion)"),
        _every(without("fraction", "mixed", "percent", "scientific")),
    ),
    Form(_asked(r"\b(?:as|to|into) an? per ?cent"), _every(without("fraction", "mixed", "repeating"))),
    Form(_asked(r"\bmixed (?:number|fraction)"), _every(is_mixed)),
    Form(_asked(r"\bscientific notation|standard form"), _is_scientific),
    Form(
        _asked(r"\b(?:standard|ordinary|decimal|expanded) (?:form|notation)|without exponents"),
        _every(without("scientific")),
    ),
    Form(_asked(r"\bpositive exponents?\b|\b(?:without|no) negative exponents?\b"), _every(has_positive_exponents)),
    Form(_asked(r"\bvertex form|\bcomplet\w+ the square"), _has_each_letter_as_often),
    Form(
        _asked(r"\b(?:expand|multiply out|multiply\b[^.]*\bsimplify|write [^.]* as a polynomial)"), _every(is_expanded)
    ),
    Form(_asked(r"\bfactor(?:is|iz)?e?d?\b(?! of\b)"), is_factored),
    Form(_asked(r"\bprime (?:power )?factori[sz]|\b(?:into|as a product of) (?:its )?prime"), is_prime_factorization),
    Form(_asked(r"\bslope[- ]intercept"), _solves_for_y),
    Form(
        _asked(
            r"\b(?:standard|general|slope[- ]intercept|point[- ]slope|vertex) form"
            r"|\bsolve\b[^.]*\bfor [$\\(]*[a-zA-Z]\b"
        ),
        _same_sides,
    ),
    Form(_asked(r"\binterval notation"), _is_interval),
    Form(_asked(r"\bin terms of (?:\$\\pi\$|\\\(\\pi\\\)|π|pi)"), _mentions_pi),
)
"""The forms that questions ask for: every expression of an answer heeds a form, or the answer as one."""
