"""Reads answers in words: names, yes and no, the letter of a choice, numbers in words."""

import re

from rewards.mathematics.expressions.shapes import Answer, Items, Scalar, Words
from rewards.mathematics.expressions.tree import Number
from rewards.mathematics.text.normalize import KNOWN_WORDS, words
from rewards.mathematics.text.number_words import signed_number_in_words
from rewards.mathematics.text.unit import SHORT_UNITS

_WORDS_ONLY = re.compile(r"^[^\W\d_][^\W\d_ '\".,()/-]*(?:[ '.,()/-]+[^\W\d_]+)*\.?$")
_CHOICE = re.compile(r"^\(? ?([A-Ja-j]) ?\)?$")
_PRODUCT = re.compile(r"[a-z]{2}|[a-c]{3}|[x-z]{3}|[b-df-hj-np-tv-xz]{3}")
_SHORT_WORDS = SHORT_UNITS | words("no up ii iv vi ix xi be by do go he if it me my of on or so to us we")
"""Letters side by side that are a product of variables, unless they are a word."""
_NOTHING = words("none no_solution empty_set the_empty_set null_set")
_NO_SOLUTION = re.compile(r"^(?:there (?:is|are) |it has |has )?(no (?:real )?)(?:solution|root)s?(?: exists?)?$")
_SUBJECT = re.compile(
    r"^(?:the |this |its )?(?:limit|value|sum|integral|inverse|maximum|minimum|derivative) (?=does not exist$)"
    r"|^quadrant (?=(?:i{1,3}|iv)$)"
)
_AGREED = re.compile(
    r"^(yes|no) (?:it|they|he|she|this|that|there|you|we|i) (?:is|are|does|do|can|will|was|did|has)( not| n t)?$"
)
"""A yes or a no, said twice."""
_SAME = {
    "dne": "does not exist", "infinite": "infinitely many",
    "infinite solutions": "infinitely many", "infinitely many solutions": "infinitely many",
    "no such function": "no such functions", "there is no such function": "no such functions", "true": "true",
    "impossible": "impossible",
}  # fmt: skip


def read_words(text: str, nesting: int) -> Answer | None:
    """A choice's letter in brackets, a spelt-out number, or text. One bare letter may be a variable."""
    if (choice := _CHOICE.match(text)) is not None and len(text) > 1:
        return Words(choice[1].lower())
    if _PRODUCT.fullmatch(text) and text not in _SHORT_WORDS:
        return None
    plain = text.replace("\\text{", "").replace("}", "") if "\\text{" in text else text
    if (
        len(plain) < 2
        or ("π" in plain and len(plain) < 5)  # kπ is a product
        or not is_text(plain)
        or plain in KNOWN_WORDS
        or plain.split(" ")[0] in KNOWN_WORDS
    ):
        return None
    word = " ".join(re.findall(r"\w+", plain.lower()))
    word = _SUBJECT.sub("", _NO_SOLUTION.sub(r"\1solution", word))
    if (agreed := _AGREED.match(word)) is not None and (agreed[1] == "no") == bool(agreed[2]):
        word = agreed[1]
    if word.replace(" ", "_") in _NOTHING:
        return Items("{", "}", ())
    if (number := signed_number_in_words(word)) is not None:
        return Scalar(Number(number))
    if (
        (" or " in f" {word} " or " and " in f" {word} ")
        and nesting == 0
        and all(len(w) == 1 for w in word.split()[::2])
    ):
        return None
    return Words(_SAME.get(word, word))


def is_text(text: str) -> bool:
    """Return True if this is words, and not letters with signs between them: p - q and x/y are mathematics."""
    if not _WORDS_ONLY.match(text):
        return False
    signs = any(c in text for c in "-/()")
    return any(len(w) > (3 if signs else 1) for w in re.findall(r"[^\W\d_]+", text))
