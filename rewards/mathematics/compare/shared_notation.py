"""Two normalised answers in the notation that they share: option letters, binomial coefficients, ordinals.

What a notation means may be known only from the other answer: ``C(n, k)`` is a binomial coefficient beside one and a
point elsewhere, and "third" is the number of a place unless the question asks for a part.
"""

import re

from rewards.mathematics.compare.multiple_choice import without_choice
from rewards.mathematics.text.number_words import ordinal_in_words

_INDEX = r"(?:\{{ ?(?P<{0}>[^{{}}]{{1,20}}?) ?\}}|(?P<{0}_>\w))"
_CHOOSE = re.compile(
    rf"(?:\{{ ?\}} ?)?[_^] ?{_INDEX.format('n')} ?C ?_ ?{_INDEX.format('k')}"
    rf"|(?<![A-Za-z\\])C ?_ ?{_INDEX.format('m')} ?\^ ?{_INDEX.format('j')}"
)
"""``{}_nC_k`` and ``C_n^k``."""
_PAIR = re.compile(r"(?<![A-Za-z\\])C ?\( ?([^(),]{1,20}?) ?, ?([^(),]{1,20}?) ?\)|\b(\d{1,3}|[n-r])C(\d{1,3}|[i-r])\b")
"""``C(n, k)`` and ``nCk``."""
_SHAPES = {"varphi": "phi", "varepsilon": "epsilon", "vartheta": "theta", "varrho": "rho"}
_LOG_TEN = re.compile(r"\\(?:lg(?![a-z])|log _ ?\{? ?10(?!\d))")
_LOG = re.compile(r"\\log (?! ?[_^])")
_OTHER_LOG = re.compile(r"\\(?:ln|log (?! ?_ ?\{? ?10))")
_LOG_BASED = re.compile(r"\\(?:ln|lg|log ?_)")
_BASED = re.compile(r"([0-9A-Fa-f]{1,60}) ?_ ?\{? ?(\d{1,2}) ?\}?")
_BASE = re.compile(r"\bbase[- ]?\$?(\d{1,2})\b")
_NAMED_BASES = {"hexadecimal": "16", "binary": "2", "octal": "8", "ternary": "3"}
_POINT = re.compile(r"C ?\([-\d., ]+\)")
_PART = re.compile(
    r"\b(?:fractions?|parts?|portions?|shares?|proportions?|probability|chance|likelihood)\b", re.IGNORECASE
)
_NUMBERED = re.compile(r"\d{1,3} ?(?:\^ ?\{? ?)?(?:\\text\{ ?)?(?:st|nd|rd|th)?(?: ?\})*")


def in_shared_notation(reference: str, answer: str, question: str = "") -> tuple[str, str]:
    """The two answers as they are to be compared.

    Example: ``in_shared_notation("\\\\binom{n}{2}", "C(n,2)")`` has ``\\\\binom{n}{2}`` twice.
    """
    reference, answer = without_choice(*_with_one_spelling(reference, answer))
    if "C" in reference or "C" in answer:
        reference, answer = _CHOOSE.sub(_binomial, reference), _CHOOSE.sub(_binomial, answer)
        if "\\binom" in reference:
            answer = _PAIR.sub(_pair, answer)
        elif "\\binom" in answer and not _POINT.fullmatch(reference):
            reference = _PAIR.sub(_pair, reference)
    if (digits := _in_asked_base(answer, question)) is not None and reference.isalnum():
        answer = digits
    elif (digits := _in_asked_base(reference, question)) is not None and answer.isalnum():
        reference = digits
    return _with_ordinals(reference, answer, question)


def _with_one_spelling(reference: str, answer: str) -> tuple[str, str]:
    """The two with one shape for a Greek letter that has two, unless one text has both; and with a base for the
    answer's logarithms if the reference only has those of base ten."""
    for shape, letter in _SHAPES.items():
        if f"\\{shape}" in reference + answer and not any(
            f"\\{shape}" in text and f"\\{letter}" in text for text in (reference, answer)
        ):
            reference, answer = (text.replace(f"\\{shape}", f"\\{letter}") for text in (reference, answer))
    if _LOG_TEN.search(reference) and not _OTHER_LOG.search(reference) and not _LOG_BASED.search(answer):
        answer = _LOG.sub(r"\\lg ", answer)
    return reference, answer


def _in_asked_base(answer: str, question: str) -> str | None:
    """The digits of ``132_5`` if 5 is the only base of which the question speaks."""
    match = _BASED.fullmatch(answer)
    return match[1] if match is not None and _bases(question) == {match[2]} else None


def _bases(question: str) -> set[str]:
    named = {base for word, base in _NAMED_BASES.items() if word in question.lower()}
    return {m[1] for m in _BASE.finditer(question)} | named


def _binomial(match: re.Match[str]) -> str:
    top, bottom = (
        next(match[g] for g in groups if match[g]) for groups in (("n", "n_", "m", "m_"), ("k", "k_", "j", "j_"))
    )
    return f"\\binom {{{top}}}{{{bottom}}}"


def _pair(match: re.Match[str]) -> str:
    return f"\\binom {{{match[1] or match[3]}}}{{{match[2] or match[4]}}}"


def _with_ordinals(reference: str, answer: str, question: str) -> tuple[str, str]:
    """Third is 3, or a third where the question asks for a part."""
    expected, given = ordinal_in_words(reference), ordinal_in_words(answer)
    if given is not None and re.search(r"\d", reference):
        return reference, f"1/{given}" if _PART.search(question) else str(given)
    if expected is not None and _NUMBERED.fullmatch(answer):
        return str(expected), answer
    return reference, answer
