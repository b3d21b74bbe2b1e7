"""The pages: whole without a script, safe with any text, closed to strangers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from urllib.parse import quote, urlencode

import pytest

from cynthus.codec import decode
from cynthus.wire import HoldView, RunView
from tests.doors.conftest import Answer, Site, open_site
from webhook_server.runs.model import Hold, Origin, State
from webhook_server.settings import Secret, Settings

TOKEN = "operator-token-0123456789abcdef"
HOSTILE = "<script>alert(1)</script>\x1b[31m\u202e\"'><img src=x onerror=alert(1)>"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
def guarded(settings: Settings) -> Iterator[Site]:
    with open_site(replace(settings, api_token=Secret(TOKEN))) as opened:
        yield opened


def form(site: Site, path: str, *, cookie: str = "", **fields: str) -> Answer:
    headers = FORM | ({"Cookie": cookie} if cookie else {})
    return site.ask("POST", path, body=urlencode(fields).encode(), headers=headers)


def form_token(page: Answer) -> str:
    found = re.search(r'name="form_token" value="([^"]+)"', page.body.decode())
    assert found
    return found[1]


def sign_in(site: Site, *, token: str = TOKEN, target: str = "/") -> Answer:
    page = site.ask("GET", f"/sign-in?next={quote(target, safe='')}")
    return form(site, "/sign-in", form_token=form_token(page), token=token, next=target)


def cookie_of(answer: Answer) -> str:
    return answer.headers["set-cookie"].partition(";")[0]


def test_a_runs_page_tells_everything_without_a_script(site: Site) -> None:
    agent = site.an_agent()
    agent.beat(
        ("log", {"text": "epoch 1\n"}),
        ("progress", {"value": 0.25}),
        ("phase", {"name": "train"}),
        ("metric", {"name": "loss", "step": 1, "value": 0.5}),
        ("sample", {"cpu_pct": 50.0, "memory_bytes": 1 << 30, "gpus": [{"utilization_pct": 97}]}),
        ("notice", {"text": "ran as a plain process"}),
    )
    site.enter(agent.run_id, State.RUNNING, "the agent is there")
    html = site.ask("GET", f"/runs/{agent.run_id}").body.decode()
    for told in (
        "digits",
        "running",
        "the agent is there",
        "epoch 1",
        "train",
        "25 %",
        "loss",
        "GPU 0",
        "97 %",
        "ran as a plain process",
        agent.instance,
        "Cancel run",
    ):
        assert told in html


def test_a_held_run_says_who_may_let_it_go_and_where_it_comes_from(site: Site) -> None:
    run_id = site.a_run()
    page = site.ask("GET", f"/runs/{run_id}").body.decode()
    assert re.search(r'id="hold"[^>]* hidden>', page)
    assert "Where it comes from" not in page
    hold = Hold(reasons=("it may cost <b>$9.00</b>",), cap_usd=Decimal(9), who="admin; or ada")
    origin = Origin(asked_by="bob", overrides=(("env.LR", "<i>"),), reproduces=site.a_run())
    site.enter(run_id, State.QUEUED, "it waits for approval", hold=hold, origin=origin)
    page = site.ask("GET", f"/runs/{run_id}").body.decode()
    assert not re.search(r'id="hold"[^>]* hidden>', page)
    assert "<b>$9.00" not in page
    for told in (
        "admin; or ada</span> may approve it on GitHub, up to",
        "$9.00</span>",
        "<dt>asked for by</dt><dd>bob</dd>",
        "<dd>env.LR=&lt;i&gt;</dd>",
        "<dt>reproduces</dt><dd>digits #",
    ):
        assert told in page
    view = decode(RunView, site.ask("GET", f"/api/v1/runs/{run_id}").json)
    assert view.hold == HoldView(reasons=hold.reasons, cap_usd=Decimal(9), who="admin; or ada")
    assert (view.asked_by, view.overrides) == ("bob", {"env.LR": "<i>"})


def test_what_the_newest_attempt_uses_is_summed_up(site: Site) -> None:
    agent = site.an_agent()
    agent.beat(*[("sample", {"gpus": [{"utilization_pct": busy}]}) for busy in (20, 40)])
    page = site.ask("GET", f"/runs/{agent.run_id}").body.decode()
    assert '<td>GPU 0 busy</td><td class="num">30 %</td><td class="num">40 %</td>' in page


def test_the_list_shows_runs_without_a_script(site: Site) -> None:
    run_id = site.a_run()
    html = site.ask("GET", "/").body.decode()
    assert f'href="/runs/{run_id}"' in html
    assert "acme/digits" in html


@pytest.mark.case("D4", "A10")
def test_hostile_text_is_only_text(site: Site) -> None:
    agent = site.an_agent()
    agent.beat(
        ("log", {"text": HOSTILE + "</pre>"}),
        ("phase", {"name": HOSTILE}),
        ("metric", {"name": "</script><script>alert(2)", "step": 1, "value": 1}),
        ("annotation", {"level": HOSTILE, "file": HOSTILE, "line": 1, "text": HOSTILE}),
        ("summary", {"text": HOSTILE}),
        ("notice", {"text": HOSTILE}),
    )
    html = site.ask("GET", f"/runs/{agent.run_id}").body.decode()
    assert "<script>alert" not in html
    assert "<img src=x" not in html
    assert "\x1b" not in html
    assert "&lt;script&gt;alert(1)" in html


@pytest.mark.case("D4")
def test_pages_load_nothing_from_outside_and_run_nothing_inline(site: Site) -> None:
    for path in ("/", f"/runs/{site.a_run()}", "/nodes", "/nothing"):
        answer = site.ask("GET", path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        html = answer.body.decode()
        assert not re.search(r"\son\w+=|\sstyle=|<style|src=\"(?!/)|href=\"https?:", html)
        assert not re.search(r"<script(?![^>]*(?:src=|application/json))", html)


@pytest.mark.parametrize("name", ["style.css", "live.js", "icon.svg"])
def test_static_files_are_kept_by_browsers(site: Site, name: str) -> None:
    answer = site.ask("GET", f"/static/{name}?v=1")
    assert answer.status == 200
    assert "immutable" in answer.headers["cache-control"]


@pytest.mark.parametrize("name", ["..%2fsettings.py", "%2e%2e/app.py", "nothing.css", "."])
def test_nothing_else_lies_under_static(site: Site, name: str) -> None:
    assert site.ask("GET", f"/static/{name}").status == 404


# ── forms ───────────────────────────────────────────────────────────────────────────────────────


def test_a_run_is_cancelled_from_its_page(site: Site) -> None:
    run_id = site.a_run()
    page = site.ask("GET", f"/runs/{run_id}")
    answer = form(site, f"/runs/{run_id}/cancel", form_token=form_token(page))
    assert (answer.status, answer.headers["location"]) == (303, f"/runs/{run_id}")
    assert site.parts.runs.wishes(run_id).cancel is not None


@pytest.mark.case("D1")
def test_a_form_that_is_not_from_our_page_is_refused(site: Site) -> None:
    run_id = site.a_run()
    for token in ("", "guess"):
        assert form(site, f"/runs/{run_id}/cancel", form_token=token).status == 403
    assert site.ask("GET", f"/runs/{run_id}/cancel").status == 405
    assert site.parts.runs.wishes(run_id).cancel is None


# ── signing in ──────────────────────────────────────────────────────────────────────────────────


def test_a_stranger_is_led_to_the_sign_in_page_and_back(guarded: Site) -> None:
    run_id = guarded.a_run()
    answer = guarded.ask("GET", f"/runs/{run_id}")
    assert answer.status == 303
    assert answer.headers["location"] == f"/sign-in?next=%2Fruns%2F{run_id}"
    signed = sign_in(guarded, target=f"/runs/{run_id}")
    assert (signed.status, signed.headers["location"]) == (303, f"/runs/{run_id}")
    cookie = cookie_of(signed)
    assert guarded.ask("GET", f"/runs/{run_id}", headers={"Cookie": cookie}).status == 200
    assert guarded.ask("GET", "/api/v1/runs", headers={"Cookie": cookie}).status == 200


@pytest.mark.case("D1")
def test_the_sessions_cookie_is_kept_from_scripts_and_other_sites(guarded: Site) -> None:
    told = sign_in(guarded).headers["set-cookie"].lower()
    assert "httponly" in told
    assert "samesite=lax" in told
    assert TOKEN not in told


def test_a_wrong_token_opens_nothing(guarded: Site) -> None:
    answer = sign_in(guarded, token="wrong-token-wrong-token-wrong")
    assert answer.status == 401
    assert "set-cookie" not in answer.headers


@pytest.mark.case("D6")
def test_a_session_that_a_visitor_brought_is_never_taken_over(guarded: Site) -> None:
    page = guarded.ask("GET", "/sign-in", headers={"Cookie": "cynthus_session=chosen"})
    signed = form(
        guarded,
        "/sign-in",
        cookie="cynthus_session=chosen",
        form_token=form_token(page),
        token=TOKEN,
    )
    assert signed.status == 303
    assert "chosen" not in signed.headers["set-cookie"]
    headers = {"Cookie": "cynthus_session=chosen"}
    assert guarded.ask("GET", "/api/v1/runs", headers=headers).status == 401


@pytest.mark.case("D6")
def test_after_signing_out_the_cookie_is_worth_nothing(guarded: Site) -> None:
    cookie = cookie_of(sign_in(guarded))
    page = guarded.ask("GET", "/", headers={"Cookie": cookie})
    assert form(guarded, "/sign-out", cookie=cookie, form_token=form_token(page)).status == 303
    assert guarded.ask("GET", "/api/v1/runs", headers={"Cookie": cookie}).status == 401


@pytest.mark.case("D1")
def test_a_cookie_alone_does_nothing_from_another_site(guarded: Site) -> None:
    cookie, run_id = cookie_of(sign_in(guarded)), guarded.a_run()
    headers = {"Cookie": cookie, "Origin": "https://evil.example"}
    assert guarded.ask("POST", f"/api/v1/runs/{run_id}/cancel", headers=headers).status == 403
    assert form(guarded, f"/runs/{run_id}/cancel", cookie=cookie, form_token="x").status == 403
    assert guarded.parts.runs.wishes(run_id).cancel is None


@pytest.mark.case("D1")
@pytest.mark.parametrize("path", ["/sign-in", "/sign-out"])
@pytest.mark.parametrize("sent", [{"Origin": "https://evil.example"}, {"Origin": "null"}])
def test_another_site_signs_nobody_in_or_out(
    guarded: Site, path: str, sent: dict[str, str]
) -> None:
    """A browser sends no cookie along then; the form's token is the one that every visitor gets."""
    token = form_token(guarded.ask("GET", "/sign-in"))
    body = urlencode({"form_token": token, "token": TOKEN, "next": "/"}).encode()
    answer = guarded.ask("POST", path, body=body, headers=FORM | sent)
    assert answer.status == 403
    assert "set-cookie" not in answer.headers


@pytest.mark.case("D2")
@pytest.mark.parametrize(
    "target",
    ["//evil.example", "/\\evil.example", "https://evil.example", "\\\\evil", "/\t/evil", ""],
)
def test_signing_in_leads_nowhere_else(guarded: Site, target: str) -> None:
    assert sign_in(guarded, target=target).headers["location"] == "/"


@pytest.mark.case("D6")
def test_a_new_token_ends_all_sessions(settings: Settings) -> None:
    with open_site(replace(settings, api_token=Secret(TOKEN))) as site:
        cookie = cookie_of(sign_in(site))
    with open_site(replace(settings, api_token=Secret(TOKEN + "2"))) as site:
        assert site.ask("GET", "/api/v1/runs", headers={"Cookie": cookie}).status == 401
