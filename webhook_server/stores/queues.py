"""Measure what waits in the database, by its indexes alone: finished runs cost nothing here."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime, timedelta

from sqlalchemy import Column, Connection, Table, case, func, select, text

from webhook_server import metrics
from webhook_server.metrics import Metric, Sample
from webhook_server.runs.limits import MILLIONTHS
from webhook_server.runs.model import State
from webhook_server.stores.database import Database
from webhook_server.stores.tables import (
    cool_downs,
    deliveries,
    instances,
    kept_instances,
    publications,
    runs,
)

# As the engine's: three missed heartbeats of ten seconds.
SILENT = timedelta(seconds=30)


def measured(database: Database, providers: Collection[str], now: datetime) -> list[Sample]:
    """Return what waits, how long already, and what is lent, in one consistent state.

    Raises: DatabaseUnavailable.
    """
    with database.read() as connection:
        return [
            *_runs(connection, now),
            *_deliveries(connection, now),
            *_publications(connection, now),
            *_instances(connection, sorted(providers), now),
            *_places(connection, now),
            (metrics.WRITES_WAITING.name, {}, database.writes_waiting),
        ]


def _due(
    connection: Connection, table: Table, column: Column[datetime], now: datetime
) -> tuple[int, float]:
    """Return how many rows are due, and for how many seconds the first has been."""
    query = select(func.count(), func.min(column)).select_from(table).where(column <= now)
    number, oldest_at = connection.execute(query).one()
    return number, 0.0 if oldest_at is None else (now - oldest_at).total_seconds()


def _two(pair: tuple[int, float], names: tuple[Metric, Metric]) -> Iterator[Sample]:
    for metric, value in zip(names, pair, strict=True):
        yield metric.name, {}, value


def _runs(connection: Connection, now: datetime) -> Iterator[Sample]:
    # Only what is not finished has a deadline, and deadlines have an index.
    live = runs.c.look_again_at.is_not(None)
    query = select(runs.c.state, func.count(), func.sum(runs.c.booked_microusd)).where(live)
    found = {row[0]: row for row in connection.execute(query.group_by(runs.c.state))}
    for state in State:
        if state is not State.FINISHED:
            number = found[state.value][1] if state.value in found else 0
            yield metrics.RUNS.name, {"state": state.value}, number
    booked = sum(int(row[2] or 0) for row in found.values())
    yield metrics.COMMITTED.name, {}, float(booked / MILLIONTHS)
    due = _due(connection, runs, runs.c.look_again_at, now)
    yield from _two(due, (metrics.RUNS_DUE, metrics.RUNS_DUE_AGE))


def _deliveries(connection: Connection, now: datetime) -> Iterator[Sample]:
    # Since they came, and not since they are due again: a delivery that is put off gets older.
    waiting = select(func.count(), func.min(deliveries.c.received_at)).where(
        deliveries.c.due_at.is_not(None)
    )
    number, oldest_at = connection.execute(waiting).one()
    age_s = 0.0 if oldest_at is None else (now - oldest_at).total_seconds()
    yield from _two((number, age_s), (metrics.DELIVERIES_DUE, metrics.DELIVERIES_AGE))
    # As text: SQLite takes an index of a part of the rows only for the very same condition.
    parked = select(func.count()).select_from(deliveries).where(text("state = 'parked'"))
    yield metrics.DELIVERIES_PARKED.name, {}, connection.execute(parked).scalar_one()


def _publications(connection: Connection, now: datetime) -> Iterator[Sample]:
    due = _due(connection, publications, publications.c.due_at, now)
    yield from _two(due, (metrics.PUBLICATIONS_DUE, metrics.PUBLICATIONS_AGE))
    refused = (
        select(publications.c.kind, func.count())
        .where(text("state = 'refused'"))
        .group_by(publications.c.kind)
    )
    for kind, number in connection.execute(refused):
        yield metrics.PUBLICATIONS_REFUSED.name, {"kind": kind}, number


def _instances(
    connection: Connection, providers: Collection[str], now: datetime
) -> Iterator[Sample]:
    heard = instances.c.heartbeat_at
    state = case(
        (heard.is_(None), "ordered"), (heard < now - SILENT, "silent"), else_="beating"
    ).label("state")
    oldest: list[datetime] = []
    for provider in providers:  # the index begins with it
        query = (
            select(state, func.count(), func.min(heard))
            .where(instances.c.provider == provider, instances.c.closed_at.is_(None))
            .group_by(state)
        )
        found = {row[0]: row for row in connection.execute(query)}
        for name in ("ordered", "beating", "silent"):
            number = found[name][1] if name in found else 0
            yield metrics.INSTANCES.name, {"provider": provider, "state": name}, number
        oldest += [row[2] for row in found.values() if row[2] is not None]
    age_s = (now - min(oldest)).total_seconds() if oldest else 0.0
    yield metrics.HEARTBEAT_AGE.name, {}, age_s


def _places(connection: Connection, now: datetime) -> Iterator[Sample]:
    cooling = (
        select(cool_downs.c.provider, func.count())
        .where(cool_downs.c.until > now)
        .group_by(cool_downs.c.provider)
    )
    for provider, number in connection.execute(cooling):
        yield metrics.COOL_DOWNS.name, {"provider": provider}, number
    kept = select(func.count()).where(
        kept_instances.c.gone_at.is_(None), kept_instances.c.taken_by.is_(None)
    )
    yield metrics.WARM.name, {}, connection.execute(kept).scalar_one()
