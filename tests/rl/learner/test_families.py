"""The table of families in docs/models.md says what is so: all of it but vLLM's column is measured anew."""

import json
from pathlib import Path

import pytest

from bench.families.__main__ import PAGE, RESULTS, trained
from bench.families.shapes import FAMILIES, Family, write_model
from bench.families.table import BOUNDS, bound, put_into

MEASURED = json.loads(RESULTS.read_text())


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_family_is_trained_as_the_table_says(family: Family, tmp_path: Path) -> None:
    write_model(family, tmp_path)
    now, then = trained(tmp_path), MEASURED[family.name]["trained"]
    differences = {key for key in then if key.endswith("_difference")}
    assert {key: value for key, value in json.loads(json.dumps(now)).items() if key not in differences} == {
        key: value for key, value in then.items() if key not in differences
    }
    for key in differences:
        assert now[key] <= float(bound(then[key])), key
        assert then[key] <= BOUNDS[1], key


def test_the_page_has_the_table() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert put_into(page, MEASURED) == page
    assert [family.name for family in FAMILIES] == list(MEASURED)


def test_a_difference_is_told_by_the_least_bound_that_it_is_within() -> None:
    assert [bound(value) for value in (0.0, 9e-7, 1e-5, 2e-5, 0.5)] == ["1e-5", "1e-5", "1e-5", "1e-4", "5.0e-01"]
