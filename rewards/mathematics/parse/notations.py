"""Reads shapes with a spelling of their own: matrices, systems, digits in a base, congruences, ratios and times."""

import re
from fractions import Fraction

from rewards.mathematics.expressions.evaluate import approximate, rational
from rewards.mathematics.expressions.interval import between, without
from rewards.mathematics.expressions.shapes import Answer, Based, Congruence, Items, Matrix, Named, Ratio, Read, Scalar
from rewards.mathematics.expressions.tree import Negative, Number, Symbol, Unparsable
from rewards.mathematics.parse.everyday import amount, clock, date, minutes, sides
from rewards.mathematics.parse.expression import parse_expression
from rewards.mathematics.parse.matrix_sums import read_cells, read_matrix_sum
from rewards.mathematics.parse.scalar import parse_value
from rewards.mathematics.text.brackets import RELATIONS, items, marks, split
from rewards.mathematics.text.number_words import NUMBER_WORDS

MAX_ITEMS = 200

_DIGITS = r"(?:\\text\{ ?)?([+-]?[0-9A-Fa-f]{1,200}(?:\.[0-9A-Fa-f]{1,50})?) ?\}?"
_BASED = re.compile(
    rf"^\(?{_DIGITS}\)? ?_ ?(?:\{{ ?\(?(?:\\text\{{ ?)?(?:base ?\}}? ?)?"
    rf"([a-z0-9]{{1,7}})\}}?\)? ?\}}|([0-9])|\\text\{{([a-z]{{1,7}})\}})$"
)
_BASE_WORDS = re.compile(rf"^{_DIGITS} ?(?:\\text\{{ ?)?\(?(?:in )?base(?:[ -]| ?\}} ?)([a-z0-9]{{1,7}})\)? ?\}}?$")
_RELATION = re.compile(f"[{RELATIONS}]")
_MATRIX = re.compile(r"^[\[(]? ?\\begin\{([pbBvV]?(?:small)?matrix|array)\}(?:\{[lcr| ]*\})?(.*)\\end\{\1\} ?[\])]?$")
_CASES = re.compile(
    r"^\\begin\{(?:cases|aligned)\}(.*)\\end\{(?:cases|aligned)\}$"
    r"|^\\\{ ?\\begin\{array\}\{[lcr ]*\}(.*)\\end\{array\} ?\.?$"
)
_NAMED_CASES = re.compile(r"^([A-Za-z] ?(?:\( ?[a-z] ?\))?) ?= ?(\\begin\{cases\}.*\\end\{cases\})$")
_RATIO_WORDS = re.compile(r"(?<=\d) ?(?:\\text\{ ?to ?\}| to ) ?(?=\d+$)")
_LABELLED = re.compile(r" ?(?:\\text\{ ?)?(?!no\b|not\b|none\b)[A-Za-z][A-Za-z ]{0,30}\}? ?:[^:]+$")
_REALS = re.compile(
    r"\\mathbb ?\{? ?R ?\}?|(?:the set of )?(?:all )?(?:real numbers|reals)|all real (?:numbers )?(?:\w|values)",
    re.IGNORECASE,
)
_BUT = re.compile(
    r"^(?:\\mathbb ?\{? ?R ?\}?|\(-∞ ?, ?∞\)|all real (?:numbers|values)(?: [a-z])?) ?(?:(?:∖|"
    r"-) ?\\\{ ?(.{1,200}?) ?\\\}$"
    r"|(?:\\text\{ ?)?except (?:for )?\}? ?(?:[a-z] ?= ?)?(.{1,60})$)"
    r"|^[a-z] ?∈ ?(?:\\mathbb ?\{? ?R ?\}?) ?, ?[a-z] ?≠ ?(.{1,60})$"
)
_PUNCTURED = re.compile(r"([(\[][^()\[\]]{1,60},[^()\[\]]{1,60}[)\]]) ?(?:∖|-) ?\\\{ ?(.{1,100}?) ?\\\}")
"""An interval without some points within it: ``(1, 5) \\setminus \\{3\\}``."""
_CONGRUENCE = re.compile(
    r"^(?:(.{1,20}?) ?[≡=] ?)?(.{1,200}?),? ?(?:\\pmod|"
    r"\(? ?(?:\\text\{ ?)?\\?b?mod)(?:ulo)? ?[{}]? ?(\d{1,18}) ?\}? ?\)?$"
)


def read_notation(text: str, read: Read) -> Answer | None:
    """The first of these shapes that the whole text has."""
    for shape in (
        _matrix,
        _cases,
        _based,
        clock,
        date,
        minutes,
        amount,
        sides,
        _reals,
        _punctured,
        _congruence,
        _ratio,
    ):
        if (answer := shape(text, read)) is not None:
            return answer
    return None


