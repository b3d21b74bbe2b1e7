"""No statement that doors, loops or lists send reads a whole table: old runs cost nothing.

What is sent is caught on its way to the driver, and its own database is asked how it would go about
it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Connection, event

from cynthus.repository_policy import RepositoryPolicy
from cynthus.wire import AgentEvent, AgentState, EventKind, Heartbeat
from cynthus.wire_data import Dataset, SourceKind
from tests.builders import NOON, a_draft, an_attempt, some_facts
from webhook_server.runs.budget import BudgetLimits, BudgetScope
from webhook_server.runs.commands import Decision
from webhook_server.runs.data_cache import Scope
from webhook_server.runs.model import State
from webhook_server.runs.observations import PolicySeen
from webhook_server.stores.budget_store import BudgetStore, may_book
from webhook_server.stores.checkpoint_store import CheckpointStore, KeptCheckpoint
from webhook_server.stores.data_leaving import DataLeaving
from webhook_server.stores.data_store import DataStore, TreeTotals
from webhook_server.stores.database import Database
from webhook_server.stores.delivery_store import DeliveryState, DeliveryStore
from webhook_server.stores.environment_store import EnvironmentStore
from webhook_server.stores.event_store import EventStore
from webhook_server.stores.feed_tail import log_tail, newest_seq, points
from webhook_server.stores.fleet_store import FleetStore
from webhook_server.stores.history_store import HistoryStore
from webhook_server.stores.instance_store import InstanceStore
from webhook_server.stores.policy_store import PolicyStore
from webhook_server.stores.publication_store import PublicationStore
from webhook_server.stores.run_store import RunStore
from webhook_server.stores.tally import open_runs
from webhook_server.stores.warm_store import WarmStore

Sent = list[tuple[str, Any]]
RUN, NAME, LEASE = "arun00000001", "cynthus-arun00000001-1", timedelta(minutes=1)
A_CHECKPOINT = KeptCheckpoint(
    run_id=RUN,
    rank=0,
    number=0,
    repository_id=1,
    attempt=1,
    manifest_sha256="d" * 64,
    size_bytes=1,
    files=1,
    saved_at=NOON,
)
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
    FleetStore(db).account("gcp", [NAME], [NAME])
    InstanceStore(db).rows([NAME])
    WarmStore(db).unfinished()
    WarmStore(db).waiting(1)


def budget(db: Database) -> None:
    a_pass(db)
    store = BudgetStore(db, BudgetLimits(repository_usd=Decimal(9), owner_usd=Decimal(9)))
    run = RunStore(db).get(RUN)
    assert run is not None
    seen = store.of_run(run, NOON)
    assert {one.scope for one in seen} == {BudgetScope.REPOSITORY, BudgetScope.OWNER}
    db.write(lambda connection: may_book(connection, run, Decimal(1), seen, NOON))


def environments_of(db: Database) -> None:
    store = EnvironmentStore(db)
    store.texts("e" * 64)
    store.lock(1, "c" * 40, "cynthus.yaml")
    store.images_in_use(1, 100)
    store.keys_in_use(1, 100)


def history(db: Database) -> None:
    store = HistoryStore(db)
    store.waits("gcp", "g2-standard-4")
    store.durations(1, "train")
    store._queued_at([RUN])


def data(db: Database) -> None:
    scope, key, digests = Scope(tenant_id=1), "5e" * 32, ("a" * 64, "b" * 64)
    wanted = Dataset(
        name="train",
        source="hf://datasets/acme/digits",
        mount="/data/train",
        kind=SourceKind.HF,
        revision="c" * 40,
        key=key,
    )
    store, leaving = DataStore(db), DataLeaving(db)
    assert store.claim((Scope(tenant_id=1, part=5), scope), wanted, NAME, NOON)
    held = Scope(tenant_id=1, part=5)
    store.claim((held,), wanted, NAME, NOON)
    store.holds(held, key, NAME, NOON)
    store.stored(held, digests, NOON)
    store.keep(held, dict.fromkeys(digests, 1), NOON)
    store.sizes(held, digests)
    store.known(held, digests)
    store.add_files(held, key, digests)
    totals = TreeTotals(files=1, size_bytes=1, sha256=digests[1], list_bytes=1)
    assert store.commit(held, key, NAME, totals, NOON)
    store.of_tree(held, key, digests)
    store.trees("1")
    store.live_keys()
    assert store.damaged(held, key, digests)
    store.give_up(held, key, NAME)
    for tree in store.trees("1"):  # of all tenants: for people, and each hour's sweep
        leaving.evict(tree, NOON + timedelta(days=1))
    leaving.dropped(held, digests)
    leaving.forget("1")


def checkpoints(db: Database) -> None:
    a_pass(db)
    InstanceStore(db).enrol(NAME, nonce="n", token_sha256="t" * 64, facts=some_facts(), now=NOON)
    store = CheckpointStore(db)
    assert store.keep(NAME, A_CHECKPOINT) == 1
    store.of(RUN, 0)
    store.last_step(RUN, before_attempt=None)
    store.last_step(RUN, before_attempt=2)
    # `ended_before` reads what is yet to be swept, once an hour: of old runs nothing is left there
    store.forget(RUN)


def policies_of(db: Database) -> None:
    store = PolicyStore(db)
    seen = PolicySeen(policy=RepositoryPolicy(), read_at=NOON)
    store.keep(1, seen)
    store.get(1)
    store.pushed(1, "c" * 40, NOON, touched=True, counts=True)
    store.keep(1, seen)


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
        if step.startswith("SCAN ") and not _is_no_table(step) and not stops_early
    ]


def _is_no_table(step: str) -> bool:
    # What a subquery reads itself is a step of its own.
    # `told` are the rows that a statement brings with it.
    return "CONSTANT" in step or step.startswith(("SCAN (subquery", "SCAN told"))


SENT_OFTEN = [
    *(accept, a_pass, beats, take_delivery, show, publish, end, sweep),
    *(budget, environments_of, history, data, checkpoints, policies_of),
]


@pytest.mark.parametrize("work", SENT_OFTEN)
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
