"""The one cluster for all tests that need no cluster of their own, and the process that runs commands for them."""

from collections.abc import Iterator

import pytest
from helpers.cluster import Head, started_head
from helpers.zygote import Zygote, shared_zygote


@pytest.fixture(scope="session")
def head() -> Iterator[Head]:
    with started_head() as head:
        yield head


@pytest.fixture(scope="session")
def zygote() -> Zygote:
    return shared_zygote()
