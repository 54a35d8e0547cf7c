"""Reads an answer: a number with its unit, a list, a set, a pair or interval, a relation, a matrix, words ...

`parse_answer` decides the shape (`rewards.shapes`) by the outermost signs. Words that the grammar does not
know make an answer unreadable unless they are its unit, so "not 5" and "5 or more" never pass for 5.
"""

import contextlib
import re
from fractions import Fraction
from functools import lru_cache

from rewards.exact import approximate, variables
from rewards.expression import (
    Call,
    Negative,
    Node,
    Number,
    Power,
    Product,
    Symbol,
    Unparsable,
    signs,
    walk,
)
from rewards.normalize import KNOWN_WORDS, MAX_ANSWER_CHARS
from rewards.parser import parse_expression
from rewards.shapes import Answer, Based, Items, Matrix, Named, Ratio, Relation, Scalar, Union, Words
from rewards.unit import NOT_UNITS, NUMBER_WORDS, split_unit

MAX_ITEMS = 200
MAX_NESTING = 5
CLOSE, ROUGH = 1e-5, 0.05
"""How far apart the sides of = and of ≈ may be, relatively: models write sqrt(2) = 1.41421 and 2/3 ≈ 0.7."""


FILLER = re.compile(
    r"^(?:(?:approximately|approx\.?|about|around|roughly|exactly|equal to|equals|simply|just|precisely|a total of|"
    r"(?:the |a )?(?:number|value|answer|result|total) (?:is|of)|in total) )+",
    re.IGNORECASE,
)

_COMMA_NUMBER = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_COMMA_AT_ALL = re.compile(r"(?<=\d),(?=\d)")
_BASED = re.compile(
    r"^\(?([0-9A-Fa-f]{1,200})\)? ?_ ?(?:\{ ?\(?(?:\\text\{)?([a-z0-9]{1,7})\}?\)? ?\}|([0-9])|\\text\{([a-z]{1,7})\})$"
)
_BASE_WORDS = re.compile(r"^([0-9A-Fa-f]{1,200}) ?(?:\\text\{ ?)?\(?(?:in )?base[ -]([a-z0-9]{1,7})\)? ?\}?$")
_MATRIX = re.compile(r"^[\[(]? ?\\begin\{([pbBvV]?(?:small)?matrix|array)\}(?:\{[lcr| ]*\})?(.*)\\end\{\1\} ?[\])]?$")
_RATIO_WORDS = re.compile(r"(?<=\d) ?(?:\\text\{ ?to ?\}| to ) ?(?=\d+$)")
_CLOCK = re.compile(r"^\d{1,2}:\d\d(?::\d\d)?(?: ?(?:[ap]\.?m\.?|\\text\{ ?[ap]\.?m\.? ?\}))?$", re.IGNORECASE)
_WORDS_ONLY = re.compile(r"^[^\W\d_][^\W\d_ '\".,()/-]*(?:[ '.,()/-]+[^\W\d_]+)*\.?$")
_NAME = re.compile(r"^(?:\\?[A-Za-z]+ ?(?:_ ?(?:\{ ?\w{1,8} ?\}|\w))? ?'?(?:\( ?[a-zA-Z0-9, ]{1,9} ?\))?)$")
_NAMES = (
    # AB, the angle ABC, the length |AB|, the area [ABC]
    re.compile(r"^(?:m ?)?(?:\\(?:angle|triangle|overline|measuredangle|vec|hat|bar) ?)?\{? ?[A-Z]{1,4} ?\}?$"),
    re.compile(r"^(?:\[ ?[A-Z]{3,6} ?\]|\| ?[A-Z]{2} ?\|)$"),
    re.compile(r"^\\frac ?\{ ?d ?\w? ?\} ?\{ ?d ?\w ?\}$"),  # dy/dx
    re.compile(r"^[a-zA-Z] ?\^ ?\{? ?-1 ?\}? ?\([^()]{1,20}\)$"),  # f^{-1}(3)
    re.compile(r"^\\(?:sin|cos|tan|cot|sec|csc) ?(?:\\angle ?)?\(? ?(?:[A-Za-z]{1,3}|\\[a-z]+) ?\)?$"),
    re.compile(r"^(?:[EP]|\\mathbb ?\{ ?[EP] ?\}) ?[\[(][^\[\]()]{1,20}[\])]$"),  # an expectation, a probability
)
_COORDINATES = re.compile(r"^\( ?([a-zA-Z](?: ?, ?[a-zA-Z]){1,3}|r ?, ?\\theta) ?\)$")
_REALS = re.compile(
    r"\\mathbb ?\{? ?R ?\}?|(?:the set of )?(?:all )?(?:real numbers|reals)|all real (?:numbers )?(?:\w|values)",
    re.IGNORECASE,
)
_CONDITION = re.compile(r" ?([a-z])(?: ?∈ ?\\mathbb ?\{? ?R ?\}?)? ?[|:](.*)", re.DOTALL)
_OPEN, _CLOSE = "([{⟨", ")]}⟩"
_CHOICE = re.compile(r"^\(? ?([A-Ja-j]) ?\)?$")
_JOINERS = re.compile(r"\\text\{ ?(?:,? ?(and|or)) ?\}|,? (and|or) (?=[^ ])")
_SIGNS = "=<>≤≥≠≈"


