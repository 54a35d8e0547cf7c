"""References that a program wrote: ``(-oo, 5)``, ``2*I``, ``atan(1/2)``, ``Matrix([[1, 2], [3, 4]])``."""

import re

_SIGNS = re.compile(
    r"\*|\boo\b|\b(?:np|numpy|math|sp|sympy)\.[a-z]|\b(?:a(?:sin|cos|tan)|cbrt|factorial|binomial|Rational|Matrix)\("
)
"""Signs of a program's notation. A text with a backslash or a dollar sign is LaTeX."""
_CELL = r"[^\[\]()]{1,100}"
_NOTATION = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\b(?:np|numpy|math|sp|sympy)\.(?=[A-Za-z])", ""),
        (r"\boo\b", r"\\infty"),
        (r"(?<![A-Za-z])I(?![A-Za-z(])", "i"),
        (r"(?<![A-Za-z])E(?=\*\*)", "e"),
        (r"\barc?(sin|cos|tan)(?=\()|\ba(sin|cos|tan)(?=\()", r"arc\1\2"),
        (rf"\bcbrt\(({_CELL})\)", r"\\sqrt[3]{\1}"),
        (rf"\bfactorial\(({_CELL})\)", r"(\1)!"),
        (rf"\bbinomial\(({_CELL}), ?({_CELL})\)", r"\\binom{\1}{\2}"),
        (rf"\bRational\(({_CELL}), ?({_CELL})\)", r"(\1)/(\2)"),
    )
)
_MATRIX = re.compile(rf"Matrix\(\[(\[{_CELL}\](?:, ?\[{_CELL}\])*)\]\)")


def from_program(text: str) -> str:
    """A reference in a program's notation as LaTeX; other texts as they are.

    Example: ``from_program("(-oo, 5)")`` is ``(-\\infty, 5)``.
    """
    if "\\" in text or "$" in text or not _SIGNS.search(text):
        return text
    if (matrix := _MATRIX.fullmatch(text)) is not None:
        rows = re.findall(r"\[([^\[\]]+)\]", matrix[1])
        return "\\begin{pmatrix}" + "\\\\".join(row.replace(",", "&") for row in rows) + "\\end{pmatrix}"
    for pattern, replacement in _NOTATION:
        text = pattern.sub(replacement, text)
    return text
