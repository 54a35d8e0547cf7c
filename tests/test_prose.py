"""The house's rules of prose that a machine can see: how docstrings begin, and what local variables are not called."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("lora", "rewards", "rollout", "rl")
NOT_YET = (
    "rl/cluster", "rl/learner",
)  # fmt: skip
"""Files and directories that the rules are still to reach; a new one does not belong here."""

RELATIVE = re.compile(r"(What|Whatever|Whether|Of|All|Where|Those|And|How|Who|Whom|Whoever|Which|That)\b")
"""Beginnings that name no result: a docstring begins with a verb, or with the noun that is returned or held."""
VAGUE = {"found", "one", "mine", "theirs", "wanted", "said", "told", "other"}
"""A local variable is a noun of its content."""

TESTS_NOT_YET = (
    "tests/rl/cluster",
    "tests/rl/learner",
)
"""The same for tests, whose docstrings follow the rule, too."""

FILES = [
    file
    for package in PACKAGES
    for file in sorted((ROOT / package).rglob("*.py"))
    if not any(file.relative_to(ROOT).is_relative_to(exempt) for exempt in NOT_YET)
]
TESTS = [
    file
    for file in sorted((ROOT / "tests").rglob("*.py"))
    if not any(file.relative_to(ROOT).is_relative_to(exempt) for exempt in TESTS_NOT_YET)
]


def docstrings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of every module's, class's, function's and attribute's docstring."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for statement in node.body:
            match statement:
                case ast.Expr(ast.Constant(str(text))):
                    yield statement.lineno, text
                case _:
                    continue


def locals_of(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of every variable and parameter."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(name, ast.Store()):
                yield node.lineno, name
            case ast.arg(name):
                yield node.lineno, name
            case _:
                continue


@pytest.mark.parametrize("file", [*FILES, *TESTS], ids=lambda file: str(file.relative_to(ROOT)))
def test_docstrings_begin_with_a_verb_or_a_noun(file: Path) -> None:
    strings = docstrings(ast.parse(file.read_text(encoding="utf-8")))
    assert [f"line {line}: {text.strip()[:60]!r}" for line, text in strings if RELATIVE.match(text.strip())] == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_variables_are_nouns_of_their_content(file: Path) -> None:
    variables = locals_of(ast.parse(file.read_text(encoding="utf-8")))
    assert [f"line {line}: {name}" for line, name in variables if name in VAGUE] == []


def test_the_check_sees_every_kind_of_docstring() -> None:
    source = '"""What."""\nA = 1\n"""Of."""\nclass B:\n    """All."""\n    def c(self):\n        """How."""\n        found = 1\n'
    assert [text for _, text in docstrings(ast.parse(source)) if RELATIVE.match(text)] == [
        "What.",
        "Of.",
        "All.",
        "How.",
    ]
    assert VAGUE & {name for _, name in locals_of(ast.parse(source))} == {"found"}


def test_an_exemption_is_of_something_that_is_there() -> None:
    assert [exempt for exempt in (*NOT_YET, *TESTS_NOT_YET) if not (ROOT / exempt).exists()] == []
