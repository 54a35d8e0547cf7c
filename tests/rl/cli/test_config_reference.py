"""The configuration reference in the docs is what the configuration classes say, and says something of every key."""

from pathlib import Path

from rl.cli.config_reference import reference

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"


def test_the_page_is_what_the_classes_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "run `make docs`"


def test_every_key_has_a_meaning() -> None:
    silent = [line for line in reference().splitlines() if line.startswith("| `") and line.endswith("|  |")]

    assert silent == []
