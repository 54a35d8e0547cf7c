"""Multiple choice: the letter of ``(C) 42 apples``, or what stands behind it, whichever the reference asks for."""

import re

_LETTER = re.compile(r"\(? ?([A-J]) ?\)?")
_LETTERS = re.compile(r"[A-J](?: ?, ?[A-J])+")
_RUN = re.compile(r"[A-J]{2,10}")
_OPTION = re.compile(
    r"^(?:\\text\{ ?)?(?i:(?:the )?(?:option|choice|answer)[ :]*)?"
    r"(?:\( ?([A-J]) ?\)|([A-J]) ?[).:])(?: ?\})?(?:(?:[ .:]+|(?<=\}))(.*))?$",
    re.DOTALL,
)
_NAMED = re.compile(r"^(?i:option|choice) ([A-J])$")
_ANOTHER = re.compile(r"\b(?:or|and|not|isn't|wrong|incorrect|false)\b|\b[B-J]\b|\bA\b(?! [a-z])|\b[A-Z]\}? ?:")
"""A second letter, or words that take back the first: such an answer chooses nothing."""
_LABELLED = re.compile(r"^[A-J] ?: ?[^A-Za-z]*\d")
_LABEL = re.compile(r"^([A-J]) ?: ?(?=[^:]*$)")
_VALUE = re.compile(r"[¤$]?\d|\\(?:frac|sqrt|text)|[A-Za-z]{3}")
"""The beginning of an option's own text. (C)x and (C) - 4 are products and differences of C."""


def without_choice(reference: str, answer: str) -> tuple[str, str]:
    """Normalised answers, reduced to letters where the reference has one, and to what follows a letter where not.

    Example: ``("C", "(C) 42")`` becomes ``("C", "C")``, and ``("42", "(C) 42")`` becomes ``("42", "42")``.
    """
    if _LETTERS.fullmatch(reference) and _RUN.fullmatch(answer):
        return reference, ", ".join(answer)  # AC for A, C
    asked, given = _option(reference), _option(answer)
    if asked and _LABELLED.match(reference):
        return _LABEL.sub(r"\1=", reference), _LABEL.sub(r"\1=", answer)  # C: 12 is a value with its name
    if asked and given and asked[0] == given[0] and all(re.search(r"\d", o[1]) for o in (asked, given)):
        return asked[1], given[1]
    expected = _letter(reference) or (asked[0] if asked else None)
    chosen = _letter(answer) or (given[0] if given else None)
    if expected and chosen:
        return expected, chosen
    if asked and asked[1]:
        return asked[1], answer
    if given and _LABELLED.match(answer) and ":" not in reference and re.search(r"\d", reference):
        return reference, given[1]  # A: 293
    if given and "(" in answer and _VALUE.match(given[1]):
        return reference, given[1]
    return reference, answer


def _letter(text: str) -> str | None:
    match = _LETTER.fullmatch(text)
    return None if match is None else match[1]


def _option(text: str) -> tuple[str, str] | None:
    """The letter and what follows it; None when the text names several letters, or none in first place."""
    if (named := _NAMED.match(text)) is not None:
        return named[1], ""
    match = _OPTION.match(text)
    if match is None or _ANOTHER.search(match[3] or ""):
        return None
    return match[1] or match[2], (match[3] or "").strip()
