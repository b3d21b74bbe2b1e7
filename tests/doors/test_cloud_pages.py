"""The pages of what a cloud lends: machines, boots, gangs, and instances that are kept warm."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.doors.conftest import Agent, Site, open_site
from webhook_server.runs.model import Attempt, Cause, Member, Reason, Run, State
from webhook_server.settings import Secret, Settings
from webhook_server.stores.warm_store import WarmStore

TOKEN = "operator-token-0123456789abcdef"
OF_L4: dict[str, Any] = {
    "provider": "local",
    "place": "us-central1-a",
    "machine": "g2-standard-4",
    "gpu_type": "l4",
    "gpu_count": 1,
    "usd_per_hour": Decimal("0.85"),
    "spot": True,
    "price_source": "estimate; list of 2026-01-31",
}


def html(site: Site, path: str) -> str:
    answer = site.ask("GET", path)
    assert answer.status == 200
    return answer.body.decode()


def change_newest(site: Site, run_id: str, **changes: object) -> Attempt:
    def change(run: Run) -> Run:
        assert run.attempt is not None
        return replace(run, attempts=(*run.attempts[:-1], replace(run.attempt, **changes)))

    attempt = site.save(run_id, change).attempt
    assert attempt is not None
    return attempt


def a_kept(site: Site) -> str:
    """Let the instance of a run wait for the next one; return the run's id."""
    run_id = site.a_run(repository_id=7)
    site.order(run_id, **OF_L4)
    site.keep_warm(run_id, timedelta(minutes=20))
    return run_id


# ── attempts ────────────────────────────────────────────────────────────────────────────────────


def test_an_attempt_shows_its_machine_its_boot_and_what_was_lost(site: Site) -> None:
    run_id = site.a_run()
    site.order(run_id, **OF_L4)
    began = site.parts.now()
    change_newest(
        site,
        run_id,
        ordered_at=began,
        started_at=began + timedelta(seconds=62),
        ended_at=began + timedelta(seconds=602),
        lost=True,
        reason=Reason(cause=Cause.PREEMPTED, text="taken back by its owner"),
        members=(
            Member(
                name=f"cynthus-{run_id}-1",
                last_try_at=began,
                provided_at=began + timedelta(seconds=24),
            ),
        ),
    )
    page = html(site, f"/runs/{run_id}")
    for told in (
        "g2-standard-4",
        '<span class="pill quiet">spot</span>',
        "us-central1-a",
        "provisioned 24s",
        "9m00s",
        "$0.85/h",
        "taken back by its owner",
        "preempted",
        'title="estimate; list of 2026-01-31"> estimate',
    ):
        assert told in page


def test_a_price_that_is_certain_is_not_called_an_estimate(site: Site) -> None:
    run_id = site.a_run()
    site.order(run_id)
    assert 'id="estimate" hidden' in html(site, f"/runs/{run_id}")


def test_announced_maintenance_is_a_notice(site: Site) -> None:
    run_id = site.a_run()
    site.order(run_id)
    text = "the instance's host will be maintained: TERMINATE_ON_HOST_MAINTENANCE"
    site.save(run_id, lambda run: replace(run, notices=(text,)))
    assert text in html(site, f"/runs/{run_id}").replace("&#39;", "'")


# ── gangs ───────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def gang(site: Site) -> list[Agent]:
    return site.a_gang()


def test_a_gangs_log_is_read_together_or_by_rank(gang: list[Agent], site: Site) -> None:
    for rank, agent in enumerate(gang):
        agent.beat(("log", {"text": f"loss of {'first' if rank == 0 else 'second'}\n"}))
    address = f"/runs/{gang[0].run_id}"
    whole = html(site, address)
    assert "[rank 0] loss of first" in whole
    assert "[rank 1] loss of second" in whole
    assert f'href="{address}?rank=1#log-title"' in whole
    one = html(site, f"{address}?rank=1")
    assert "loss of first" not in one
    assert ">loss of second" in one
    assert 'data-rank="1"' in one
    assert "/log?rank=1" in one


def test_a_rank_that_is_not_there_is_the_whole_log(gang: list[Agent], site: Site) -> None:
    gang[0].beat(("log", {"text": "loss\n"}))
    page = html(site, f"/runs/{gang[0].run_id}?rank=2")
    assert "[rank 0] loss" in page
    assert "data-rank" not in page
    assert site.ask("GET", f"/runs/{gang[0].run_id}?rank=-1").status == 422


def test_a_run_on_one_instance_offers_no_ranks(site: Site) -> None:
    assert "?rank=" not in html(site, f"/runs/{site.an_agent().run_id}")


# ── warm instances ──────────────────────────────────────────────────────────────────────────────


def test_a_warm_instance_stands_on_the_list_with_its_repository_and_end(site: Site) -> None:
    run_id = a_kept(site)
    page = html(site, "/")
    assert '<section aria-labelledby="warm-title" id="warm-section">' in page
    section = page.partition('id="warm-section"')[2].partition("</section>")[0]
    for told in (f"cynthus-{run_id}-1", "g2-standard-4, 1 l4", "us-central1-a", "acme/digits"):
        assert told in section
    assert f'href="/runs/{run_id}"' in section
    assert "$0.85/h" in section
    assert "being given back" not in section


def test_one_that_ends_says_so_and_one_that_is_gone_is_not_shown(site: Site) -> None:
    a_kept(site)
    store, now = WarmStore(site.parts.database), site.parts.now()
    [one] = store.unfinished()
    assert store.end(one, now)
    assert "being given back" in html(site, "/")
    store.gone(one, now)
    assert 'id="warm-section" hidden' in html(site, "/")


def test_without_warm_instances_the_section_is_hidden(site: Site) -> None:
    site.a_run()
    assert 'id="warm-section" hidden' in html(site, "/")


def test_the_run_that_keeps_and_the_run_that_takes_over_say_so(site: Site) -> None:
    first = a_kept(site)
    notice = "kept warm until"
    assert notice in html(site, f"/runs/{first}")
    assert any(notice in text for text in site.ask("GET", f"/api/v1/runs/{first}").json["notices"])
    second = site.a_run(repository_id=7, commit="d" * 40)
    site.order(second, **OF_L4, warm=f"cynthus-{first}-1", warm_run=first)
    page = html(site, f"/runs/{second}")
    assert f'kept warm by <a href="/runs/{first}">run {first}</a>' in page
    assert notice not in page
    [attempt] = site.ask("GET", f"/api/v1/runs/{second}").json["attempts"]
    assert attempt["warm_run"] == first
    assert 'id="warm-section" hidden' in html(site, "/")


def test_a_stranger_learns_of_no_warm_instance(guarded: Site) -> None:
    run_id = a_kept(guarded)
    answer = guarded.ask("GET", "/")
    assert answer.status == 303
    assert run_id not in answer.body.decode()


@pytest.fixture
def guarded(settings: Settings) -> Iterator[Site]:
    with open_site(replace(settings, api_token=Secret(TOKEN))) as opened:
        yield opened


def test_a_state_without_attempts_has_an_empty_table(site: Site) -> None:
    run_id = site.a_run()
    site.enter(run_id, State.QUEUED, "waiting")
    assert 'id="attempts-section" hidden' in html(site, f"/runs/{run_id}")