def _matrix(text: str, read: Read) -> Answer | None:
    if "\\begin" not in text or _RELATION.search(text):
        return None
    match = _MATRIX.match(text)
    if match is None or "\\begin" in match[2]:
        return read_matrix_sum(text)
    if match[1] in ("vmatrix", "Vmatrix"):
        raise Unparsable("a determinant")
    return Matrix(read_cells(match[2]))


def _cases(text: str, read: Read) -> Answer | None:
    """A system of equations, in any order; or values, each named by its condition."""
    if (named := _NAMED_CASES.match(text)) is not None:
        return Named(named[1].replace(" ", ""), read(named[2]))
    match = _CASES.match(text)
    if match is None:
        return None
    rows = [r.strip(" ,.") for r in (match[1] or match[2]).split("\\\\") if r.strip(" ,.")]
    if not 1 < len(rows) <= MAX_ITEMS:
        raise Unparsable("a system of one, or of none")
    return Items("", "", tuple(_row(r, read) for r in rows))


def _row(row: str, read: Read) -> Answer:
    value, *condition = row.split("&")
    if not condition or value.rstrip().endswith("="):
        return read(row.replace("&", "").strip())
    named = re.sub(r"\\text\{|\bif\b|\bfor\b|[{}\s,]", "", "".join(condition))
    return Named(f"({named})", read(value.strip(" ,")))


def _based(text: str, read: Read) -> Answer | None:
    text = re.sub(r"^- ?\(", "(-", text)
    match = _BASED.match(text) or _BASE_WORDS.match(text)
    if match is None:
        return None
    word = next(g for g in match.groups()[1:] if g)
    base = int(word) if word.isdecimal() else NUMBER_WORDS.get(word, 0)
    if not 2 <= base <= 36:
        raise Unparsable("not a base")
    sign, digits = "-" * match[1].startswith("-"), match[1].lstrip("+-").lower()
    whole, _, part = digits.partition(".")
    try:
        value = Fraction(int(whole, base)) + Fraction(int(part or "0", base), base ** len(part))
    except ValueError as error:
        raise Unparsable(f"not digits of base {base}") from error
    if base == 10:
        return Scalar(Number(-value if sign else value))
    return Based(f"{sign}{whole.lstrip('0') or '0'}.{part.rstrip('0')}".rstrip("."), base)


def _reals(text: str, read: Read) -> Answer | None:
    if _REALS.fullmatch(text):
        return Items("(", ")", (Scalar(Negative(Symbol("∞"))), Scalar(Symbol("∞"))))
    match = _BUT.match(text.removeprefix("\\text{").lstrip() if "except" in text else text)
    if match is None:
        return None
    points = [
        parse_value(p)
        for p in split(re.sub(r"(?:\\text\{ ?)?\b(?:and|or)\b ?\}?", ",", match[match.lastindex or 0]), ",")
        if p
    ]
    return without(tuple(Scalar(p) for p in sorted(points, key=lambda p: approximate(p, {})[0].real)))


def _punctured(text: str, read: Read) -> Answer | None:
    match = _PUNCTURED.fullmatch(text)
    if match is None:
        return None
    interval = read(match[1])
    if not isinstance(interval, Items) or len(interval.items) != 2:
        raise Unparsable("no interval")
    ends = [e for e in interval.items if isinstance(e, Scalar)]
    points = tuple(Scalar(parse_value(p)) for p in items(match[2]))
    return between(interval, ends, points)


def _congruence(text: str, read: Read) -> Answer | None:
    """``x ≡ 3 (mod 5)``, or several residues."""
    match = _CONGRUENCE.match(text)
    if match is None:
        return None
    modulus = int(match[3])
    residues = [
        rational(parse_value(p))
        for p in split(re.sub(r" ?(?:\\text\{ ?)?\b(?:or|and)\b ?\}?", ",", match[2]), ",")
        if p
    ]
    if modulus == 0 or any(r is None or r.denominator != 1 for r in residues):
        raise Unparsable("not a congruence of whole numbers")
    congruences = tuple(
        Congruence((match[1] or "").strip(), int(r) % modulus, modulus) for r in residues if r is not None
    )
    return congruences[0] if len(congruences) == 1 else Items("", "", congruences)


def _ratio(text: str, read: Read) -> Answer | None:
    if marks(text) or (len(labels := items(text)) > 1 and all(map(_LABELLED.match, labels))):
        return None
    text = _RATIO_WORDS.sub(":", text)
    pieces = split(text, ":")
    return Ratio(tuple(parse_expression(p) for p in pieces), clock=False) if len(pieces) > 1 else None
