"""The documentation names files that exist: a file that is renamed takes its name along into the docs."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TOP = {"bench", "docs", "examples", "lora", "rewards", "rl", "rollout", "tests"}


def named_paths(text: str) -> Iterator[str]:
    """Yield the paths in backticks that begin with a directory of this repository."""
    for path in re.findall(r"`([\w./-]+)`", text):
        if "/" in path and path.partition("/")[0] in TOP:
            yield path


def links(text: str) -> Iterator[str]:
    """Yield the relative addresses of links and pictures, without their anchors."""
    yield from re.findall(r"\]\((?!https?:)([^)#\s]+)", text)


def settings(reference: str) -> set[str]:
    """Return the dotted names of the keys of docs/configuration.md, and of its tables."""
    names, table = set[str](), ""
    for line in reference.splitlines():
        if line.startswith("#"):
            table = next(iter(re.findall(r"`\[+([\w.]+)\]+`", line)), "")
            names.add(table)
        names |= {f"{table}.{key}".lstrip(".") for key in re.findall(r"^\| `(\w+)`", line)}
    return names


def named_settings(text: str, tables: set[str]) -> Iterator[str]:
    """Yield the dotted names in backticks that begin with a table; of tables that end with "here", its column's alone."""
    here = False
    for line in text.splitlines():
        here = line.startswith("|") and (here or line.endswith("| here |"))
        for name in re.findall(r"`(\w+(?:\.\w+)+)(?: = [^`]+)?`", line.split(" | ")[-1] if here else line):
            if name.partition(".")[0] in tables and not name.endswith(".py"):
                yield name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_that_are_named_exist(page: Path) -> None:
    known = settings((ROOT / "docs" / "configuration.md").read_text(encoding="utf-8"))
    assert {"num_steps", "learner.lr", "evaluate.sets", "data.source"} <= known
    tables = {name.partition(".")[0] for name in known if "." in name}
    named = named_settings(page.read_text(encoding="utf-8"), tables)
    assert [name for name in named if name not in known and not name.startswith("lora.base.")] == []


def test_every_page_is_in_the_index() -> None:
    index = set(links((ROOT / "docs" / "README.md").read_text(encoding="utf-8")))
    assert {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"} <= index


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_links_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert [path for path in named_paths(text) if not (ROOT / path).exists()] == []
    assert [link for link in links(text) if not (page.parent / link).exists()] == []


def test_bare_names_of_tests_exist() -> None:
    names = {file.name for file in (ROOT / "tests").rglob("test_*.py")}
    assert len(names) > 50
    missing = {
        (page.name, name)
        for page in PAGES
        for name in re.findall(r"`(test_\w+\.py)`", page.read_text(encoding="utf-8"))
        if name not in names
    }
    assert missing == set()


def test_the_patterns_find_what_they_are_for() -> None:
    text = "see `rl/train.py`, `lora.rank`, `update/loss` and [data](data.md#prompts), ![curve](a.png), [far](https://x.y/z)"
    assert list(named_paths(text)) == ["rl/train.py"]
    assert list(links(text)) == ["data.md", "a.png"]
    assert list(named_settings("`lora.rank`, `b.c`\n| a | here |\n| `lora.x` | `lora.y = 1` |", {"lora"})) == [
        "lora.rank",
        "lora.y",
    ]


def test_the_architecture_page_has_every_package_of_rl() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    packages = [file.parent.name for file in sorted((ROOT / "rl").glob("*/__init__.py"))]
    assert len(packages) > 5
    assert [package for package in packages if f"| `rl/{package}`" not in page] == []


def test_every_package_says_what_lives_there() -> None:
    rooms = [file for top in ("rl", "rollout", "rewards", "lora") for file in (ROOT / top).rglob("__init__.py")]
    silent = [str(file.relative_to(ROOT)) for file in rooms if not file.read_text(encoding="utf-8").startswith('"""')]
    assert silent == []