@lru_cache(8192)
def parse_answer(text: str, nesting: int = 0) -> Answer:
    """The shape and contents of a normalised answer. Raises `Unparsable`."""
    if not text:
        raise Unparsable("empty")
    if nesting > MAX_NESTING:
        raise Unparsable("nested too deep")
    if "…" in text or "∩" in text or "∖" in text or "∉" in text or ("∅" in text and text != "∅"):
        raise Unparsable("an ellipsis or a set operation leaves open what is meant")
    if len(text) > MAX_ANSWER_CHARS:
        return Scalar(parse_expression(text))
    for shape in (_special, _words, _joined, _related, _enclosed):
        answer = shape(text, nesting)
        if answer is not None:
            return answer
    return parse_scalar(text)


def _special(text: str, nesting: int) -> Answer | None:
    """Shapes with their own spelling: matrices, digits in a base, ratios and times."""
    if text.startswith("\\text{") and text.endswith("}") and text.count("{") == 1:
        return parse_answer(text[6:-1].strip(), nesting + 1)
    if (matrix := _MATRIX.match(text)) is not None:
        if matrix[1] in ("vmatrix", "Vmatrix"):
            raise Unparsable("a determinant")
        return _matrix(matrix[2])
    based = _BASED.match(text) or _BASE_WORDS.match(text)
    if based is not None:
        return _based(based[1], next(g for g in based.groups()[1:] if g))
    if _CLOCK.match(text):
        digits = [Number(Fraction(int(d))) for d in re.findall(r"\d+", text)]
        halves = [Symbol(f"{half}m") for half in re.findall(r"[ap](?=\.?m)", text.lower())]
        return Ratio((*digits, *halves), clock=True)
    if _REALS.fullmatch(text):
        return Items("(", ")", (Scalar(Negative(Symbol("∞"))), Scalar(Symbol("∞"))))
    text = _RATIO_WORDS.sub(":", text)
    pieces = _split(text, ":")
    if len(pieces) > 1:
        return Ratio(tuple(parse_expression(p) for p in pieces), clock=False)
    return None


def _matrix(body: str) -> Matrix:
    rows = [r for r in body.split("\\\\") if r.strip()]
    cells = tuple(tuple(parse_value(c.strip()) for c in r.split("&")) for r in rows)
    if not cells or len({len(r) for r in cells}) != 1 or len(cells) * len(cells[0]) > MAX_ITEMS:
        raise Unparsable("rows of different lengths")
    return Matrix(cells)


