"""The one cluster for all tests that need no cluster of their own."""

from collections.abc import Iterator

import pytest
from helpers.cluster import Head, started_head
from helpers.zygote import Zygote, started_zygote


@pytest.fixture(scope="session")
def head() -> Iterator[Head]:
    with started_head() as head:
        yield head


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    with started_zygote() as zygote:
        yield zygote
