"""Places of extrema as books list them, "max at $x=2$, min at $x=4$", in the grammar's names: ``max = 2, min = 4``."""

import re

_KIND = r"(?:(?:local|relative|absolute|global) )?\\?(?P<which>max|min|saddle)(?:im(?:um|a))?\.?(?: (?:pt|point)s?\.?)?"
_PLACE = re.compile(
    rf"^{_KIND}(?: (?:value )?at)? ?(?P<place>(?:[a-z] ?= ?)?(?:[-+\d\\(.]|[nk] ?\\pi).{{0,80}}?)$", re.IGNORECASE
)
_NEXT = re.compile(rf"(?:,|;|\band\b) ?(?={_KIND.replace('?P<which>', '?:')}\b)", re.IGNORECASE)
_LISTS = re.compile(
    r"\b(?:max|min)(?:imum|ima)?(?:\$?\.? ?\\?,? ?(?:\}|\\text\{)? ?at\b|\. \$?\()|\bsaddle p", re.IGNORECASE
)
_TEXT = re.compile(r"\\text\s*\{([^{}]*)\}")


def with_named_extrema(text: str) -> str:
    """The places with "max" and "min" for names; other texts as they are.

    Example: ``with_named_extrema("max at $x=2$")`` is ``"\\\\text{max place} = 2"``.
    """
    if not _LISTS.search(text):
        return text
    plain = " ".join(_TEXT.sub(r" \1 ", text).replace("$", " ").replace("\\max", "max").replace("\\min", "min").split())
    places = [_PLACE.match(piece.strip(" .,")) for piece in _NEXT.split(plain)]
    if not all(places):
        return text
    named = ((p["which"].lower(), re.sub(r"^[a-z] ?= ?", "", p["place"].strip())) for p in places if p is not None)
    return ", ".join(f"\\text{{{which} place}} = {place}" for which, place in named)
