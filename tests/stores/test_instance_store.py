"""Instances in the database: one agent each, heartbeats once each, limits kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from cynthus.wire import AgentEvent, AgentState, EventKind, Heartbeat, Mark, Rendezvous
from tests.builders import (
    NOON,
    OUTPUT,
    a_draft,
    absent,
    an_attempt,
    an_exit,
    created,
    present,
    seconds,
    some_facts,
)
from tests.stores.test_database import run_together
from webhook_server.runs.commands import Decision
from webhook_server.runs.lending import Denial, Gone, Refusal
from webhook_server.stores import instance_store
from webhook_server.stores.database import Database
from webhook_server.stores.event_store import EventStore
from webhook_server.stores.feed_tail import log_tail
from webhook_server.stores.heartbeats import BeatResult
from webhook_server.stores.instance_store import Enrolling, InstanceStore
from webhook_server.stores.run_store import RunStore

NAME = "cynthus-arun00000001-1"
TOKEN = "t" * 64
LEASE = timedelta(minutes=1)


@pytest.fixture
def store(db: Database) -> InstanceStore:
    order(db, 1)
    return InstanceStore(db)


def order(db: Database, number: int) -> None:
    """Make attempt `number` as the loop would."""
    runs = RunStore(db)
    if number == 1:
        runs.accept(a_draft(), arrived=None, token_id=None, now=NOON)
    runs.wake("arun00000001", NOON)
    [claim] = runs.claim(limit=1, lease=LEASE, now=NOON)
    attempts = (*claim.run.attempts, an_attempt(number))
    runs.save(claim, Decision(run=replace(claim.run, attempts=attempts)), NOON)


def enrol(
    store: InstanceStore, nonce: str = "n", name: str = NAME, token: str = TOKEN
) -> Enrolling:
    return store.enrol(name, nonce=nonce, token_sha256=token, facts=some_facts(), now=NOON)


def beat(store: InstanceStore, seq: int, *events: AgentEvent, **members: Any) -> BeatResult:
    given: dict[str, Any] = {"state": AgentState.RUNNING, "sent_at": NOON}
    at = members.pop("at", NOON + seconds(seq))
    limit = members.pop("limit", 1 << 20)
    token = members.pop("token", TOKEN)
    message = Heartbeat(seq=seq, events=events, **(given | members))
    return store.heartbeat(token, message, log_limit_bytes=limit, now=at)


def event(kind: EventKind, **body: object) -> AgentEvent:
    return AgentEvent(at=NOON, kind=kind, body=body)


def a_log(text: str) -> AgentEvent:
    return event(EventKind.LOG, text=text)


def fed(db: Database, *kinds: EventKind) -> list[dict[str, object]]:
    return [e.body for e in EventStore(db).after("arun00000001", 0, limit=999, kinds=kinds)]


def due(db: Database) -> bool:
    return RunStore(db).next_due(NOON) is not None


# ── enrolment ───────────────────────────────────────────────────────────────────────────────────


def test_one_agent_enrols_and_may_repeat_it(store: InstanceStore, db: Database) -> None:
    assert enrol(store) is Enrolling.OK
    assert enrol(store) is Enrolling.AGAIN
    assert enrol(store, nonce="other") is Enrolling.TAKEN
    assert enrol(store, name="unknown") is Enrolling.UNKNOWN
    row = store.by_token(TOKEN)
    assert row is not None
    assert (row.name, row.facts) == (NAME, some_facts())
    assert row.agent is not None
    assert (row.agent.state, row.agent.engine) == (AgentState.PREPARING, "docker")
    assert due(db)


def test_a_closed_instance_takes_no_agent(store: InstanceStore) -> None:
    store.close(NAME, NOON)
    assert enrol(store) is Enrolling.CLOSED


@pytest.mark.case("A21")
def test_of_many_agents_at_once_one_wins(store: InstanceStore) -> None:
    answers: list[Enrolling] = []
    run_together(
        [lambda n=n: answers.append(enrol(store, nonce=str(n), token=str(n))) for n in range(8)]
    )
    assert sorted(answers) == ["ok", *["taken"] * 7]


# ── heartbeats ──────────────────────────────────────────────────────────────────────────────────


def test_a_heartbeat_is_taken_once(store: InstanceStore, db: Database) -> None:
    enrol(store)
    assert beat(store, 1, a_log("a\n")).accepted_seq == 1
    again = beat(store, 1, a_log("a\n"))
    assert (again.accepted_seq, again.fed, again.news) == (1, False, False)
    beat(store, 2, a_log("b\n"))
    assert beat(store, 1, a_log("a\n")).accepted_seq == 2
    assert "".join(EventStore(db).log_text("arun00000001", 1)) == "a\nb\n"


def test_the_steps_to_the_first_line_are_told(store: InstanceStore, db: Database) -> None:
    enrol(store)
    before = fed(db, EventKind.MARK)
    beat(store, 1, event(EventKind.MARK, name="image_pulled", at="2026-11-22T12:00:00Z"))
    assert [m["name"] for m in fed(db, EventKind.MARK)[len(before) :]] == ["image_pulled"]


def test_a_repeated_heartbeat_still_shows_that_the_agent_lives(store: InstanceStore) -> None:
    enrol(store)
    beat(store, 1)
    beat(store, 1, at=NOON + seconds(60))
    row = store.observe(NAME)
    assert row.agent is not None
    assert row.agent.heartbeat_at == NOON + seconds(60)


@pytest.mark.case("A3")
def test_twenty_copies_of_a_heartbeat_at_once_are_taken_once(
    store: InstanceStore, db: Database
) -> None:
    enrol(store)
    run_together([lambda: beat(store, 1, a_log("once\n"))] * 20)
    assert len(fed(db, EventKind.LOG)) == 1


def test_only_news_wakes_the_run(store: InstanceStore, db: Database) -> None:
    enrol(store)
    settle(db)
    assert beat(store, 1).news
    assert due(db)
    settle(db)
    assert not beat(store, 2, a_log("text")).news
    assert not due(db)
    assert beat(store, 3, preempted=True).news
    assert beat(store, 4, state=AgentState.UPLOADING, exit=an_exit(0)).news
    assert beat(store, 5, state=AgentState.DONE, outputs=(OUTPUT,)).news


def settle(db: Database) -> None:
    runs = RunStore(db)
    [claim] = runs.claim(limit=1, lease=LEASE, now=NOON + LEASE)
    runs.save(claim, Decision(run=claim.run), NOON)


@pytest.mark.case("A6")
def test_the_first_exit_and_the_last_list_stay_and_states_only_go_forward(
    store: InstanceStore,
) -> None:
    enrol(store)
    beat(store, 1, state=AgentState.UPLOADING, exit=an_exit(3), outputs=(OUTPUT,))
    row = store.observe(NAME)
    assert row.agent is not None
    assert row.agent.outputs == (OUTPUT,)  # should its machine go now, this is what is known
    more = (OUTPUT, replace(OUTPUT, path="outputs/more"))
    beat(store, 2, state=AgentState.DONE, exit=an_exit(0), outputs=more, preempted=True)
    beat(store, 3, state=AgentState.RUNNING, outputs=())
    agent = store.observe(NAME).agent
    assert agent is not None
    assert (agent.state, agent.exit, agent.outputs, agent.preempted) == (
        AgentState.DONE,
        an_exit(3),
        more,
        True,
    )


def test_a_stop_is_answered_and_its_first_sentence_stays(store: InstanceStore) -> None:
    enrol(store)
    assert beat(store, 1).stop is None
    store.request_stop(NAME, "cancelled by ann")
    store.request_stop(NAME, "another reason")
    assert beat(store, 1).stop == beat(store, 2).stop == "cancelled by ann"


def test_a_new_deadline_is_answered_in_seconds_from_now(store: InstanceStore) -> None:
    enrol(store)
    assert beat(store, 1).deadline_s is None
    store.prolong(NAME, NOON + timedelta(hours=2))
    assert beat(store, 1, at=NOON).deadline_s == 7200.0
    assert beat(store, 2, at=NOON + timedelta(hours=1)).deadline_s == 3600.0
    [row] = store.rows([NAME])
    assert row.deadline_at == NOON + timedelta(hours=2)


def test_nothing_is_taken_from_a_closed_or_unknown_agent(
    store: InstanceStore, db: Database
) -> None:
    enrol(store)
    store.close(NAME, NOON)
    assert beat(store, 1, a_log("late")).closed
    assert beat(store, 1, token="unknown").unknown
    assert fed(db, EventKind.LOG) == []


@pytest.mark.case("A4")
def test_the_agents_clock_is_believed_only_between_its_enrolment_and_now(
    store: InstanceStore, db: Database
) -> None:
    enrol(store)
    year = timedelta(days=365)
    moments = [NOON + seconds(3), NOON + year, NOON - year]
    events = [AgentEvent(at=at, kind=EventKind.LOG, body={"text": "x"}) for at in moments]
    beat(store, 1, *events, at=NOON + seconds(9))
    stored = EventStore(db).after("arun00000001", 0, limit=9, kinds=[EventKind.LOG])
    assert [e.at for e in stored] == [NOON + seconds(3), NOON + seconds(9), NOON + seconds(9)]


# ── limits ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.case("A7")
def test_a_log_over_its_limit_is_cut_on_a_character_and_said_once(
    store: InstanceStore, db: Database
) -> None:
    enrol(store)
    beat(store, 1, a_log("12345678"), a_log("9é-more"), limit=10)
    beat(store, 2, a_log("x" * 1000), limit=10)
    assert "".join(EventStore(db).log_text("arun00000001", 1)) == "123456789"
    assert fed(db, EventKind.NOTICE) == [{"text": "the log is cut here: 10 bytes are kept"}]
    assert store.observe(NAME).log_bytes == 8 + 8 + 1000


def test_text_that_no_database_takes_is_made_storable(store: InstanceStore, db: Database) -> None:
    enrol(store)
    beat(store, 1, a_log("a\0b\ud800c"), event(EventKind.PHASE, name="tr\0ain", n={"x\0": ["\0"]}))
    beat(store, 2, state=AgentState.DONE, exit=an_exit(None, error="no\0such"))
    assert fed(db, EventKind.LOG) == [{"text": "a\ufffdb\ufffdc"}]
    assert fed(db, EventKind.PHASE) == [{"name": "tr\ufffdain", "n": {"x\ufffd": ["\ufffd"]}}]
    agent = store.observe(NAME).agent
    assert agent is not None
    assert agent.exit == an_exit(None, error="no\ufffdsuch")


@pytest.mark.case("A11")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("loss", float("nan")),
        ("loss", float("inf")),
        ("loss", 10**400),
        ("loss", "0.4"),
        ("loss", True),
        (7, 1.0),
        ("\n", 1.0),
    ],
)
def test_a_metric_that_is_no_number_is_dropped(
    store: InstanceStore, db: Database, name: Any, value: Any
) -> None:
    enrol(store)
    assert beat(store, 1, event(EventKind.METRIC, name=name, value=value)).accepted_seq == 1
    assert fed(db, EventKind.METRIC) == []


@pytest.mark.case("A11")
def test_metric_names_annotations_and_masks_have_limits(store: InstanceStore, db: Database) -> None:
    enrol(store)
    names = [event(EventKind.METRIC, name=f"m{n}\n", value=n) for n in range(205)]
    marks = [event(EventKind.ANNOTATION, text=f"a{n}") for n in range(105)]
    beat(store, 1, *names, *marks, event(EventKind.MASK, value="secret"), event(EventKind.STATE))
    assert len(fed(db, EventKind.METRIC)) == 200
    assert len(fed(db, EventKind.ANNOTATION)) == 100
    assert [body["text"] for body in fed(db, EventKind.NOTICE)] == [
        "200 metric names are kept; more came",
        "100 events of the kind `annotation` are kept; more came",
    ]
    assert fed(db, EventKind.MASK) == []
    latest = EventStore(db).latest("arun00000001")
    assert latest.metrics["m7"] == 7
    assert (len(latest.metrics), len(latest.annotations)) == (200, 100)


def test_limits_go_on_in_the_next_attempt(store: InstanceStore, db: Database) -> None:
    enrol(store)
    beat(store, 1, *[event(EventKind.ANNOTATION, text="x")] * 99)
    order(db, 2)
    enrol(store, name="cynthus-arun00000001-2", token="u" * 64)
    beat(store, 1, *[event(EventKind.ANNOTATION, text="x")] * 5, token="u" * 64)
    assert len(fed(db, EventKind.ANNOTATION)) == 100


def test_why_an_order_was_not_met_outlasts_the_deletion_that_follows(store: InstanceStore) -> None:
    refusal = Refusal(denial=Denial.NO_CAPACITY, text="nothing left")
    store.record_provider(NAME, replace(absent(), gone=Gone.UNKNOWN, refusal=refusal))
    store.record_provider(NAME, absent())
    assert store.observe(NAME).provider == replace(absent(), refusal=refusal)


def test_the_newest_of_everything_is_shown(store: InstanceStore, db: Database) -> None:
    empty = EventStore(db).latest("arun00000001")
    assert (empty.progress, empty.phase, empty.summary, empty.metrics) == (None, None, None, {})
    enrol(store)
    for n in (1, 2):
        beat(
            store,
            n,
            event(EventKind.PROGRESS, value=n / 4),
            event(EventKind.PHASE, name=f"phase {n}"),
            event(EventKind.SUMMARY, text=f"# {n}"),
            event(EventKind.METRIC, name="loss", value=n),
            event(EventKind.NOTICE, text=f"notice {n}"),
        )
    latest = EventStore(db).latest("arun00000001")
    assert (latest.progress, latest.phase, latest.summary) == (0.5, "phase 2", "# 2")
    assert (latest.metrics, latest.notices) == ({"loss": 2.0}, ("notice 1", "notice 2"))


def test_a_long_log_is_read_page_by_page(store: InstanceStore, db: Database) -> None:
    enrol(store)
    beat(store, 1, *[a_log(f"{n}\n") for n in range(1100)])
    assert "".join(EventStore(db).log_text("arun00000001", 1)).count("\n") == 1100
    assert list(EventStore(db).log_text("arun00000001", 2)) == []


def test_an_appended_event_is_read_after_the_one_before(db: Database) -> None:
    events = EventStore(db)
    events.append("r", 0, EventKind.NOTICE, {"text": "one"}, NOON)
    [first] = events.after("r", 0, limit=5)
    events.append("r", 0, EventKind.NOTICE, {"text": "two"}, NOON)
    assert [e.body for e in events.after("r", first.seq, limit=5)] == [{"text": "two"}]


# ── the loop ────────────────────────────────────────────────────────────────────────────────────


def test_what_the_provider_said_is_kept_and_wakes_the_run(
    store: InstanceStore, db: Database
) -> None:
    settle_first(db)
    store.record_create(NAME, created())
    assert due(db)
    settle(db)
    store.record_provider(NAME, present())
    assert due(db)
    row = store.observe(NAME)
    assert (row.create, row.provider) == (created(), replace(present(), shown=True))
    store.record_provider(NAME, absent())
    assert store.observe(NAME).provider == replace(absent(), shown=True)  # it was there once


def test_that_an_order_could_not_be_met_outlasts_the_word_that_nothing_is_there(
    store: InstanceStore,
) -> None:
    refusal = Refusal(denial=Denial.NO_CAPACITY, text="full")
    store.record_provider(NAME, replace(absent(), gone=Gone.UNKNOWN, refusal=refusal))
    store.record_provider(NAME, absent())
    assert store.observe(NAME).provider == replace(absent(), refusal=refusal)


def settle_first(db: Database) -> None:
    RunStore(db).wake("arun00000001", NOON)
    settle(db)


def test_unfinished_instances_are_those_that_are_not_closed(
    store: InstanceStore, db: Database
) -> None:
    def unfinished(provider: str) -> list[str]:
        with db.read() as connection:
            return instance_store.unfinished(connection, provider)

    assert unfinished("fake") == [NAME]
    assert unfinished("other") == []
    store.close(NAME, NOON)
    store.close(NAME, NOON + seconds(9))
    assert unfinished("fake") == []
    assert store.observe(NAME).closed_at == NOON


def test_no_heartbeat_is_lost_when_the_server_restarts(
    empty_url: str, open_database: Callable[[str], Database]
) -> None:
    first = open_database(empty_url)
    first.migrate()
    order(first, 1)
    enrol(InstanceStore(first))
    beat(InstanceStore(first), 1, a_log("kept\n"))
    first.close()
    second = open_database(empty_url)
    assert beat(InstanceStore(second), 1, a_log("kept\n")).accepted_seq == 1
    assert "".join(EventStore(second).log_text("arun00000001", 1)) == "kept\n"


# ── gangs ───────────────────────────────────────────────────────────────────────────────────────


def a_gang(db: Database) -> tuple[InstanceStore, tuple[str, str]]:
    """Make an attempt of two instances, both enrolled under the token `t<rank>`."""
    runs, names = RunStore(db), (f"{NAME}-0", f"{NAME}-1")
    runs.accept(a_draft(), arrived=None, token_id=None, now=NOON)
    [claim] = runs.claim(limit=1, lease=LEASE, now=NOON)
    run = replace(claim.run, attempts=(an_attempt(names=names),))
    runs.save(claim, Decision(run=run), NOON)
    store = InstanceStore(db)
    for rank, name in enumerate(names):
        assert enrol(store, name=name, token=f"t{rank}") is Enrolling.OK
    return store, names


def test_a_gangs_logs_are_one_with_ranks_or_one_each(db: Database) -> None:
    store, _ = a_gang(db)
    beat(store, 1, a_log("zero\n"), token="t0")
    beat(store, 1, a_log("one\n\nmore"), token="t1")
    events = EventStore(db)
    together = "".join(events.log_text("arun00000001", 1))
    assert together == "[rank 0] zero\n[rank 1] one\n\n[rank 1] more"
    assert "".join(events.log_text("arun00000001", 1, 1)) == "one\n\nmore"
    told = events.after("arun00000001", 0, limit=9, kinds=[EventKind.LOG])
    assert [(event.rank, event.body["text"]) for event in told] == [
        (0, "[rank 0] zero\n"),
        (1, "[rank 1] one\n\n[rank 1] more"),
    ]
    assert log_tail(db, "arun00000001", 1, 1000) == (together, False)


def test_rank_0_speaks_for_its_gang(db: Database) -> None:
    store, _ = a_gang(db)
    beat(store, 1, event(EventKind.PROGRESS, value=0.5), token="t0")
    others = [event(EventKind.PROGRESS, value=0.1), event(EventKind.NOTICE, text="hot")]
    beat(store, 1, *others, token="t1")
    latest = EventStore(db).latest("arun00000001")
    assert (latest.progress, latest.notices) == (0.5, ("hot",))


def test_where_a_gang_meets_is_told_until_its_agent_runs(db: Database) -> None:
    store, names = a_gang(db)
    told = Rendezvous(address="10.0.0.2", peers=("10.0.0.2", "10.0.0.3"))
    assert beat(store, 1, token="t1", state=AgentState.READY).rendezvous is None
    store.meet(names[1], told)
    assert beat(store, 2, token="t1", state=AgentState.READY).rendezvous == told
    assert beat(store, 2, token="t1", state=AgentState.READY).rendezvous == told
    assert beat(store, 3, token="t1", state=AgentState.RUNNING).rendezvous is None
    assert beat(store, 1, token="t0", state=AgentState.READY).rendezvous is None


def test_the_steps_of_a_boot_are_kept_within_what_can_be_true(
    db: Database, store: InstanceStore
) -> None:
    marks = tuple(
        Mark(name=name, at=NOON + seconds(at))
        for name, at in [("booted", -9), ("driver_ready", 0), ("agent_started", 999)]
    )
    now = NOON + seconds(60)
    facts = some_facts(marks=marks)
    store.enrol(NAME, nonce="n", token_sha256=TOKEN, facts=facts, now=now)
    store.enrol(NAME, nonce="n", token_sha256=TOKEN, facts=facts, now=now)
    latest = EventStore(db).latest("arun00000001")
    assert [(number, mark.name, mark.at) for number, mark in latest.marks] == [
        (1, "booted", NOON),
        (1, "driver_ready", NOON),
        (1, "agent_started", now),
        (1, "enrolled", now),
    ]


def test_the_first_exit_is_kept_with_the_time_it_was_heard(store: InstanceStore) -> None:
    enrol(store)
    beat(store, 1, state=AgentState.UPLOADING, exit=an_exit(3), maintenance="soon\x00")
    beat(store, 2, state=AgentState.DONE, exit=an_exit(0), preempted=True)
    agent = store.observe(NAME).agent
    assert agent is not None
    assert (agent.exit, agent.exit_at) == (an_exit(3), NOON + seconds(1))
    assert agent.preempted
    assert agent.maintenance is not None
    assert agent.maintenance.startswith("soon")
