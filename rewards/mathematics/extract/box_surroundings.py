"""Signs and words around a box that make another statement of it: ``x < \\boxed{42}``, ``\\boxed{42}^2``.

Words that are units elsewhere go with the number, so that the rules for units judge them: ``\\boxed{42}`` dozen is
``42 \\text{ dozen}``, and ``\\boxed{42}`` thousand is 42,000.
"""

import re

from rewards.mathematics.extract.box_in_formula import is_continued
from rewards.mathematics.extract.box_in_groups import is_wrapped

_FUNCTION = r"\\(?:sin|cos|tan|cot|sec|csc|log|ln|lg|exp|pi|theta|alpha|phi|sigma|tau|Gamma)(?:_\{?\w{1,3}\}?)?"
_PART_BEFORE = re.compile(
    r"(?:\d\.?|(?<![\w)\]}])\.|[-−+±∓]|[\d)}$=(\[{] *[-−+±∓] *|(?<![A-Za-z])[A-Za-z] +[-−+] +|\\[dt]?frac\s*\{|"
    r"\\frac\s*\{(?:[^{}\n]|\\boxed\{[^{}\n]*\}){1,40}\}\s*\{|"
    r"\\sqrt\s*(?:\[[^\]\n]{1,5}\])?\{|[*^/]|[_^]\s*\{|(?<![A-Za-z\\])[A-Za-z]|(?<![A-Za-z])(?:[A-Za-z]|\\[a-z]+)\(|"
    rf"{_FUNCTION}\s*)$"
)
_PART_AFTER = re.compile(
    r"(?:[}\s)\]]|\\right)*\^\s*\{?\s*(?:[-\d]|(?!o\b)[A-Za-z](?![A-Za-z]))|[eE][-+]?\d|[+*][A-Za-z(\\]|"
    r"[-/][a-z](?![A-Za-z])|\d|"
    r"\.\d|(?:\{,\}|,)\d{3}(?!\d)|\^\s*(?:\d|\{\s*[-\d])|[-+*/]\d|"
    r"\$? [+*/×÷] ?\$?\d|\$? - \$?\d[\d.]*\$?\.?(?=\s*$)|-ish\b| ?\\(?:cdot|times)(?![A-Za-z]) ?\d|\$(?:[kKMB]|bn|"
    r"mn)(?![A-Za-z])|"
    r"\}\s*\{[^{}\n]{1,40}\}|[xyzkni](?![A-Za-z])|\\(?:pi|sqrt|sin|cos|tan|log|ln|theta)(?![A-Za-z])"
)
"""Signs written against a box that make it a part of an expression: ``2\\boxed{42}``, ``\\boxed{42}^2``."""
_OTHER_BEFORE = re.compile(
    r"(?:<|≠|(?<![\w)}\]])!=|\\(?:lt|gt|neq?)\b|(?<=[\w)}\]] )>|\$[^$<>\n]{1,30}>"
    r"|\b(?:(?:less|more|greater|fewer|larger|smaller|bigger|higher|lower) than|exceeds?|half(?: of)?|twice|"
    r"double|triple|"
    r"thrice|negative|minus|between [^.\n]{1,30} and|not quite|nearly|almost|divisible by|coprime to|times|"
    r"(?:square|cube|root|reciprocal|negative|opposite|inverse|multiple|factor|divisor|half|third|quarter|tenth|"
    r"factorial|"
    r"logarithm|negation|complement|successor|predecessor|negatives?|digits) of))\s*(?:(?:the|a|an|about|"
    r"number)\s+)*(?:\$|\\\(|\\\[|\*|\(|\}|\s)*$",
    re.IGNORECASE,
)
"""Words and signs by which a box only bounds or changes another value.

The bound that is reached may be the answer: ``n \\ge \\boxed{42}``, at least 42.
"""
_OTHER_AFTER = re.compile(
    r"[\s*$)]*(?:\\neq?\b|≠|!=|\\[lg]t\b|[<>]\s*\$?(?:\s[a-z]\b|\\boxed)|(?:doubled|tripled|halved|factorial|plus|"
    r"minus|"
    r"times (?:\d|two|three|ten|itself)|mod(?:ulo)?|divided by|multiplied by|or (?:more|less|so|fewer)|"
    r"and (?:more|change|counting|(?:a|one|two|three) (?:half|third|quarter|\w+ths?)))\b)",
    re.IGNORECASE,
)
_BRACKET_BEFORE = re.compile(r"[(\[](?:(?!\\boxed|[A-Za-z]{3})[^()\[\]\n]){1,40}[,;]\s*\$?$")
_BRACKET_AFTER = re.compile(r"\s*\$?(?:\\right)?[)\]]")
_TAG = re.compile(r"</?\w[^<>]{0,40}>\s*$")
_CHANGING = re.compile(
    r"(?:[ \t*$)]|\\[\])]|\\text\s*\{)*\b((?:hundred|thousand|million|billion|trillion|dozen|gross|squared|cubed|half|"
    r"halves|(?:ten|hundred|thousand|million)ths?|thirds?|quarters?|fifths?|sixths?|sevenths?|eighths?|"
    r"ninths?)s?)\b(?!-)",
    re.IGNORECASE,
)


def is_part(text: str, start: int, end: int) -> bool:
    """Return True if what stands from ``start`` to ``end`` is a part of an expression, or of another statement."""
    before = text[max(0, start - 80) : start]
    if _PART_BEFORE.search(before) or _PART_AFTER.match(text, end) or is_wrapped(text, start):
        return True
    if is_continued(text, start, end):
        return True
    if before.endswith("|") and text.startswith("|", end):
        return True  # a modulus; the cells of a table have spaces
    if _BRACKET_BEFORE.search(before) and _BRACKET_AFTER.match(text, end):
        return True  # the point (x, 42)
    return (_OTHER_BEFORE.search(before) and not _TAG.search(before)) or _OTHER_AFTER.match(text, end) is not None


def changing_word(text: str, end: int) -> str:
    """The word behind a number that makes another number of it, or nothing."""
    match = _CHANGING.match(text, end, end + 60)
    return "" if match is None else match[1].lower()
