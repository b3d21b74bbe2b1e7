"""Databases for tests: a new SQLite file, and a new database on a real PostgreSQL."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.cloud_fixture import Cloud, a_cloud, make_bucket
from tests.gcp_fixture import GcpSimulator, gcp_simulator
from tests.memory import fast_disk
from tests.postgres_fixture import a_database, a_server, drop
from webhook_server.stores.database import Database

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    with a_server() as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    url = a_database(postgres_server)
    yield url
    drop(url)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        with TemporaryDirectory(prefix="cynthus-store-", dir=fast_disk(tmp_path)) as folder:
            yield f"sqlite:///{folder}/cynthus.db"
    else:
        yield request.getfixturevalue("postgres_url")


@pytest.fixture
def open_database() -> Iterator[Callable[[str], Database]]:
    opened: list[Database] = []

    def opener(url: str) -> Database:
        opened.append(Database(url, now=lambda: NOON))
        return opened[-1]

    yield opener
    for database in opened:
        database.close()


@pytest.fixture
def db(empty_url: str, open_database: Callable[[str], Database]) -> Database:
    database = open_database(empty_url)
    database.migrate()
    return database


@pytest.fixture(scope="session")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GcpSimulator]:
    with gcp_simulator(tmp_path_factory.mktemp("gcp")) as found:
        yield found


@pytest.fixture(scope="session")
def account(simulator: GcpSimulator, tmp_path_factory: pytest.TempPathFactory) -> Cloud:
    return a_cloud(simulator, tmp_path_factory.mktemp("account"))


@pytest.fixture
def cloud(account: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """Google's cloud with nothing wrong in it, and an empty bucket of the test's own."""
    found = replace(account, bucket=f"acme-{uuid.uuid4().hex[:12]}", open=ExitStack())
    # Google's libraries read it themselves; `Settings` only knows that it is there.
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(found.key_file))
    with found.open:
        make_bucket(found)
        yield found
    found.sim.sim("DELETE", "/faults")
