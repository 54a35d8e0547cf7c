"""A cluster for the tests of a file."""

from collections.abc import Iterator

import pytest
from clusters import Head, started_head


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with started_head() as head:
        yield head
