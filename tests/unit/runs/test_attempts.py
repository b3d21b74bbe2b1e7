"""The attempts of a run as one table on its check run."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from cynthus.cli_status import told_text
from cynthus.wire import Mark
from tests.builders import NOON, a_run, a_spec, an_attempt, an_offer, seconds
from webhook_server.runs.attempts import boot_marks, kept_notice, lost_time, machine_text, table
from webhook_server.runs.feed_facts import Feed
from webhook_server.runs.model import Cause, Reason, State
from webhook_server.runs.report import check_run
from webhook_server.runs.warm import kept, offers
from webhook_server.views import Told, run_view


def preempted(**changes: Any) -> Any:
    reason = Reason(cause=Cause.PREEMPTED, text="the instance was taken back by its owner")
    offer = an_offer(
        provider="gcp",
        place="us-central1-a",
        machine="g2-standard-4",
        gpu_type="l4",
        gpu_count=1,
        usd_per_hour=Decimal("0.36"),
        spot=True,
    )
    given = {
        "offer": offer,
        "started_at": NOON + seconds(60),
        "ended_at": NOON + seconds(600),
        "gone_at": NOON + seconds(610),
        "provided_at": NOON + seconds(24),
        "lost": True,
        "reason": reason,
    }
    return an_attempt(1, **(given | changes))


MARKS = (
    Mark(name="enrolled", at=NOON + seconds(62)),
    Mark(name="driver_ready", at=NOON + seconds(38)),
    Mark(name="image_pulled", at=NOON + seconds(111)),
)


def plain(text: str) -> str:
    """Take Markdown's escapes away."""
    return text.replace("\\", "")


def test_a_lost_attempt_shows_its_place_its_cause_and_what_was_lost() -> None:
    run = a_run(State.RUNNING, attempts=(preempted(), an_attempt(2, started_at=NOON)))
    text = plain(table(run, {1: MARKS}))
    assert (
        "| 1 | us-central1-a, gcp | g2-standard-4, 1 l4, spot | 9m00s | 9m00s "
        "| $0.07 ($0.36/h) | the instance was taken back by its owner |"
    ) in text
    assert "| 2 | here, fake | small |  |  | $3.60/h |  |" in text
    assert "Lost to the infrastructure: 9m00s of running and $0.07." in text
    assert (
        "Attempt 1 after the order: provisioned 24s, driver 38s, first beat 1m02s, pull 1m51s."
    ) in text


def test_a_gang_is_counted() -> None:
    text = plain(table(a_run(attempts=(preempted(names=("a", "b")),)), {}))
    assert "| 2 x g2-standard-4, 1 l4, spot |" in text
    assert "$0.13" in text


def test_hostile_names_of_steps_stay_text() -> None:
    text = table(a_run(), {1: (Mark(name="|<b>@acme", at=NOON),)})
    assert "<b>" not in text
    assert "@acme" not in text


def test_an_attempt_that_was_not_lost_lost_nothing() -> None:
    assert lost_time(preempted(lost=False)) == seconds(0)
    assert lost_time(preempted(started_at=None)) == seconds(0)
    assert table(a_run(State.QUEUED), {}) == ""


def test_each_step_is_told_once_in_its_order() -> None:
    again = (*MARKS, Mark(name="enrolled", at=NOON + seconds(500)))
    names = [mark.name for mark in boot_marks(preempted(), again)]
    assert names == ["provided", "driver_ready", "enrolled", "image_pulled"]


def test_a_view_tells_the_same() -> None:
    run = a_run(attempts=(preempted(),))
    told = Told(marks=tuple((1, mark) for mark in MARKS))
    [view] = run_view(run, told, base_url="https://c.test", now=NOON + seconds(900)).attempts
    assert (view.machine, view.spot, view.nodes, view.cause) == (
        "g2-standard-4",
        True,
        1,
        "preempted",
    )
    assert (view.lost_s, view.cost_usd) == (540.0, Decimal("0.0610"))
    assert [mark.name for mark in view.marks][:2] == ["provided", "driver_ready"]


# ── warm instances ──────────────────────────────────────────────────────────────────────────────


def test_whoever_keeps_an_instance_says_until_when_and_at_what_price() -> None:
    kept = an_attempt(
        offer=an_offer(usd_per_hour=Decimal("0.8459")), kept_until=NOON + seconds(40 * 60)
    )
    run = a_run(State.FINISHED, attempts=(kept,))
    told = "kept warm until 12:40 UTC at the latest for this repository's next run, $0.85 an hour"
    assert told in (kept_notice(run) or "")
    assert told in plain(check_run(run, Feed(), url="https://c.test", now=NOON).summary)
    [notice] = run_view(run, Told(), base_url="https://c.test", now=NOON).notices
    assert told in notice


def test_whoever_keeps_nothing_says_nothing() -> None:
    assert kept_notice(a_run()) is None
    assert kept_notice(a_run(State.QUEUED)) is None


def test_whoever_takes_a_warm_instance_over_says_who_kept_it() -> None:
    offer = an_offer(machine="g2-standard-4", warm="cynthus-before-1", warm_run="before")
    run = a_run(attempts=(an_attempt(offer=offer),))
    assert "| g2-standard-4, kept warm by run before |" in plain(table(run, {}))
    view = run_view(run, Told(), base_url="https://c.test", now=NOON)
    assert view.attempts[0].warm_run == "before"
    assert "g2-standard-4 kept warm by run before $" in told_text(view)


def test_an_offer_of_what_waits_names_the_run_that_kept_it() -> None:
    run = a_run(attempts=(an_attempt(kept_until=NOON + seconds(600)),))
    waiting = kept(run, run.attempts[0], NOON)
    [offer] = offers([waiting], a_spec().resources, life=seconds(60), now=NOON)
    assert (offer.warm, offer.warm_run) == (run.attempts[0].instance, run.id)
    again = a_run(attempts=(an_attempt(offer=offer, kept_until=NOON + seconds(600)),))
    assert kept(again, again.attempts[0], NOON).offer == waiting.offer


def test_a_gang_on_one_machine_counts_its_instances() -> None:
    here = an_offer(machine="here", place="here")
    assert machine_text(here, nodes=2) == "2 x instance"
    assert machine_text(here, nodes=1) == ""
