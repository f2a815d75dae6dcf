"""Fixtures of every test: a real MongoDB server, and an empty database per test."""

import os
import uuid
from collections.abc import Callable, Generator, Iterator

import pytest

from godelta.store.database import Store, connect
from godelta.store.mongod import PrivateMongod


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape lone surrogates in what a test logged: where tests run side by side, they end the whole run."""
    report = yield
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]
    return report


@pytest.fixture(scope="session")
def mongod_uri(require: Callable[[str], None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URI of a private server that lives as long as the test session."""
    if "GODELTA_MONGOD" not in os.environ:
        require("mongod")
    server = PrivateMongod(tmp_path_factory.mktemp("mongod"))
    uri = server.start()
    # Tests may do without it for so long that its keeper would end it: this connection keeps it in use.
    with connect(uri, timeout_ms=20_000).db.client as client:
        client.admin.command("ping")
        yield uri
    server.stop()


@pytest.fixture
def store(mongod_uri: str) -> Iterator[Store]:
    """An empty database with its indexes, dropped after the test."""
    store = connect(mongod_uri, f"test_{uuid.uuid4().hex[:12]}", timeout_ms=20_000)
    store.ensure_indexes()
    yield store
    store.db.client.drop_database(store.db.name)
    store.close()
