"""Dotted names of nested tables."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl.settings import paths

KEYS = st.text("abc", min_size=1, max_size=2)
TABLES = st.recursive(
    st.dictionaries(KEYS, st.integers(), min_size=1),
    lambda inner: st.dictionaries(KEYS, inner, min_size=1),
    max_leaves=15,
)


@given(TABLES)
def test_what_is_flattened_is_put_and_got_by_its_names(table: dict[str, object]) -> None:
    flat = paths.flatten(table)
    built: dict[str, object] = {}
    for name, value in flat.items():
        assert paths.get(table, name) == value
        paths.put(built, name, value)
    assert built == table


def test_a_name_that_is_not_there_gives_the_default() -> None:
    table = {"lora": {"rank": 1}}
    assert paths.get(table, "lora.alpha", "not there") == "not there"
    assert paths.get(table, "lora.rank.of", "not there") == "not there"
    assert paths.get(table, "model.name") is None


def test_a_value_in_the_way_is_named() -> None:
    table: dict[str, object] = {"lora": {"rank": 1}}
    with pytest.raises(ValueError, match=r"^lora\.rank is a value, not a table of them$"):
        paths.put(table, "lora.rank.of.experts", 2)
    assert table == {"lora": {"rank": 1}}


def test_a_table_can_be_kept_as_a_value() -> None:
    table = {"learner": {"lr": {"min": 1, "max": 2}}}
    assert paths.flatten(table, lambda name, value: "min" in value) == {"learner.lr": {"min": 1, "max": 2}}
