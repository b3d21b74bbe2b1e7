"""What carries statements out for histories does it as SQLAlchemy does."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import Connection, bindparam, delete, insert, select, update
from sqlalchemy.exc import IntegrityError, MultipleResultsFound, NoResultFound

from tests.simulation.ended import Ended
from tests.simulation.fates import Fates
from tests.simulation.history import History
from tests.simulation.record import Record
from tests.simulation.scenario import Mode, drawn
from tests.simulation.scheduler import Scheduler
from tests.simulation.store import Store
from webhook_server.stores.tables import cool_downs, instances, server_state

NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def plain() -> Store:
    return Store(direct=False)


@pytest.fixture(scope="module")
def direct() -> Store:
    return Store()


@pytest.fixture(params=["plain", "direct"])
def connection(request: pytest.FixtureRequest) -> Iterator[Connection]:
    store: Store = request.getfixturevalue(request.param)
    scheduler = Scheduler("no history")
    store.begin(scheduler, Fates(scheduler, Record(), by_chance=False))
    store.raw.execute("BEGIN")
    yield store.connection
    store.raw.rollback()


@pytest.mark.parametrize("seed", range(6))
def test_a_history_is_the_same_over_either(seed: int, plain: Store, direct: Store) -> None:
    scenario = drawn(seed, Mode.SAFETY if seed % 4 == 3 else Mode.LIVENESS)

    def lived(store: Store) -> Ended:
        return History(scenario, store).live()

    one, other = lived(plain), lived(direct)
    assert one.record.digest() == other.record.digest()
    assert one.rows == other.rows


def test_values_and_defaults_go_through_their_types(connection: Connection) -> None:
    row = {"name": "i", "run_id": "r", "attempt": 1, "provider": "p", "repository_id": 1}
    connection.execute(insert(instances), {**row, "ordered_at": NOON, "agent": {"state": "x"}})
    found = connection.execute(select(instances)).one()
    assert (found.ordered_at, found.agent, found.counts) == (NOON, {"state": "x"}, {})
    assert (found.heartbeat_seq, found.closed_at, found.facts) == (0, None, None)
    assert found._mapping["name"] == "i"


def test_lists_may_have_any_length_in_values_and_in_statements(connection: Connection) -> None:
    rows = [{"key": key, "value": key.upper()} for key in "abc"]
    connection.execute(insert(server_state), rows)
    named = select(server_state.c.key).where(
        server_state.c.key.in_(bindparam("keys", expanding=True))
    )
    for keys in ([], ["a"], ["a", "b", "z"], ["c"]):
        own = select(server_state.c.key).where(server_state.c.key.in_(keys))
        wanted = [key for key in keys if key in "abc"]
        assert sorted(connection.execute(named, {"keys": keys}).scalars()) == wanted
        assert sorted(connection.execute(own).scalars()) == wanted


def test_a_statement_of_a_known_shape_brings_its_own_values(connection: Connection) -> None:
    connection.execute(insert(server_state), [{"key": key, "value": key} for key in "ab"])
    for key in "abz":
        query = select(server_state.c.value).where(server_state.c.key == key)
        wanted = None if key == "z" else key
        assert connection.execute(query).scalar_one_or_none() == wanted


def test_how_many_rows_changed_is_told(connection: Connection) -> None:
    connection.execute(insert(server_state), [{"key": key, "value": key} for key in "ab"])
    assert connection.execute(update(server_state).values(value="x")).rowcount == 2
    changed = update(server_state).where(server_state.c.key == "a").returning(server_state.c.value)
    assert connection.execute(changed.values(value="y")).scalar_one() == "y"
    assert connection.execute(delete(server_state)).rowcount == 2


def test_one_is_exactly_one(connection: Connection) -> None:
    query = select(server_state.c.key)
    assert connection.execute(query).one_or_none() is None
    assert connection.execute(query).first() is None
    with pytest.raises(NoResultFound):
        connection.execute(query).one()
    connection.execute(insert(server_state), [{"key": key, "value": key} for key in "ab"])
    with pytest.raises(MultipleResultsFound):
        connection.execute(query).scalar_one()


def test_what_the_database_refuses_is_the_error_that_stores_know(connection: Connection) -> None:
    row = {"key": "a", "value": "x"}
    connection.execute(insert(server_state), row)
    with pytest.raises(IntegrityError):
        connection.execute(insert(server_state), row)


def test_a_moment_without_its_zone_is_refused(connection: Connection) -> None:
    naive = NOON.replace(tzinfo=None)
    query = select(cool_downs.c.place).where(cool_downs.c.until > naive)
    with pytest.raises(Exception, match="a moment must carry its time zone"):
        connection.execute(query)
