"""The formulas in a text: what stands between dollar signs, or TeX's own brackets."""

import re

MAX_TEXT = 30_000
"""Characters of a text in which its formulas are looked for."""
MATH = re.compile(
    r"\$\$(?P<display>[^$]{1,2000})\$\$|\$(?P<inline>(?:[^$\n]|(?<=\\\\)\n){1,1000})\$|"
    r"\\\((?P<round>.{1,1000}?)\\\)|\\\[(?P<square>.{1,2000}?)\\\]",
    re.DOTALL,
)
_PROSE = re.compile(r"(?<![\\A-Za-z{])[A-Za-z]{3,}\s")
_IN_FORMULA = re.compile(r"\\(?:text|mathrm|mbox|operatorname)\s*\{[^{}]*\}")


def formulas(text: str) -> list[str]:
    """The formulas between dollar signs or TeX's own brackets."""
    return [next(g for g in m.groups() if g) for m in MATH.finditer(text[:MAX_TEXT])]


def is_formula(match: re.Match[str]) -> bool:
    """Return False for prose between dollar signs."""
    return not _PROSE.search(_IN_FORMULA.sub("", match[0]))


def inside(match: re.Match[str]) -> str:
    """The contents of a formula, without its delimiters."""
    return next(g for g in match.groups() if g).strip()
