"""Transactions on SQLite begin as the stores count on: readers see one state, writers may write."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, make_url, text
from sqlalchemy.exc import OperationalError

from webhook_server.stores.engines import open_engine


@pytest.fixture
def engines(tmp_path: Path) -> Iterator[tuple[Engine, Engine]]:
    url = make_url(f"sqlite:///{tmp_path / 'one.db'}")
    writing, reading = open_engine(url, writes=True), open_engine(url, writes=False)
    with writing.begin() as connection:
        connection.execute(text("CREATE TABLE rows (number INTEGER)"))
        connection.execute(text("INSERT INTO rows VALUES (1)"))
    yield writing, reading
    writing.dispose()
    reading.dispose()


def test_a_writer_may_write_before_its_first_statement(
    engines: tuple[Engine, Engine], tmp_path: Path
) -> None:
    writing, _ = engines
    other = sqlite3.connect(tmp_path / "one.db", timeout=0, isolation_level=None)
    with writing.begin(), pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("BEGIN IMMEDIATE")
    other.execute("BEGIN IMMEDIATE")  # and no longer than its transaction
    other.close()


def test_a_reader_sees_one_state_and_cannot_write(engines: tuple[Engine, Engine]) -> None:
    writing, reading = engines
    rows = text("SELECT count(*) FROM rows")
    with reading.begin() as before:
        assert before.execute(rows).scalar() == 1
        with writing.begin() as connection:
            connection.execute(text("INSERT INTO rows VALUES (2)"))
        assert before.execute(rows).scalar() == 1
    with reading.begin() as after:
        assert after.execute(rows).scalar() == 2
        with pytest.raises(OperationalError, match="readonly"):
            after.execute(text("DELETE FROM rows"))


def test_what_fails_is_not_stored(engines: tuple[Engine, Engine]) -> None:
    writing, reading = engines

    def broken() -> None:
        with writing.begin() as connection:
            connection.execute(text("INSERT INTO rows VALUES (3)"))
            raise ValueError("after the insert")

    with pytest.raises(ValueError, match="after"):
        broken()
    with reading.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM rows")).scalar() == 1


def test_a_file_that_is_held_is_an_error_of_the_database(
    engines: tuple[Engine, Engine], tmp_path: Path
) -> None:
    writing, _ = engines
    with writing.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        driver.execute("PRAGMA busy_timeout = 0")  # its patience is five seconds
    other = sqlite3.connect(tmp_path / "one.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(OperationalError, match="locked"), writing.begin():
        pass
    other.close()
