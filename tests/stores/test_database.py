"""The database: durable, shared by threads, alone on its file, at the right version."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, insert, inspect, make_url, select, text

from cynthus.errors import UserError
from tests.chaos.proxy import Links
from tests.stores.conftest import NOON
from webhook_server.loops import control_plane
from webhook_server.stores import schema
from webhook_server.stores.database import Database, connect, insert_once
from webhook_server.stores.engines import open_engine, unhurried
from webhook_server.stores.tables import server_state
from webhook_server.stores.writer import DatabaseUnavailable

Opener = Callable[[str], Database]


def put(key: str) -> Callable[[Connection], bool]:
    return lambda connection: insert_once(connection, server_state, {"key": key, "value": "x"})


def shape(url: str) -> dict[str, Any]:
    """Everything the database says about our tables, in a comparable form."""
    engine = create_engine(url)
    with engine.connect() as connection:
        found = inspect(connection)
        tables = {
            name: {
                "columns": {
                    c["name"]: (str(c["type"]), c["nullable"]) for c in found.get_columns(name)
                },
                "primary key": found.get_pk_constraint(name)["constrained_columns"],
                "indexes": sorted(
                    (
                        i["name"],
                        tuple(i["column_names"]),
                        bool(i["unique"]),
                        *(str(where) for where in i.get("dialect_options", {}).values()),
                    )
                    for i in found.get_indexes(name)
                ),
                "unique": sorted(
                    tuple(u["column_names"]) for u in found.get_unique_constraints(name)
                ),
            }
            for name in found.get_table_names()
        }
    engine.dispose()
    return tables


def alembic_config() -> Config:
    config = Config()
    folder = Path(schema.__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder))
    return config


def migrate_from_zero(url: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    engine.dispose()


def test_migrating_from_zero_gives_the_snapshot_on_sqlite(
    tmp_path: Path, open_database: Opener
) -> None:
    snapshot, migrated = f"sqlite:///{tmp_path}/a.db", f"sqlite:///{tmp_path}/b.db"
    open_database(snapshot).migrate()
    migrate_from_zero(migrated)
    assert shape(snapshot) == shape(migrated)
    assert "runs" in shape(snapshot)


@pytest.mark.postgres
def test_migrating_from_zero_gives_the_snapshot_on_postgres(
    postgres_server: str, open_database: Opener
) -> None:
    from tests.postgres_fixture import a_database

    snapshot, migrated = a_database(postgres_server), a_database(postgres_server)
    open_database(snapshot).migrate()
    migrate_from_zero(migrated)
    assert shape(snapshot) == shape(migrated)


def test_the_servers_version_is_the_newest_migration() -> None:
    assert ScriptDirectory.from_config(alembic_config()).get_current_head() == schema.HEAD


def test_migrating_again_changes_nothing(db: Database) -> None:
    db.set_state("key", "value")
    db.migrate()
    assert db.state("key") == "value"


@pytest.mark.case("R6")
def test_an_older_database_is_migrated(empty_url: str, open_database: Opener) -> None:
    migrate_from_zero(empty_url)
    database = open_database(empty_url)
    database.write(lambda c: c.execute(text("UPDATE alembic_version SET version_num='0001'")) and 0)
    database.migrate()
    assert database.state("nothing") is None


def made_by_a_newer_server(db: Database, *, oldest: str | None) -> None:
    """Stamp the database as a newer server leaves it, for servers from `oldest` on."""
    db.write(lambda c: c.execute(text("UPDATE alembic_version SET version_num='9999'")) and 0)
    db.write(lambda c: c.execute(text("DELETE FROM server_state WHERE key='schema_oldest'")) and 0)
    if oldest is not None:
        db.set_state("schema_oldest", oldest)


@pytest.mark.case("R15")
@pytest.mark.parametrize("oldest", [None, "0002", "9999"])
def test_a_newer_schema_is_refused_with_what_to_do(db: Database, oldest: str | None) -> None:
    made_by_a_newer_server(db, oldest=oldest)
    with pytest.raises(UserError, match="made by a newer server"):
        db.migrate()


@pytest.mark.parametrize("oldest", ["0000", schema.HEAD])
def test_a_newer_schema_whose_maker_knows_this_server_is_left_as_it_is(
    db: Database, oldest: str
) -> None:
    made_by_a_newer_server(db, oldest=oldest)
    db.migrate()
    with db.read() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).all() == [
            ("9999",)
        ]
    assert db.state("schema_oldest") == oldest


def test_tables_of_another_program_are_refused(empty_url: str, open_database: Opener) -> None:
    database = open_database(empty_url)
    database.write(lambda c: c.execute(text("CREATE TABLE runs (id INTEGER)")) and 0)
    with pytest.raises(UserError, match="a database of its own"):
        database.migrate()


@pytest.mark.case("R15")
def test_replicas_that_start_together_make_one_schema(
    postgres_url: str, open_database: Opener
) -> None:
    faults: list[Exception] = []

    def start() -> None:
        try:
            open_database(postgres_url).migrate()
        except Exception as error:  # noqa: BLE001 - any fault fails the test
            faults.append(error)

    run_together([start] * 4)
    assert faults == []


@pytest.mark.case("R7")
def test_a_second_server_on_the_same_sqlite_file_is_refused(
    tmp_path: Path, open_database: Opener
) -> None:
    url = f"sqlite:///{tmp_path}/cynthus.db"
    first = open_database(url)
    with pytest.raises(UserError, match="one server at a time"):
        Database(url, now=lambda: NOON)
    first.close()
    open_database(url).migrate()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://host/name", "found mysql"),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in"),
    ],
)
def test_an_unusable_address_is_refused(url: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        Database(url, now=lambda: NOON)


@pytest.mark.case("R2")
def test_a_write_is_on_disk_once_it_is_answered(tmp_path: Path, open_database: Opener) -> None:
    database = open_database(f"sqlite:///{tmp_path}/cynthus.db")
    database.migrate()
    database.write(put("key"))
    with sqlite3.connect(tmp_path / "cynthus.db") as other:
        assert other.execute("SELECT key FROM server_state").fetchall() == [("key",)]
    other.close()


@pytest.mark.case("R10")
def test_sqlite_is_as_durable_as_we_promise(tmp_path: Path, open_database: Opener) -> None:
    database = open_database(f"sqlite:///{tmp_path}/cynthus.db")

    def pragma(name: str) -> Any:
        statement = {"sync": "PRAGMA synchronous", "mode": "PRAGMA journal_mode"}[name]
        return database.write(lambda c: c.exec_driver_sql(statement).scalar())

    assert (pragma("sync"), pragma("mode")) == (2, "wal")


def test_one_failing_work_harms_no_other_of_its_batch(db: Database) -> None:
    gate = threading.Event()
    db.write_async(lambda _: gate.wait(60))  # holds the writer, so that the rest is one batch

    def fail(connection: Connection) -> None:
        connection.execute(insert(server_state).values(key="half done", value="x"))
        raise ValueError("my own fault")

    works = [db.write_async(put(f"key {n}")) for n in range(20)]
    bad = db.write_async(fail)
    more = [db.write_async(put(f"key {n}")) for n in range(20, 40)]
    gate.set()
    assert all(answer.result() for answer in works + more)
    with pytest.raises(ValueError, match="my own fault"):
        bad.result()
    with db.read() as connection:
        keys = set(connection.execute(select(server_state.c.key)).scalars())
    assert keys == {f"key {n}" for n in range(40)}


def test_an_answer_that_nobody_waits_for_any_more_is_dropped(db: Database) -> None:
    gate = threading.Event()
    db.write_async(lambda _: gate.wait(60))
    given_up = db.write_async(put("given up"))
    given_up.cancel()
    kept = db.write_async(put("kept"))
    gate.set()
    assert kept.result()
    assert db.state("given up") is None


def test_writes_from_many_threads_all_arrive(db: Database) -> None:
    run_together([lambda n=n: db.write(put(f"key {n}")) for n in range(30)])
    with db.read() as connection:
        assert len(connection.execute(select(server_state)).all()) == 30


def test_a_reader_cannot_write(tmp_path: Path, open_database: Opener) -> None:
    database = open_database(f"sqlite:///{tmp_path}/cynthus.db")
    database.migrate()
    with pytest.raises(DatabaseUnavailable), database.read() as connection:
        connection.execute(insert(server_state).values(key="a", value="b"))


def test_a_read_sees_one_state_whatever_is_written_meanwhile(db: Database) -> None:
    query = select(server_state.c.value).where(server_state.c.key == "news")
    with db.read() as connection:
        assert connection.execute(query).scalar_one_or_none() is None
        db.set_state("news", "good")
        assert connection.execute(query).scalar_one_or_none() is None
    assert db.state("news") == "good"


def test_a_closed_database_says_try_again(db: Database) -> None:
    db.close()
    with pytest.raises(DatabaseUnavailable, match="Try again"):
        db.write(put("key"))


@pytest.mark.case("R9")
def test_a_full_disk_is_an_error_and_needs_no_repair(tmp_path: Path, open_database: Opener) -> None:
    database = open_database(f"sqlite:///{tmp_path}/cynthus.db")
    database.migrate()
    limit = database.write(lambda c: c.exec_driver_sql("PRAGMA page_count").scalar())
    database.write(lambda c: c.exec_driver_sql(f"PRAGMA max_page_count={limit}").scalar())
    with pytest.raises(DatabaseUnavailable):
        database.write(
            lambda c: c.execute(insert(server_state).values(key="big", value="x" * 100_000)) and 0
        )
    database.write(lambda c: c.exec_driver_sql("PRAGMA max_page_count=1000000").scalar())
    assert database.write(put("small"))


@pytest.mark.case("R8")
@pytest.mark.postgres
def test_a_deadlock_between_replicas_is_repeated(postgres_url: str, open_database: Opener) -> None:
    one, two = open_database(postgres_url), open_database(postgres_url)
    one.migrate()
    one.set_state("a", "0")
    one.set_state("b", "0")
    both_hold_one = threading.Barrier(2)

    def add(first: str, second: str) -> Callable[[Connection], None]:
        tries: list[int] = []

        def work(connection: Connection) -> None:
            tries.append(1)
            _lock(connection, first)
            if len(tries) == 1:
                both_hold_one.wait(60)
            _lock(connection, second)

        return work

    answers = [one.write_async(add("a", "b")), two.write_async(add("b", "a"))]
    for answer in answers:
        answer.result(60)
    assert (one.state("a"), one.state("b")) == ("0xx", "0xx")


def _lock(connection: Connection, key: str) -> None:
    connection.execute(
        text("UPDATE server_state SET value = value || 'x' WHERE key = :key"), {"key": key}
    )


@pytest.mark.case("R8")
def test_a_connection_that_died_is_replaced(postgres_url: str, open_database: Opener) -> None:
    database = open_database(postgres_url)
    database.migrate()
    killer = open_engine(create_engine(postgres_url).url, writes=False)
    with killer.begin() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    killer.dispose()
    assert database.write(put("after"))


def test_a_database_that_falls_silent_is_an_error_and_not_a_wait(
    postgres_url: str, links: Links
) -> None:
    address = make_url(postgres_url)
    link = links.to(int(address.port or 0))
    through = address.set(port=link.port).render_as_string(hide_password=False)
    database = Database(through, now=lambda: NOON, connect=partial(connect, answer_limit_s=0.5))
    database.migrate()
    link.hold()
    with pytest.raises(DatabaseUnavailable):
        database.write(put("in vain"))
    with pytest.raises(DatabaseUnavailable), database.read() as connection:
        connection.execute(text("SELECT 1"))
    link.heal()
    assert database.write(put("after"))
    assert database.state("after") == "x"
    database.close()


@pytest.fixture
def links() -> Iterator[Links]:
    made = Links()
    yield made
    made.close()


def test_a_migration_may_take_its_time(postgres_url: str, open_database: Opener) -> None:
    database = Database(
        postgres_url, now=lambda: NOON, connect=partial(connect, answer_limit_s=0.3)
    )

    def work(connection: Connection) -> list[Any]:
        with unhurried(connection):
            connection.execute(text("SELECT pg_sleep(0.7)"))
            return [
                connection.execute(text(f"SHOW {limit}")).scalar_one()
                for limit in ("statement_timeout", "lock_timeout")
            ]

    assert database.write(work) == ["0", "0"]
    with pytest.raises(DatabaseUnavailable):
        database.write(lambda c: c.execute(text("SELECT pg_sleep(5)")).all())
    database.close()
    assert open_database(postgres_url).state is not None


def run_together(works: list[Callable[[], Any]]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)


def test_servers_that_start_at_once_are_one_control_plane(db: Database) -> None:
    others: list[str] = []

    def made_meanwhile() -> str:
        others.append(control_plane(db, lambda: "second"))
        return "first"

    assert control_plane(db, made_meanwhile) == "second"
    assert others == ["second"]
    assert control_plane(db, lambda: "third") == "second"


def test_what_is_kept_is_never_replaced(db: Database) -> None:
    assert db.keep_state("fact", "one") == "one"
    assert db.keep_state("fact", "two") == "one"
    assert db.state("fact") == "one"
