"""The stems of English words, by which a question and an answer speak of the same things."""

import re

from rewards.mathematics.text.normalize import words

_ENDING = re.compile(r"(?:ies|ied|ing|ed|es|s|y|e)$")
_PRESENT = dict(
    pair.split("/")
    for pair in words(
        "lost/lose won/win drove/drive driven/drive sold/sell bought/buy ate/eat eaten/eat wrote/write written/write "
        "ran/run rode/ride sent/send kept/keep brought/bring caught/catch drank/drink slept/sleep swam/swim "
        "threw/throw grew/grow flew/fly gave/give broke/break chose/choose built/build fed/feed held/hold taught/teach "
        "stole/steal feet/foot knew/know went/go gone/go led/lead lent/lend"
    )
)


def stem(word: str) -> str:
    """The beginning that a word shares with its other forms: ``box`` and ``boxes``."""
    word = _PRESENT.get(word, word)
    return _ENDING.sub("", word)[:5] if len(word) > 3 else word
