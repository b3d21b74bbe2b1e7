"""The trail, on both databases: kept with its effect, never rewritten, purged by age alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import create_engine, delete, inspect, text, update
from sqlalchemy.exc import DBAPIError

from tests.builders import IMAGE, a_draft, a_key
from tests.stores.test_database import migrate_from_zero
from webhook_server.acting import under
from webhook_server.runs.observations import ImageArrived, PolicySeen
from webhook_server.runs.trail import (
    SERVER,
    Actor,
    ActorKind,
    Authority,
    Deed,
    DeedVerb,
    Means,
    Proof,
    Started,
    TrailRow,
    unproven,
)
from webhook_server.stores.database import Database
from webhook_server.stores.policy_store import PolicyStore
from webhook_server.stores.run_accepting import TokenReused
from webhook_server.stores.run_store import RunStore
from webhook_server.stores.tables import trail
from webhook_server.stores.trail_store import SETTLES, TrailStore, Wanted, add
from webhook_server.stores.writer import DatabaseUnavailable

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
ADA = Authority(
    actor=Actor(kind=ActorKind.PERSON, name="Ada", id=11),
    source="comment/5/1",
    proof=Proof(means=Means.ROLE, ref="guid-1", asked="permission", role="write", at=NOON),
)
LATER = NOON + timedelta(hours=1)  # beyond `SETTLES`
EVERYTHING = Wanted()


def rows(db: Database, wanted: Wanted = EVERYTHING) -> list[TrailRow]:
    return TrailStore(db).after(0, wanted, limit=1000, now=LATER)


def verbs(db: Database) -> list[DeedVerb]:
    return [row.deed.verb for row in rows(db)]


def a_run(db: Database, **changes: object) -> str:
    draft = a_draft(**changes)
    arrived = ImageArrived(image=IMAGE, failure=None)
    RunStore(db).accept(draft, arrived=arrived, token_id=None, now=NOON)
    return str(draft.id)


def test_a_start_is_kept_with_who_asked_and_by_which_right(db: Database) -> None:
    with under(ADA):
        run_id = a_run(db)
    start, image = rows(db)
    assert start.authority == ADA
    assert start.at == NOON
    assert (start.deed.verb, start.deed.run_id, start.deed.repository_id) == ("start", run_id, 7)
    assert start.deed.after["commit_sha"] == "b" * 40
    assert image.deed.after == {"image": IMAGE}


def test_a_repeated_request_leaves_no_second_line(db: Database) -> None:
    a_run(db)
    a_run(db)
    assert verbs(db) == ["start", "image"]


def test_what_is_rolled_back_leaves_no_line(db: Database) -> None:
    used = ("jti-1", LATER)
    store, draft = RunStore(db), a_draft()
    store.accept(draft, arrived=None, token_id=used, now=NOON)
    other = a_draft(id="arun00000002", key=a_key(commit_sha="d" * 40))
    with pytest.raises(TokenReused):
        store.accept(other, arrived=None, token_id=used, now=NOON)
    assert verbs(db) == ["start"]


def test_a_wish_is_kept_once_and_under_its_first_word(db: Database) -> None:
    run_id = a_run(db)
    with under(ADA):
        RunStore(db).cancel(run_id, "Ada on GitHub", NOON)
    RunStore(db).cancel(run_id, "somebody else", NOON)
    kept = [row for row in rows(db) if row.deed.verb is DeedVerb.CANCEL]
    assert [(row.authority.actor.name, row.deed.text) for row in kept] == [
        ("Ada", "asked for by Ada on GitHub")
    ]


def test_a_policy_is_kept_when_it_changes_and_when_a_push_voids_it(db: Database) -> None:
    from cynthus.repository_policy import Limits, RepositoryPolicy

    store, seen = PolicyStore(db), PolicySeen(policy=RepositoryPolicy(), read_at=NOON)
    store.keep(7, seen)
    store.keep(7, replace(seen, read_at=NOON + timedelta(minutes=5)))  # says the same
    store.pushed(7, "e" * 40, NOON, touched=True, counts=True)
    other = RepositoryPolicy(limits=Limits(live_runs=3))
    store.keep(7, PolicySeen(policy=other, read_at=NOON + timedelta(minutes=6)))
    first, void, second = rows(db, Wanted(repository_id=7))
    assert [row.deed.verb for row in (first, void, second)] == ["policy", "void", "policy"]
    assert second.deed.before == {"sha256": first.deed.after["sha256"]}
    assert void.deed.after == {"commit_sha": "e" * 40}


def test_a_key_keeps_a_line_once(db: Database) -> None:
    deed = Deed(verb=DeedVerb.ASK, done=False, text="no", once="refused/1/11")
    for _ in range(3):
        TrailStore(db).tell(deed, NOON)
    assert verbs(db) == ["ask"]


def test_text_that_databases_cannot_hold_is_made_storable(db: Database) -> None:
    TrailStore(db).tell(Deed(verb=DeedVerb.ASK, text="a\0b\ud800", after={"k\0": "v\0"}), NOON)
    (row,) = rows(db)
    assert "\0" not in row.deed.text
    assert "\ud800" not in row.deed.text


def test_rows_are_found_by_repository_person_verb_and_time(db: Database) -> None:
    with under(ADA):
        a_run(db)
    a_run(db, id="arun00000002", key=a_key(repository_id=8))
    assert {row.deed.repository_id for row in rows(db, Wanted(repository_id=8))} == {8}
    assert {row.deed.run_id for row in rows(db, Wanted(actor="ADA"))} == {"arun00000001"}
    assert [row.deed.verb for row in rows(db, Wanted(verb="start"))] == ["start", "start"]
    assert rows(db, Wanted(since=NOON + timedelta(seconds=1))) == []
    assert rows(db, Wanted(until=NOON)) == []
    assert len(rows(db, Wanted(since=NOON, until=NOON + timedelta(seconds=1)))) == 4


def test_pages_go_on_after_the_last_line(db: Database) -> None:
    for number in range(5):
        TrailStore(db).tell(Deed(verb=DeedVerb.ASK, text=str(number)), NOON)
    store, found, after = TrailStore(db), [], 0
    while page := store.after(after, EVERYTHING, limit=2, now=LATER):
        found += [row.deed.text for row in page]
        after = page[-1].seq
    assert found == ["0", "1", "2", "3", "4"]
    newest = store.newest(EVERYTHING, limit=2)
    assert [row.deed.text for row in newest] == ["4", "3"]
    older = store.newest(EVERYTHING, limit=2, before=newest[-1].seq)
    assert [row.deed.text for row in older] == ["2", "1"]


def test_an_export_leaves_what_may_not_be_visible_to_all_yet(db: Database) -> None:
    TrailStore(db).tell(Deed(verb=DeedVerb.ASK), NOON)
    at_once = TrailStore(db).after(0, EVERYTHING, limit=10, now=NOON)
    assert len(at_once) == (0 if db.may_be_shared else 1)
    assert len(TrailStore(db).after(0, EVERYTHING, limit=10, now=NOON + SETTLES)) == 1


# ── append-only, by the database's own word ─────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "statement",
    [update(trail).values(actor="eve"), delete(trail), delete(trail).where(trail.c.seq == 1)],
)
def test_the_database_refuses_to_rewrite_the_trail(db: Database, statement: object) -> None:
    a_run(db)
    with pytest.raises((DBAPIError, DatabaseUnavailable)):
        db.write(lambda connection: connection.execute(statement).rowcount)  # type: ignore[call-overload]
    assert verbs(db) == ["start", "image"]


@pytest.mark.postgres
def test_postgres_refuses_to_truncate_the_trail(postgres_url: str) -> None:
    database = Database(postgres_url, now=lambda: NOON)
    try:
        database.migrate()
        a_run(database)
        with pytest.raises((DBAPIError, DatabaseUnavailable)):
            database.write(lambda connection: connection.execute(text("TRUNCATE trail")) and None)
        assert verbs(database) == ["start", "image"]
    finally:
        database.close()


def test_a_purge_deletes_by_age_alone_and_leaves_the_guard_closed(db: Database) -> None:
    old, young = NOON - timedelta(days=63), NOON - timedelta(days=61)
    for at in (old, young):
        TrailStore(db).tell(Deed(verb=DeedVerb.ASK, text=at.isoformat()), at)
    assert TrailStore(db).purge(2, NOON) == 1
    assert [row.at for row in rows(db)] == [young]
    with pytest.raises((DBAPIError, DatabaseUnavailable)):
        db.write(lambda connection: connection.execute(delete(trail)).rowcount)
    assert TrailStore(db).purge(2, NOON) == 0


def test_a_purge_keeps_a_month_whatever_it_is_told(db: Database) -> None:
    TrailStore(db).tell(Deed(verb=DeedVerb.ASK), NOON - timedelta(days=30))
    assert TrailStore(db).purge(0, NOON) == 0


def test_numbers_are_not_given_again_after_a_purge(db: Database) -> None:
    TrailStore(db).tell(Deed(verb=DeedVerb.ASK), NOON - timedelta(days=900))
    (gone,) = rows(db)
    TrailStore(db).purge(1, NOON)
    TrailStore(db).tell(Deed(verb=DeedVerb.ASK), NOON)
    (row,) = rows(db)
    assert row.seq > gone.seq


def test_an_older_database_gets_the_same_guards(empty_url: str) -> None:
    migrate_from_zero(empty_url)
    database = Database(empty_url, now=lambda: NOON)
    try:
        TrailStore(database).tell(Deed(verb=DeedVerb.ASK), NOON)
        with pytest.raises((DBAPIError, DatabaseUnavailable)):
            database.write(lambda connection: connection.execute(delete(trail)).rowcount)
    finally:
        database.close()


def test_filters_are_served_by_indexes(db: Database) -> None:
    engine = create_engine(db._engines[0].url)
    names = {one["name"] for one in inspect(engine).get_indexes("trail")}
    engine.dispose()
    columns = ("run_id", "repository_id", "actor_folded", "verb")
    assert {f"ix_trail_{column}_seq" for column in columns} | {"ix_trail_at"} <= names


# ── the oracle, over rows as they are kept ──────────────────────────────────────────────────────


def test_a_started_run_is_proven_by_its_rows(db: Database) -> None:
    with under(ADA):
        run_id = a_run(db)
    started = Started(run_id=run_id, repository_id=7, commit_sha="b" * 40, image=IMAGE)
    assert unproven([started], rows(db)) == []


def test_a_run_that_nobody_proved_is_found(db: Database) -> None:
    run_id = a_run(db)  # under the server's own rules, which start nothing
    started = Started(run_id=run_id, repository_id=7, commit_sha="b" * 40)
    assert unproven([started], rows(db)) == [
        f"run {run_id}: should rest on an event, a role or a token, found rule",
        f"run {run_id}: its proof has no time",
    ]


def test_a_run_without_any_line_is_found(db: Database) -> None:
    started = Started(run_id="arun00000009", repository_id=7, commit_sha="b" * 40)
    assert unproven([started], rows(db)) == [
        "run arun00000009: should have one start in the trail, found 0"
    ]


def test_an_order_of_another_image_is_found(db: Database) -> None:
    with under(ADA):
        run_id = a_run(db)
    order = Deed(
        verb=DeedVerb.ORDER,
        repository_id=7,
        run_id=run_id,
        subject="cynthus-x-1",
        after={"commit_sha": "f" * 40, "image": "other"},
    )
    db.write(lambda connection: add(connection, SERVER, [order], NOON))
    started = Started(run_id=run_id, repository_id=7, commit_sha="b" * 40, image=IMAGE)
    assert unproven([started], rows(db)) == [
        f"run {run_id}: cynthus-x-1 was ordered for {'f' * 40}",
        f"run {run_id}: cynthus-x-1 was ordered with image other",
    ]
