"""Runs in the database: accepted once, lent to one pass at a time, saved by compare-and-swap."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import text, update

from cynthus.wire import EventKind
from tests.builders import (
    IMAGE,
    NOON,
    OUTPUT,
    SPEC_TEXT,
    a_draft,
    a_key,
    a_spec,
    an_attempt,
    seconds,
)
from tests.stores.test_database import run_together
from webhook_server.runs.commands import CloseAttempt, Decision
from webhook_server.runs.model import Cause, Origin, Outcome, Reason, Run, RunDraft, State
from webhook_server.runs.observations import ImageArrived
from webhook_server.stores import run_reading
from webhook_server.stores.database import Database
from webhook_server.stores.event_store import EventStore
from webhook_server.stores.instance_store import InstanceStore
from webhook_server.stores.publication_store import (
    PublicationKind,
    PublicationState,
    PublicationStore,
)
from webhook_server.stores.run_accepting import SpecDiffers, TokenReused
from webhook_server.stores.run_claims import Claim
from webhook_server.stores.run_reading import RunUnreadable
from webhook_server.stores.run_store import RunStore
from webhook_server.stores.tables import runs
from webhook_server.stores.token_store import TokenStore
from webhook_server.stores.writer import DatabaseUnavailable

LEASE = timedelta(minutes=1)
ARRIVED = ImageArrived(image=IMAGE, failure=None)


@pytest.fixture
def store(db: Database) -> RunStore:
    return RunStore(db)


def accept(store: RunStore, draft: RunDraft | None = None, **more: Any) -> Any:
    given: dict[str, Any] = {"arrived": None, "token_id": None, "now": NOON}
    return store.accept(draft or a_draft(), **(given | more))


def claim_one(store: RunStore, at: timedelta = timedelta(0)) -> Claim:
    [claim] = store.claim(limit=10, lease=LEASE, now=NOON + at)
    return claim


def the(run: Run | None) -> Run:
    assert run is not None
    return run


def step(run: Run, state: State, **changes: Any) -> Run:
    reason = Reason(cause=Cause.PROGRESS, text=f"now {state}")
    return replace(run, state=state, reason=reason, **changes)


def test_what_was_accepted_is_read_back_whole(store: RunStore) -> None:
    accept(store)
    run = the(store.get("arun00000001"))
    assert run == the(store.find(a_key()))
    assert (run.state, run.number, run.spec) == (State.BUILDING, 1, a_spec())
    assert store.spec_text(run.id) == SPEC_TEXT
    assert store.get("nothing") is None
    assert store.spec_text("nothing") is None


@pytest.mark.parametrize("webhook_first", [True, False])
def test_webhook_and_action_make_one_run_in_either_order(
    store: RunStore, webhook_first: bool
) -> None:
    webhook = (a_draft(id="webhook00000", wants_release=True), None)
    action = (
        a_draft(id="action000000", workflow_run_url="https://x/1", wants_release=False),
        ARRIVED,
    )
    first, second = (webhook, action) if webhook_first else (action, webhook)
    one = accept(store, first[0], arrived=first[1])
    two = accept(store, second[0], arrived=second[1])
    assert (one.created, two.created) == (True, False)
    assert one.run_id == two.run_id
    run = the(store.get(one.run_id))
    assert (run.workflow_run_url, run.wants_release) == ("https://x/1", True)
    assert store.wishes(run.id).image == ARRIVED


def test_twenty_requests_at_once_make_one_run(store: RunStore) -> None:
    answers: list[Any] = []
    run_together(
        [
            lambda n=n: answers.append(accept(store, a_draft(id=f"run{n:09}"), arrived=ARRIVED))
            for n in range(20)
        ]
    )
    assert [answer.created for answer in answers].count(True) == 1
    assert len({answer.run_id for answer in answers}) == 1
    assert len(store.list(repository_id=None, limit=50, before=None)) == 1


@pytest.mark.postgres
def test_two_replicas_make_one_run_and_never_the_same_number_twice(
    postgres_url: str, open_database: Callable[[str], Database]
) -> None:
    stores = [RunStore(open_database(postgres_url)) for _ in range(2)]
    stores[0]._db.migrate()
    answers: list[Any] = []
    run_together(
        [
            lambda n=n, s=s: answers.append(
                accept(stores[s], a_draft(id=f"run{s}{n:08}", key=a_key(commit_sha=f"{n:040}")))
            )
            for n in range(10)
            for s in range(2)
        ]
    )
    rows = stores[0].list(repository_id=7, limit=50, before=None)
    assert sorted(row.number for row in rows) == list(range(1, 11))
    assert len({row.seq for row in rows}) == 10
    assert [answer.created for answer in answers].count(True) == 10


def test_the_first_image_stays(store: RunStore) -> None:
    accept(store, arrived=ARRIVED)
    accept(store, arrived=ImageArrived(image=None, failure="the second build failed"))
    assert store.wishes("arun00000001").image == ARRIVED


@pytest.mark.case("S7")
def test_another_spec_text_for_the_same_run_is_refused(store: RunStore) -> None:
    accept(store)
    with pytest.raises(SpecDiffers, match=r"cynthus\.yaml: should be the text"):
        accept(store, a_draft(spec_text=SPEC_TEXT + "# changed\n"), arrived=ARRIVED)
    assert store.wishes("arun00000001").image is None


def test_a_refused_request_uses_up_no_token(store: RunStore) -> None:
    accept(store)
    token = ("jti", NOON + LEASE)
    with pytest.raises(SpecDiffers):
        accept(store, a_draft(spec_text="other"), token_id=token)
    assert not accept(store, token_id=token).created


@pytest.mark.case("O9")
def test_a_token_is_used_once(store: RunStore, db: Database) -> None:
    token = ("jti", NOON + LEASE)
    accept(store, token_id=token)
    with pytest.raises(TokenReused):
        accept(store, a_draft(key=a_key(trigger="other")), token_id=token)
    assert len(store.list(repository_id=None, limit=5, before=None)) == 1
    assert TokenStore(db).prune(NOON) == 0
    assert TokenStore(db).prune(NOON + LEASE + LEASE) == 1
    assert TokenStore(db).use("jti", NOON)


@pytest.mark.case("O9")
@pytest.mark.postgres
def test_a_token_used_at_two_replicas_at_once_works_once(
    postgres_url: str, open_database: Callable[[str], Database]
) -> None:
    databases = [open_database(postgres_url) for _ in range(2)]
    databases[0].migrate()
    won: list[bool] = []
    run_together(
        [
            lambda n=n, d=d: won.append(TokenStore(databases[d]).use(f"jti {n}", NOON))
            for n in range(10)
            for d in range(2)
        ]
    )
    assert sorted(won) == [False] * 10 + [True] * 10


def test_runs_are_numbered_by_repository_and_name(store: RunStore) -> None:
    def number(n: int, **changes: Any) -> int:
        accept(store, a_draft(id=f"run{n:09}", **changes))
        return the(store.get(f"run{n:09}")).number

    assert number(1) == 1
    assert number(2, key=a_key(trigger="a")) == 2
    assert number(3, key=a_key(repository_id=8)) == 1
    assert number(4, key=a_key(trigger="b"), spec=a_spec(name="other")) == 1
    assert number(5, key=a_key(trigger="c"), spec=None) == 1


def test_lists_are_newest_first_by_repository_and_page(store: RunStore) -> None:
    for n in range(5):
        accept(store, a_draft(id=f"run{n}", key=a_key(trigger=f"t{n}", repository_id=7 + n % 2)))
    page = store.list(repository_id=None, limit=3, before=None)
    assert [row.id for row in page] == ["run4", "run3", "run2"]
    rest = store.list(repository_id=None, limit=3, before=page[-1].seq)
    assert [row.id for row in rest] == ["run1", "run0"]
    assert [r.id for r in store.list(repository_id=8, limit=9, before=None)] == ["run3", "run1"]
    row = page[0]
    assert (row.repository, row.name, row.cost_usd) == ("acme/vision", "digits", Decimal(0))


# ── claims ──────────────────────────────────────────────────────────────────────────────────────


def test_a_claimed_run_is_not_given_twice(store: RunStore) -> None:
    accept(store)
    claim_one(store)
    assert store.claim(limit=10, lease=LEASE, now=NOON) == []


def test_two_threads_share_the_due_runs(store: RunStore) -> None:
    for n in range(20):
        accept(store, a_draft(id=f"run{n}", key=a_key(trigger=f"t{n}")))
    got: list[str] = []

    def take() -> None:
        for _ in range(5):
            got.extend(c.run.id for c in store.claim(limit=3, lease=LEASE, now=NOON))

    run_together([take, take])
    assert len(got) == len(set(got)) == 20


@pytest.mark.case("R4")
@pytest.mark.postgres
def test_two_replicas_share_the_due_runs(
    postgres_url: str, open_database: Callable[[str], Database]
) -> None:
    stores = [RunStore(open_database(postgres_url)) for _ in range(2)]
    stores[0]._db.migrate()
    for n in range(20):
        accept(stores[0], a_draft(id=f"run{n}", key=a_key(trigger=f"t{n}")))
    got: list[str] = []
    start = threading.Barrier(2)

    def take(store: RunStore) -> None:
        start.wait(60)
        for _ in range(10):
            got.extend(c.run.id for c in store.claim(limit=2, lease=LEASE, now=NOON))

    run_together([lambda: take(stores[0]), lambda: take(stores[1])])
    assert len(got) == len(set(got))
    assert set(got) == {f"run{n}" for n in range(20)}


def test_the_most_overdue_run_is_first(store: RunStore) -> None:
    accept(store, a_draft(id="late", key=a_key(trigger="1")), now=NOON)
    accept(store, a_draft(id="later", key=a_key(trigger="2")), now=NOON + seconds(1))
    store.wake("late", NOON + seconds(2))
    [claim] = store.claim(limit=1, lease=LEASE, now=NOON + seconds(3))
    assert claim.run.id == "late"


def test_a_run_that_is_not_due_is_not_claimed(store: RunStore) -> None:
    accept(store)
    assert store.claim(limit=10, lease=LEASE, now=NOON - seconds(1)) == []
    assert store.next_due(NOON - seconds(1)) == NOON


@pytest.mark.case("P11", "R4", "R5")
def test_a_lease_that_ran_out_frees_the_run_and_refuses_the_older_pass(
    tmp_path: Any, open_database: Callable[[str], Database]
) -> None:
    database = open_database(f"sqlite:///{tmp_path}/cynthus.db")
    database.migrate()
    store = RunStore(database)
    accept(store)
    older = claim_one(store)
    newer = claim_one(store, LEASE + seconds(1))
    queued = Decision(run=step(older.run, State.QUEUED))
    assert not store.save(older, queued, NOON + LEASE)
    assert store.claim(limit=10, lease=LEASE, now=NOON + LEASE + seconds(1)) == []
    assert store.save(newer, queued, NOON + LEASE + seconds(1))


@pytest.mark.case("P11", "R20")
@pytest.mark.postgres
def test_postgres_leases_live_by_its_own_clock(
    postgres_url: str, open_database: Callable[[str], Database]
) -> None:
    database = open_database(postgres_url)
    database.migrate()
    store = RunStore(database)
    accept(store)
    claim_one(store)
    # This replica's clock is a year ahead: the other one's claim still holds.
    assert store.claim(limit=1, lease=LEASE, now=NOON + timedelta(days=365)) == []
    database.write(
        lambda c: c.execute(update(runs).values(lock_until=NOON - timedelta(days=9999))) and 0
    )
    assert len(store.claim(limit=1, lease=LEASE, now=NOON)) == 1


# ── save ────────────────────────────────────────────────────────────────────────────────────────


def test_a_save_is_stored_once(store: RunStore, db: Database) -> None:
    accept(store)
    claim = claim_one(store)
    decision = Decision(run=step(claim.run, State.QUEUED), look_again_at=NOON + LEASE)
    assert store.save(claim, decision, NOON)
    assert not store.save(claim, decision, NOON)
    assert the(store.get(claim.run.id)) == decision.run
    assert store.next_due(NOON) == NOON + LEASE
    states = EventStore(db).after(claim.run.id, 0, limit=10, kinds=[EventKind.STATE])
    assert [event.body["state"] for event in states] == ["building", "queued"]


def test_news_during_a_pass_makes_the_run_due_at_once(store: RunStore) -> None:
    accept(store)
    claim = claim_one(store)
    store.wake(claim.run.id, NOON)
    assert store.save(claim, Decision(run=claim.run, look_again_at=None), NOON + seconds(1))
    assert claim_one(store, seconds(1)).run.id == claim.run.id


def test_a_request_that_changes_the_run_drops_the_decision_of_a_pass(store: RunStore) -> None:
    accept(store)
    claim = claim_one(store)
    accept(store, a_draft(workflow_run_url="https://x/1"), arrived=ARRIVED)
    assert not store.save(claim, Decision(run=step(claim.run, State.QUEUED)), NOON)
    assert the(store.get(claim.run.id)).state is State.BUILDING
    assert claim_one(store).run.workflow_run_url == "https://x/1"


def test_a_new_attempt_gets_its_instance_in_the_same_transaction(
    store: RunStore, db: Database
) -> None:
    accept(store)
    claim = claim_one(store)
    run = step(claim.run, State.PROVISIONING, attempts=(an_attempt(),))
    store.save(claim, Decision(run=run), NOON)
    row = InstanceStore(db).observe("cynthus-arun00000001-1")
    assert (row.run_id, row.attempt, row.provider_name, row.repository_id) == (run.id, 1, "fake", 7)
    assert (row.agent, row.create, row.provider) == (None, None, None)
    with pytest.raises(KeyError):
        InstanceStore(db).observe("unknown")


def test_every_change_makes_the_check_run_due(store: RunStore, db: Database) -> None:
    accept(store)
    publications = PublicationStore(db)
    [check] = publications.claim(5, LEASE, NOON)
    assert (check.kind, check.due_at) == (PublicationKind.CHECK_RUN, NOON)
    claim = claim_one(store)
    store.save(claim, Decision(run=step(claim.run, State.QUEUED)), NOON)
    sent = replace(check, external_id=3, sent_digest="x", due_at=None)
    assert publications.save(sent, NOON)
    # The run changed while its check run was being sent: it is due again.
    assert [p.external_id for p in publications.claim(5, LEASE, NOON)] == [3]
    assert not publications.save(sent, NOON)


def test_a_folder_on_this_machine_shows_nothing_on_github(store: RunStore, db: Database) -> None:
    accept(store, a_draft(key=a_key(repository_id=0)))
    assert PublicationStore(db).claim(5, LEASE, NOON) == []


def test_a_succeeded_run_with_outputs_asks_for_its_release_once(
    store: RunStore, db: Database
) -> None:
    accept(store)
    publications = PublicationStore(db)
    claim = claim_one(store)
    done = step(
        claim.run, State.RELEASING, outcome=Outcome.SUCCEEDED, outputs=(OUTPUT,), image=IMAGE
    )
    store.save(claim, Decision(run=done, look_again_at=None), NOON)
    assert publications.release_seen(done.id) is not None
    release = next(
        p for p in publications.claim(5, LEASE, NOON) if p.kind is PublicationKind.RELEASE
    )
    assert store.next_due(NOON) is None
    published = replace(release, state=PublicationState.DONE, url="https://x", due_at=None)
    assert publications.save(published, NOON)
    seen = publications.release_seen(done.id)
    assert seen is not None
    assert (seen.state, seen.url) == ("published", "https://x")
    assert store.next_due(NOON) == NOON  # the loop hears of it


@pytest.mark.parametrize(
    "changes",
    [
        {"outcome": Outcome.FAILED},
        {"outputs": ()},
        {"outputs": None},
        {"outputs": (replace(OUTPUT, left_out="too large"),)},
        {"wants_release": False},
    ],
)
def test_a_run_with_nothing_to_release_asks_for_none(
    store: RunStore, db: Database, changes: dict[str, Any]
) -> None:
    accept(store)
    claim = claim_one(store)
    good: dict[str, Any] = {"outcome": Outcome.SUCCEEDED, "outputs": (OUTPUT,)}
    store.save(claim, Decision(run=step(claim.run, State.RELEASING, **(good | changes))), NOON)
    assert PublicationStore(db).release_seen(claim.run.id) is None


def test_the_outcome_is_listed_from_the_end_on(store: RunStore) -> None:
    accept(store)
    claim = claim_one(store)
    releasing = step(claim.run, State.RELEASING, outcome=Outcome.FAILED)
    store.save(claim, Decision(run=releasing, look_again_at=NOON), NOON)
    assert store.list(repository_id=7, limit=1, before=None)[0].outcome is None
    claim = claim_one(store)
    finished = step(releasing, State.FINISHED, finished_at=NOON)
    store.save(claim, Decision(run=finished), NOON)
    row = store.list(repository_id=7, limit=1, before=None)[0]
    assert (row.outcome, row.finished_at) == (Outcome.FAILED, NOON)
    assert store.count_by_state() == {State.FINISHED: 1}


# ── bad days ────────────────────────────────────────────────────────────────────────────────────


def test_a_pass_that_raised_is_counted_and_tried_later(store: RunStore, db: Database) -> None:
    accept(store)
    for tries in range(1, 4):
        claim = claim_one(store, seconds(tries))
        assert claim.failures == tries - 1
        store.give_up(claim, f"the server failed, try {tries}", NOON + seconds(tries + 1))
    notices = EventStore(db).after("arun00000001", 0, limit=10, kinds=[EventKind.NOTICE])
    assert len(notices) == 3
    claim = claim_one(store, seconds(4))
    store.save(claim, Decision(run=claim.run, look_again_at=NOON), NOON)
    claim = claim_one(store)
    assert claim.failures == 3  # it only waited
    store.save(claim, Decision(run=step(claim.run, State.QUEUED), look_again_at=NOON), NOON)
    assert claim_one(store).failures == 0


def test_a_pass_is_forgiven_only_after_its_commands(store: RunStore) -> None:
    accept(store)
    store.give_up(claim_one(store), "failed", NOON)
    claim = claim_one(store)
    commanded = Decision(run=claim.run, commands=(CloseAttempt(name="x"),), look_again_at=NOON)
    store.save(claim, commanded, NOON)
    store.give_up(claim, "its command failed", NOON)
    claim = claim_one(store)
    assert claim.failures == 2
    store.forgive(claim.run.id)
    store.release(claim)
    assert claim_one(store).failures == 0


@pytest.mark.case("R5")
def test_giving_up_an_old_claim_leaves_the_newer_one_alone(
    tmp_path: Any, open_database: Callable[[str], Database]
) -> None:
    database = open_database(f"sqlite:///{tmp_path}/cynthus.db")
    database.migrate()
    store = RunStore(database)
    accept(store)
    older = claim_one(store)
    newer = claim_one(store, LEASE + seconds(1))
    store.give_up(older, "late", NOON)
    assert newer.failures == 0
    assert store.save(newer, Decision(run=newer.run, look_again_at=NOON), NOON)


@pytest.mark.case("R14")
def test_an_unreadable_run_is_parked_and_the_others_go_on(store: RunStore, db: Database) -> None:
    accept(store, a_draft(id="bad", key=a_key(trigger="1")))
    accept(store, a_draft(id="good", key=a_key(trigger="2")))
    db.write(
        lambda c: c.execute(update(runs).where(runs.c.id == "bad").values(doc={"id": 5})) and 0
    )
    assert claim_one(store).run.id == "good"
    with db.read() as connection:
        assert run_reading.states(connection, ["bad", "good", "none"]) == {
            "bad": State.FINISHED,
            "good": State.BUILDING,
        }


def test_a_document_that_is_no_json_stops_nobody_else(store: RunStore, db: Database) -> None:
    accept(store, a_draft(id="bad", key=a_key(trigger="1")))
    accept(store, a_draft(id="good", key=a_key(trigger="2")))

    damage = text("UPDATE runs SET doc = '{' WHERE id = 'bad'")
    try:
        db.write(lambda connection: connection.execute(damage).rowcount)
    except DatabaseUnavailable:  # PostgreSQL keeps nothing but JSON in such a column
        assert len(store.claim(limit=9, lease=LEASE, now=NOON)) == 2
        return
    assert claim_one(store).run.id == "good"
    with pytest.raises(RunUnreadable):
        store.get("bad")
    assert [run.id for run in store.live(a_key().repository_id)] == ["good"]


def test_a_cancel_is_noted_once_and_only_before_the_end(store: RunStore) -> None:
    assert not store.cancel("nothing", "ann", NOON)
    accept(store)
    assert store.cancel("arun00000001", "ann", NOON)
    assert store.cancel("arun00000001", "bob", NOON + seconds(1))
    wish = store.wishes("arun00000001").cancel
    assert wish is not None
    assert (wish.by, wish.at) == ("ann", NOON)
    claim = claim_one(store, seconds(2))
    store.save(claim, Decision(run=step(claim.run, State.FINISHED, finished_at=NOON)), NOON)
    assert not store.cancel("arun00000001", "eve", NOON)


def test_an_empty_database_says_so(store: RunStore) -> None:
    assert store.is_empty()
    accept(store)
    assert not store.is_empty()


def test_a_run_survives_the_server(
    empty_url: str, open_database: Callable[[str], Database]
) -> None:
    first = open_database(empty_url)
    first.migrate()
    accept(RunStore(first), arrived=ARRIVED)
    first.close()
    second = open_database(empty_url)
    second.migrate()
    assert the(RunStore(second).get("arun00000001")).spec == a_spec()
    assert RunStore(second).wishes("arun00000001").image == ARRIVED


# ── builds that are asked for ───────────────────────────────────────────────────────────────────


@pytest.mark.case("O16")
def test_o16_a_job_says_nothing_of_where_a_run_was_asked_for(store: RunStore) -> None:
    accept(store, a_draft(origin=Origin(wants_build=True), pull_request=None))
    accept(store, a_draft(pull_request=7), arrived=ARRIVED)
    run = store.get("arun00000001")
    assert run is not None
    assert run.pull_request is None
    assert store.of_pull(run.key.repository_id, 7, limit=9) == []


def test_a_run_waits_for_a_build_until_it_has_an_image_or_an_end(store: RunStore) -> None:
    draft = a_draft(origin=Origin(wants_build=True))
    accept(store, draft)
    assert store.waits(draft.key)
    assert not store.waits(a_key(trigger="comment/1/0"))
    store.accept(draft, arrived=ARRIVED, token_id=None, now=NOON)
    assert not store.waits(draft.key)


def test_a_run_that_a_push_builds_waits_for_no_dispatch(store: RunStore) -> None:
    accept(store)
    assert not store.waits(a_key())


def test_a_refused_build_is_told_once_and_an_image_that_is_there_stays(store: RunStore) -> None:
    draft = a_draft(origin=Origin(wants_build=True))
    run_id = accept(store, draft).run_id
    assert store.refuse_build(run_id, "no right to ask", NOON)
    assert not store.refuse_build(run_id, "another reason", NOON)
    arrived = store.wishes(run_id).image
    assert arrived == ImageArrived(image=None, failure="no right to ask")
    assert not store.waits(draft.key)
    assert not store.refuse_build("nobody", "no right to ask", NOON)
