"""The one cluster for all tests that need no cluster of their own, and the process that runs commands for them."""

from contextlib import ExitStack

import pytest
from helpers.cluster import Head, started_head
from helpers.zygote import Zygote, shared_zygote

STARTED = ExitStack()


@pytest.fixture(scope="session")
def head() -> Head:
    """Return a head that goes on until a test comes that does not ask for it. Those that do come one after another."""
    return STARTED.enter_context(started_head())


@pytest.hookimpl(trylast=True)  # when the jobs are stopped that fixtures have on it
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """End the head behind the last test that asks for it: its dashboard is never idle."""
    if "head" not in getattr(nextitem, "fixturenames", ()):
        STARTED.close()


def pytest_sessionfinish() -> None:
    """End it where the tests were stopped."""
    STARTED.close()


@pytest.fixture(scope="session")
def zygote() -> Zygote:
    return shared_zygote()
