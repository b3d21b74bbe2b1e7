"""Databases for tests: a new SQLite file, and a new database on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.postgres_fixture import a_database, a_server
from webhook_server.stores.database import Database

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    with a_server() as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server: str) -> str:
    return a_database(postgres_server)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/cynthus.db"
    url: str = request.getfixturevalue("postgres_url")
    return url


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
