"""No statement that doors, loops or lists send reads a whole table: old runs cost nothing.

What is sent is caught on its way to the driver, and its own database is asked how it would go about
it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, event

from cynthus.wire import AgentEvent, AgentState, EventKind, Heartbeat
from tests.builders import NOON, a_draft, an_attempt, some_facts
from webhook_server.runs.model import Decision, State
from webhook_server.stores.database import Database
from webhook_server.stores.delivery_store import DeliveryState, DeliveryStore
from webhook_server.stores.event_store import EventStore
from webhook_server.stores.feed_tail import log_tail, newest_seq, points
from webhook_server.stores.instance_store import InstanceStore
from webhook_server.stores.publication_store import PublicationStore
from webhook_server.stores.run_store import RunStore
from webhook_server.stores.tally import open_runs
from webhook_server.stores.warm_store import WarmStore

Sent = list[tuple[str, Any]]
RUN, NAME, LEASE = "arun00000001", "cynthus-arun00000001-1", timedelta(minutes=1)
BEAT = Heartbeat(
    seq=1,
    sent_at=NOON,
    state=AgentState.RUNNING,
    events=(AgentEvent(at=NOON, kind=EventKind.SAMPLE, body={"cpu_pct": 1}),),
)


def accept(db: Database) -> None:
    for n in range(2):
        RunStore(db).accept(a_draft(), arrived=None, token_id=(f"jti {n}", NOON), now=NOON)


def a_pass(db: Database) -> None:
    store = RunStore(db)
    store.accept(a_draft(), arrived=None, token_id=None, now=NOON)
    store.next_due(NOON)
    (claim,) = store.claim(limit=1, lease=LEASE, now=NOON)
    store.wishes(RUN)
    store.count_live(1, but=RUN)
    run = replace(claim.run, state=State.RUNNING, attempts=(an_attempt(1),))
    assert store.save(claim, Decision(run=run, commands=()), NOON)
    store.forgive(RUN)
    store.give_up(claim, "note", NOON)


def beats(db: Database) -> None:
    a_pass(db)
    store = InstanceStore(db)
    store.enrol(NAME, nonce="n", token_sha256="t" * 64, facts=some_facts(), now=NOON)
    store.heartbeat("t" * 64, BEAT, log_limit_bytes=1 << 20, now=NOON)
    store.by_token("t" * 64)
    store.request_stop(NAME, "stop")
    store.close(NAME, NOON)


def take_delivery(db: Database) -> None:
    store = DeliveryStore(db)
    store.store_async("guid", "push", b"{}", NOON).result()
    store.next_due()
    (claimed,) = store.claim(20, LEASE, NOON)
    store.finish(claimed, DeliveryState.DONE, "", NOON)
    store.known(["guid"])
    store.last_guid_times(5)
    store.handle_once("key", {}, allowed=True, run_id=None, now=NOON)
    store.was_handled("key")


def show(db: Database) -> None:
    store = RunStore(db)
    store.list(repository_id=None, limit=50, before=None)
    store.list(repository_id=None, limit=50, before=500_000)
    store.list(repository_id=1, limit=50, before=500_000)
    store.get(RUN)
    store.find(a_draft().key)
    open_runs(db)
    store.live(1)
    store.of_pull(1, 7, limit=5)
    store.of_name(1, "train")
    store.of_commit(1, "c" * 40)
    store.live_by_installation()
    EventStore(db).after(RUN, 5, limit=100)
    EventStore(db).latest(RUN)
    newest_seq(db, RUN)
    log_tail(db, RUN, 1, 1000)
    points(db, RUN)


def publish(db: Database) -> None:
    a_pass(db)
    store = PublicationStore(db)
    store.next_due()
    for item in store.claim(10, LEASE, NOON):
        store.save(replace(item, due_at=None), NOON)


def end(db: Database) -> None:
    store = RunStore(db)
    store.cancel(RUN, "ada", NOON)
    store.cancel_all("ada", NOON)
    store.cancel_all("ada", NOON, repository_id=1)


def sweep(db: Database) -> None:
    InstanceStore(db).unfinished("gcp")
    InstanceStore(db).rows([NAME])
    RunStore(db).states([RUN])
    WarmStore(db).unfinished()
    WarmStore(db).waiting(1)


def sent_by(db: Database, work: Callable[[Database], None]) -> Sent:
    """Return every statement that `work` sends."""
    sent: Sent = []

    def note(_c: object, _cursor: object, text: str, values: Any, _x: object, many: bool) -> None:
        if text.startswith(("SELECT", "UPDATE", "INSERT", "DELETE")) and "pg_advisory" not in text:
            sent.append((text, values[0] if many else values))

    engines = db._engines
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    work(db)
    for engine in engines:
        event.remove(engine, "before_cursor_execute", note)
    return sent


def scans(connection: Connection, text: str, values: Any) -> list[str]:
    """Return the steps of a statement that read a whole table."""
    if connection.dialect.name == "postgresql":
        # A step without an index is taken nevertheless when there is no other way.
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        steps = connection.exec_driver_sql(f"EXPLAIN {text}", values).scalars().all()
        return [step for step in steps if "Seq Scan" in step]
    steps = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values)]
    # https://sqlite.org/eqp.html: SCAN visits every row, but for a LIMIT in an order that is there.
    stops_early = "LIMIT" in text and not any("TEMP B-TREE" in step for step in steps)
    return [
        step
        for step in steps
        if step.startswith("SCAN ") and "CONSTANT" not in step and not stops_early
    ]


@pytest.mark.parametrize("work", [accept, a_pass, beats, take_delivery, show, publish, end, sweep])
def test_nothing_that_is_sent_often_reads_a_whole_table(
    db: Database, work: Callable[[Database], None]
) -> None:
    sent = sent_by(db, work)
    assert sent
    found = {
        text: slow
        for text, values in sent
        if (slow := db.write(lambda c, t=text, v=values: scans(c, t, v)))
    }
    assert found == {}


def test_a_statement_without_an_index_is_found(db: Database) -> None:
    text = "SELECT id FROM runs WHERE reason = 'x'"
    assert db.write(lambda connection: scans(connection, text, ()))
