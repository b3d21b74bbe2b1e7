"""The dashboard in a real browser: a run goes live before one's eyes, without a reload."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.browser_fixture import NEEDS_CHROMIUM, chromium, take_picture
from tests.doors.conftest import Site
from webhook_server.runs.model import Outcome, State

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WAIT_MS = 60_000  # as Playwright's other waits: a busy machine draws a chart a second
pytestmark = [pytest.mark.browser, NEEDS_CHROMIUM]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser: its start takes a second of processor, a context of one's own next to none."""
    with chromium() as browser:
        yield browser


@pytest.fixture(params=["light", "dark"])
def page(request: pytest.FixtureRequest, browser: Browser, site: Site) -> Iterator[Page]:
    """A page that may talk to the server alone and whose script may not fail."""
    faults: list[str] = []
    foreign: list[str] = []
    context = browser.new_context(
        color_scheme=request.param, viewport={"width": 1280, "height": 1000}
    )
    page = context.new_page()
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
    page.on("request", lambda r: foreign.append(r.url) if not r.url.startswith(site.url) else None)
    yield page
    context.close()
    assert faults == []
    assert foreign == []


def test_a_run_goes_live_without_a_reload(site: Site, page: Page) -> None:
    look = (
        "dark" if page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") else "light"
    )
    run_id = site.a_run()
    page.goto(f"{site.url}/runs/{run_id}")
    page.evaluate("window.sameDocument = true")
    page.locator("#live-text").wait_for(state="visible")
    agent = site.an_agent(run_id)
    site.enter(run_id, State.RUNNING, "running on this machine")
    page.locator(".pill.running").wait_for()
    for n in range(30):
        agent.beat(
            ("log", {"text": f"epoch {n}: loss \x1b[32m{1 / (n + 1):.4f}\x1b[0m <b>plain</b>\n"}),
            ("metric", {"name": "loss", "step": n, "value": 1 / (n + 1)}),
            ("metric", {"name": "accuracy", "step": n, "value": 1 - 0.7 / (n + 1)}),
            ("progress", {"value": (n + 1) / 40}),
            ("phase", {"name": "train"}),
            (
                "sample",
                {
                    "cpu_pct": 40 + n % 7,
                    "memory_bytes": (8 << 30) + n * (1 << 26),
                    "gpus": [{"utilization_pct": 90 + n % 9, "memory_bytes": 18 << 30}],
                },
            ),
        )
    from playwright.sync_api import expect

    log = page.locator("#log")
    expect(log).to_contain_text("epoch 29", timeout=WAIT_MS)
    assert "<b>plain</b>" in (log.text_content() or "")
    assert "\x1b" not in (log.text_content() or "")
    expect(page.locator("#charts svg").nth(4)).to_be_attached(timeout=WAIT_MS)
    expect(page.locator("#percent")).to_have_text("75 %", timeout=WAIT_MS)
    take_picture(page, f"run-live-{look}.png")
    finish(site, run_id)
    page.locator(".pill.succeeded").wait_for()
    assert page.locator("#cancel").is_hidden()
    assert page.evaluate("window.sameDocument") is True
    take_picture(page, f"run-finished-{look}.png", whole=True)


def test_the_list_follows_the_runs_without_a_reload(site: Site, page: Page) -> None:
    look = (
        "dark" if page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") else "light"
    )
    first = site.a_run(commit="a" * 40)
    page.goto(site.url)
    page.evaluate("window.sameDocument = true")
    second = site.an_agent(commit="b" * 40).run_id
    page.locator(f"[data-run={second}]").wait_for()
    site.enter(second, State.RUNNING, "running on this machine")
    page.locator(f"[data-run={second}] .pill.running").wait_for()
    finish(site, first)
    page.locator(f"[data-run={first}] .pill.succeeded").wait_for()
    assert page.evaluate("window.sameDocument") is True
    assert page.locator("[data-tally=running]").text_content() == "1"
    take_picture(page, f"runs-{look}.png")


def test_one_rank_of_a_gang_is_followed_live(site: Site, page: Page) -> None:
    from playwright.sync_api import expect

    first, second = site.a_gang()
    page.goto(f"{site.url}/runs/{first.run_id}")
    page.get_by_role("link", name="rank 1").click()
    page.locator("#live-text").wait_for(state="visible")
    log = page.locator("#log")
    first.beat(("log", {"text": "loss of rank nought\n"}))
    second.beat(("log", {"text": "loss of rank one\n"}), ("notice", {"text": "look again"}))
    expect(log).to_have_text("loss of rank one", timeout=WAIT_MS)
    # The table is drawn anew by the script: as the server wrote it, but for the moment's words.
    page.locator("#notices li").wait_for()
    attempts = page.locator("#attempts")
    expect(attempts.get_by_role("cell").nth(2)).to_have_text(
        re.compile("2 . docker"), timeout=WAIT_MS
    )
    expect(attempts).to_contain_text("$0.71/h each", timeout=WAIT_MS)
    attempts.get_by_text("boot").click()
    expect(attempts.get_by_text("first beat")).to_be_visible(timeout=WAIT_MS)
    take_picture(page, "run-gang.png", whole=True)


def test_a_warm_instance_comes_onto_the_list(site: Site, page: Page) -> None:
    from playwright.sync_api import expect

    run_id = site.a_run(repository_id=7)
    site.order(run_id, machine="g2-standard-4", place="us-central1-a", gpu_type="l4", gpu_count=1)
    page.goto(site.url)
    expect(page.locator(f"[data-run={run_id}] .pill.provisioning")).to_be_visible()
    expect(page.locator("#warm-section")).to_be_hidden()
    # Two looks at the list: the second of them has something to compare with.
    site.enter(run_id, State.RUNNING, "running")
    page.locator(f"[data-run={run_id}] .pill.running").wait_for()
    site.keep_warm(run_id, timedelta(minutes=20))
    warm = page.locator("#warm")
    expect(warm).to_contain_text("g2-standard-4, 1 l4", timeout=WAIT_MS)
    expect(warm).to_contain_text("in 20 min")
    expect(page.locator(f"[data-run={run_id}] .num")).to_have_text("$0.00")
    take_picture(page, "runs-warm.png")


def test_a_person_cancels_a_run_with_a_click(site: Site, page: Page) -> None:
    run_id = site.a_run()
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(f"{site.url}/runs/{run_id}")
    page.get_by_role("button", name="Cancel run").click()
    page.wait_for_url(f"{site.url}/runs/{run_id}")
    assert site.parts.runs.wishes(run_id).cancel is not None


def finish(site: Site, run_id: str) -> None:
    site.enter(
        run_id,
        State.FINISHED,
        "the command succeeded",
        outcome=Outcome.SUCCEEDED,
        finished_at=site.parts.now(),
    )