def _based(digits: str, base: str) -> Answer:
    value = int(base) if base.isdecimal() else NUMBER_WORDS.get(base, 0)
    if not 2 <= value <= 36:
        raise Unparsable("not a base")
    try:
        number = int(digits, value)
    except ValueError as error:
        raise Unparsable(f"not digits of base {value}") from error
    return Scalar(Number(Fraction(number))) if value == 10 else Based(digits.lower().lstrip("0") or "0", value)


def _words(text: str, nesting: int) -> Answer | None:
    """A choice's letter in brackets, a spelt-out number, or text. One bare letter may be a variable."""
    if (choice := _CHOICE.match(text)) is not None and len(text) > 1:
        return Words(choice[1].lower())
    plain = text.replace("\\text{", "").replace("}", "") if "\\text{" in text else text
    if len(plain) < 2 or not _is_text(plain) or plain in KNOWN_WORDS or plain.split(" ")[0] in KNOWN_WORDS:
        return None
    word = " ".join(re.findall(r"\w+", plain.lower()))
    if word in ("no solution", "no solutions", "empty set", "the empty set"):
        return Items("{", "}", ())
    if word in NUMBER_WORDS:
        return Scalar(Number(Fraction(NUMBER_WORDS[word])))
    if (
        (" or " in f" {word} " or " and " in f" {word} ")
        and nesting == 0
        and all(len(w) == 1 for w in word.split()[::2])
    ):
        return None
    return Words(word)


def _is_text(text: str) -> bool:
    """Whether this is words, and not letters with signs between them: p - q and x/y are mathematics."""
    if not _WORDS_ONLY.match(text):
        return False
    signs = any(c in text for c in "-/()")
    return any(len(w) > (3 if signs else 1) for w in re.findall(r"[^\W\d_]+", text))


def _joined(text: str, nesting: int) -> Answer | None:
    """Membership, unions, then lists."""
    member = _split(text, "∈")
    if len(member) == 2 and _NAME.match(member[0].strip()):
        return Named(member[0].strip(), parse_answer(member[1].strip(), nesting + 1))
    pieces = _split(text, "∪")
    if len(pieces) > 1:
        return Union(tuple(parse_answer(p, nesting + 1) for p in pieces))
    if not any(c in text for c in ",;") and " and" not in text and " or" not in text and "text{" not in text:
        return None
    if len(_split(text, ",")) > 1 or not any(b in text for b in "([{"):
        text = _COMMA_NUMBER.sub(lambda m: m[0].replace(",", ""), text)
    if "{" not in text.replace("\\{", "") or "text{" in text:
        joined = _JOINERS.sub(",", text)
    else:
        joined = re.sub(r" (?:and|or) ", ",", text)
    pieces = [p.strip() for each in _split(joined, ";") for p in _split(each, ",")]
    if len(pieces) == 1:
        return parse_answer(pieces[0], nesting + 1) if pieces[0] != text or joined != text else None
    pieces = pieces[:-1] if not pieces[-1] else pieces
    pieces = [p for p in pieces if p]
    if any(c in text for c in "<>≤≥≠") and " and" in text:
        raise Unparsable("conditions that hold together")
    if any(c in text for c in "<>≤≥") and "," not in text and ";" not in text:
        return Union(tuple(parse_answer(p, nesting + 1) for p in pieces))
    return _collect("", "", pieces, nesting)


def _collect(left: str, right: str, pieces: list[str], nesting: int) -> Items:
    if not 1 <= len(pieces) <= MAX_ITEMS:
        raise Unparsable("too many items, or none")
    found: list[Answer] = []
    for piece in pieces:
        item = parse_answer(piece, nesting + 1)
        if isinstance(item, Items) and item.left == "{" and (left == "{" or len(item.items) == 1):
            raise Unparsable("a set within a set")
        # 1 ± 2 in a list is two of its items.
        found.extend(item.items if isinstance(item, Items) and not item.left else (item,))
    return Items(left, right, tuple(found))


