"""One server of tiny float32 models for all tests that do not end it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import tinker
from helpers.serving import Served, serving


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("serve")) as server:
        yield server


@pytest.fixture(scope="module")
def service(served: Served) -> Iterator[tinker.ServiceClient]:
    client = served.client()
    yield client
    client.close("success").result(30)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "serve"
