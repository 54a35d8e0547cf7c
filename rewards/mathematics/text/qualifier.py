"""Qualifiers of where an answer holds, as in ``f(x) = 1 for all x > 0``. "For all" goes, "if" stays."""

import re

_SET = r"(?:\\mathbb ?\{? ?[A-Z] ?\}?|[A-Z])(?: ?[_^] ?(?:\{[^{}]{0,20}\}|[+*\d]))*"
_QUALIFIER = re.compile(
    r"(?:,? ?\\text\{ ?,? ?\(?|,? \(?|(?<=[\d)}])\(?)(?:for (?:all|any|every|each)|for (?=[a-z] ?∈)|"
    r"where [a-z] is any|∀)"
    r"(?: (?:real|positive|negative|non-?negative|non-?zero|rational|integer|natural|such))*"
    r"(?: (?:numbers?|integers?|reals?|values?|inputs?)(?: of)?)? ?\}? ?"
    rf"(?:[a-z](?: ?_ ?\w)?(?: ?, ?[a-z])*)?(?: ?(?:∈ ?{_SET}|[<>≤≥≠] ?-?[\d.]+))?"
    r"(?:\\text\{ ?\)? ?\}|\))?(?=$| ?,| ?;| ?\\text\{ ?,? ?(?:and|or)| and | or )"
)
_ARGUMENT = re.compile(rf"^([a-zA-Z] ?\( ?([a-z]) ?\) ?=.*?)(?: ?, ?| ?\( ?|  ?)\2 ?∈ ?{_SET} ?\)?$")
"""A function with where its argument is from: ``f(x) = 2x, x \\in \\mathbb{R}``."""
_WHOLE = r"(?P<letter>[k-nt]) ?∈ ?(?:\\mathbb ?\{? ?Z ?\}?|Z)"
_FAMILY = re.compile(
    r"^(?P<main>.+?)(?: ?, ?| ?\(| )(?:\\text\{ ?,? ?(?:where|for|with)(?: (?:any|some|all))? ?\} ?|(?:where|for) )?"
    rf"{_WHOLE} ?\)?$"
    rf"|^\\\{{ ?(?:[a-z] ?[|:] ?)?(?P<set>[^|:]+?) ?(?:[|:]|,) ?{_WHOLE.replace('letter', 'of')} ?\\\}}$"
)
"""Solutions with a whole number in them: ``x = π/4 + kπ, k ∈ Z``."""
_EXCLUDED = re.compile(
    r"(?: ?\\text\{ ?,? ?(?:for|where|with|provided(?: that)?) ?\}| (?:for|where|"
    r"with))? ?(?P<open>\(?) ?(?P<condition>[a-z] ?≠ ?-?\d[\d./]*) ?\)?$"
)
"""A number that a letter must not be, in words or brackets: it is listed, as behind a comma."""


def without_qualifiers(text: str) -> str:
    """A normalised answer without its "for all x"."""
    if "≠" in text and (excluded := _EXCLUDED.search(text)) is not None and text[: excluded.start()].strip(" ,"):
        text = f"{text[: excluded.start()].strip(' ,')}, {excluded['condition']}"
    if "∈" in text:
        text = _family(text)
    if "∈" in text and (argument := _ARGUMENT.match(text)) is not None:
        text = argument[1].strip(" ,(")
    return _QUALIFIER.sub("", text).strip() if "for" in text or "∀" in text or "where" in text else text


def _family(text: str) -> str:
    """Solutions without where their whole number is from, which is then called k; other texts as they are."""
    match = _FAMILY.match(text)
    if match is None:
        return text
    main, letter = match["main"] or match["set"], match["letter"] or match["of"]
    alone = re.compile(rf"(?<![A-Za-z\\]){letter}(?![A-Za-z])")
    if not alone.search(main) or "∈" in main or (letter != "k" and "k" in main):
        return text
    return alone.sub("k", main)