def _related(text: str, nesting: int) -> Answer | None:
    """Equations and inequalities."""
    pieces = [p.strip() for p in _split(text, _SIGNS)]
    if len(pieces) == 1:
        return None
    if len(pieces) > 12 or not all(pieces):
        raise Unparsable("a sign with nothing beside it")
    marks = _marks(text)
    if set(marks) <= {"=", "≈"}:
        return _equation(pieces, marks, nesting)
    return Relation(tuple(parse_expression(p) for p in pieces), tuple(marks))


def _marks(text: str) -> list[str]:
    """The relation signs outside brackets, in order."""
    depth, found = 0, list[str]()
    for character in text:
        depth += (character in _OPEN) - (character in _CLOSE)
        if depth == 0 and character in _SIGNS:
            found.append(character)
    return found


def _equation(pieces: list[str], marks: list[str], nesting: int) -> Answer:
    """``name = ... = value`` and arithmetic like ``2 * 9 = 18`` state their last side; others state themselves.

    What follows ≈ is only a reading of what stands before it.
    """
    if "≈" in marks:
        at = marks.index("≈")
        if at > 0 or not _is_name(pieces[0]):
            _agree(pieces[at:], ROUGH)
            pieces, marks = pieces[: at + 1], marks[:at]
    if len(pieces) == 1:
        return parse_answer(pieces[0], nesting + 1)
    if _COORDINATES.match(pieces[0]):
        return _coordinates(pieces, nesting)
    if _is_name(pieces[0]):
        name = re.sub(r"\\text\{|[} ]", "", pieces[0])
        _agree(pieces[1:], ROUGH if "≈" in marks else CLOSE)
        return Named(name, parse_answer(pieces[-1], nesting + 1))
    if len(pieces) == 2 and len(pieces[1]) == 1 and _is_name(pieces[1]):
        return Named(pieces[1], parse_answer(pieces[0], nesting + 1))
    first = parse_value(pieces[0])
    if not variables(first):
        return _arithmetic([first, *map(parse_value, pieces[1:-1])], parse_scalar(pieces[-1]))
    if len(pieces) != 2:
        raise Unparsable("a chain of equations")
    return Relation((first, parse_value(pieces[1])), ("=",))


def _agree(pieces: list[str], tolerance: float) -> None:
    """Raises `Unparsable` when two numbers in a chain of equals are not equal: x = 6 = 5 says nothing."""
    values: list[complex] = []
    for piece in pieces:
        with contextlib.suppress(Unparsable):
            scalar = parse_scalar(piece)
            if isinstance(scalar, Scalar) and not variables(scalar.node):
                values.append(approximate(scalar.node, {})[0])
    whole = all(v == round(v.real) for v in values)  # nothing about 42 is approximately 43
    if any(abs(v - values[0]) > (0 if whole else tolerance * max(abs(v), abs(values[0]))) for v in values[1:]):
        raise Unparsable("sides that are not equal")


def _coordinates(pieces: list[str], nesting: int) -> Answer:
    """``(x, y) = (1, 2)``: a point, if its letters come in their usual order."""
    letters = [p.strip() for p in pieces[0].strip("() ").split(",")]
    point = parse_answer(pieces[-1], nesting + 1)
    several = point.items if isinstance(point, Items) and not point.left else (point,)
    if letters != sorted(letters) or len(pieces) != 2:
        raise Unparsable("coordinates in an order of their own")
    if any(not isinstance(p, Items) or len(p.items) != len(letters) for p in several):
        raise Unparsable("not a value for each coordinate")
    return point


def _arithmetic(sides: list[Node], last: Scalar | Items) -> Answer:
    """The value of a true statement about numbers; 5 = 6 says nothing."""
    if not isinstance(last, Scalar) or any(variables(n) for n in (*sides, last.node)):
        raise Unparsable("an equation whose first side has no variable")
    value, scale = approximate(last.node, {})
    if any(abs(approximate(s, {})[0] - value) > 1e-9 * max(scale, abs(value)) for s in sides):
        raise Unparsable("sides that are not equal")
    return last


def _is_name(text: str) -> bool:
    """Whether the left side only names what the right side is: a variable, f(x), or words."""
    if text in ("e", "i", "pi", "π"):
        return False
    if any(name.match(text) for name in _NAMES):
        return True
    if _NAME.match(text):
        word = re.match(r"\\?([A-Za-z]+)", text)
        assert word is not None
        return word[1] not in KNOWN_WORDS and (len(word[1]) == 1 or text.startswith("\\") or len(word[1]) > 3)
    plain = re.sub(r"\\text\{([^{}]*)\}", r"\1", text).strip()
    return _is_text(plain) and len(plain) > 3 and plain.split(" ")[0].lower() not in NOT_UNITS


def _enclosed(text: str, nesting: int) -> Answer | None:
    """A bracket around everything: a set, a point or an interval."""
    if text in ("\\{\\}", "∅"):
        return Items("{", "}", ())
    if text.startswith("\\{") and text.endswith("\\}") and _closes(text.replace("\\{", "{").replace("\\}", "}")):
        inner = text[2:-2].strip()
        if "|" in inner or ":" in inner:
            return _conditioned(inner, nesting)
        return _collect("{", "}", [p.strip() for each in _split(inner, ";") for p in _split(each, ",")], nesting)
    if text[0] in "([⟨" and text[-1] in ")]⟩" and _closes(text):
        inner = text[1:-1].strip()
        pieces = [p.strip() for each in _split(inner, ";") for p in _split(each, ",")]
        if len(pieces) > 1:
            return _collect(text[0], text[-1], pieces, nesting)
        if any(c in inner for c in "=<>≤≥≠∪"):
            return parse_answer(inner, nesting + 1)
    return None


def _conditioned(inner: str, nesting: int) -> Answer:
    """``{x | x < 5}`` is its condition, if that is on x alone."""
    match = _CONDITION.fullmatch(inner)
    if match is None:
        raise Unparsable("a set given by a condition")
    condition = parse_answer(match[2].strip(), nesting + 1)
    pieces = condition.pieces if isinstance(condition, Union) else (condition,)
    for piece in pieces:
        names = (
            {n.name for s in piece.sides for n in walk(s) if isinstance(n, Symbol) and n.name != "∞"}
            if isinstance(piece, Relation)
            else set[str]()
        )
        if names != {match[1]}:
            raise Unparsable("a set given by a condition")
    return condition


def _closes(text: str) -> bool:
    """Whether the first bracket is closed by the last character."""
    depth = 0
    for at, character in enumerate(text):
        depth += (character in _OPEN) - (character in _CLOSE)
        if depth == 0:
            return at == len(text) - 1
    return False


def _split(text: str, separators: str) -> list[str]:
    """The pieces between separators that stand outside every bracket."""
    pieces, depth, start = list[str](), 0, 0
    for at, character in enumerate(text):
        depth += (character in _OPEN) - (character in _CLOSE)
        if depth == 0 and character in separators:
            pieces.append(text[start:at])
            start = at + 1
    return [*pieces, text[start:]]


def parse_value(text: str) -> Node:
    """One value, without its unit."""
    scalar = parse_scalar(text)
    if not isinstance(scalar, Scalar):
        raise Unparsable("± has two readings here")
    return scalar.node


def parse_scalar(text: str) -> Scalar | Items:
    """One value with its unit, or the two values of an expression with ±."""
    text = FILLER.sub("", text)
    core, unit, scale = split_unit(text)
    core = _COMMA_NUMBER.sub(lambda m: m[0].replace(",", ""), core) if _COMMA_AT_ALL.search(core) else core
    node = parse_expression(core)
    if "degree" in unit and any(isinstance(n, Call) and n.name[:3] in ("sin", "cos", "tan", "cot") for n in walk(node)):
        raise Unparsable("a function of degrees")
    readings = signs(node)
    if scale:
        readings = tuple(Product((r, Power(Number(Fraction(10)), Number(Fraction(scale))))) for r in readings)
    if len(readings) == 1:
        return Scalar(readings[0], unit)
    return Items("", "", tuple(Scalar(r, unit) for r in readings))
