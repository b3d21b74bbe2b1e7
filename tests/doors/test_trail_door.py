"""The trail at its doors: whole for the operator, a run's own lines for who holds its token."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from cynthus.cli import run as cynthus
from cynthus.client import Client
from tests.doors.conftest import Answer, Site, open_site
from tests.doors.test_client_door import Jobs, submit
from tests.doors.test_dashboard import FORM, HOSTILE, TOKEN, cookie_of, form, form_token, sign_in
from webhook_server.auth.tokens import run_token
from webhook_server.runs.trail import Deed, DeedVerb
from webhook_server.settings import Secret, Settings
from webhook_server.stores.repository_store import Repository
from webhook_server.stores.trail_store import TrailStore


@pytest.fixture
def guarded(settings: Settings) -> Iterator[Site]:
    with open_site(replace(settings, api_token=Secret(TOKEN)), Jobs()) as opened:
        yield opened


def lines(answer: Answer) -> list[dict[str, Any]]:
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    return [json.loads(text) for text in answer.body.splitlines()]


def a_push(site: Site) -> str:
    push = {"repository_id": 7, "trigger": "push", "event": "push"}
    return str(submit(site, token="good.token.here", **push).json["run_id"])


def test_a_jobs_start_names_its_token_its_commit_and_its_door(guarded: Site) -> None:
    run_id = a_push(guarded)
    start = lines(guarded.ask("GET", "/api/v1/trail?verb=start", token=TOKEN))[-1]
    assert start["run_id"] == run_id
    assert start["actor"] == {"kind": "job", "name": "ada", "id": None}
    assert start["source"] == "POST /api/v1/runs acme/digits"
    assert start["proof"]["means"] == "token"
    assert start["proof"]["ref"] == "jti-1"
    assert start["proof"]["sha"] == start["after"]["commit_sha"]
    assert "once" not in start


def test_a_strangers_request_sees_nothing(guarded: Site) -> None:
    run_id = a_push(guarded)
    other = run_token(guarded.parts.server_key, "another00001", guarded.parts.now())
    for path in ("/api/v1/trail", f"/api/v1/trail?run={run_id}"):
        assert guarded.ask("GET", path).status == 401
        assert guarded.ask("GET", path, token=other).status == 401


def test_the_holder_of_a_runs_token_sees_that_run_only(guarded: Site) -> None:
    run_id, other = a_push(guarded), guarded.a_run()
    now = guarded.parts.now()
    token = run_token(guarded.parts.server_key, run_id, now + timedelta(hours=1))
    found = lines(guarded.ask("GET", f"/api/v1/trail?run={run_id}", token=token))
    assert {line["run_id"] for line in found} == {run_id}
    assert guarded.ask("GET", f"/api/v1/trail?run={other}", token=token).status == 401
    assert guarded.ask("GET", "/api/v1/trail", token=token).status == 401


def test_a_cancel_names_who_asked_by_which_token(guarded: Site) -> None:
    run_id, other = a_push(guarded), guarded.a_run()
    now = guarded.parts.now()
    token = run_token(guarded.parts.server_key, run_id, now + timedelta(hours=1))
    assert guarded.ask("POST", f"/api/v1/runs/{run_id}/cancel", token=token).status == 202
    assert guarded.ask("POST", f"/api/v1/runs/{other}/cancel", token=TOKEN).status == 202
    found = lines(guarded.ask("GET", "/api/v1/trail?verb=cancel", token=TOKEN))
    told = {line["run_id"]: (line["actor"]["kind"], line["proof"]["means"]) for line in found}
    assert told == {run_id: ("job", "run_token"), other: ("operator", "operator")}


def test_signing_in_and_out_is_kept_without_the_session_itself(guarded: Site) -> None:
    cookie = cookie_of(sign_in(guarded))
    page = guarded.ask("GET", "/", headers={"Cookie": cookie})
    assert form(guarded, "/sign-out", cookie=cookie, form_token=form_token(page)).status == 303
    answer = guarded.ask("GET", "/api/v1/trail", token=TOKEN)
    assert [line["verb"] for line in lines(answer)] == ["sign_in", "sign_out"]
    assert cookie.partition("=")[2] not in answer.body.decode()


def test_filters_by_repository_name_person_and_time(guarded: Site) -> None:
    run_id = a_push(guarded)
    guarded.a_run()
    now = guarded.parts.now()
    vision = Repository(
        id=7, owner_id=41, full_name="Acme/Digits", default_branch="main", installation_id=None
    )
    from webhook_server.stores.repository_store import RepositoryStore

    RepositoryStore(guarded.parts.database).upsert(vision, now)
    for query in ("repository=acme/digits", "repository=7", "actor=ADA", f"run={run_id}"):
        found = lines(guarded.ask("GET", f"/api/v1/trail?{query}", token=TOKEN))
        assert {line["run_id"] for line in found} == {run_id}
    assert lines(guarded.ask("GET", "/api/v1/trail?since=2999-01-01", token=TOKEN)) == []


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("verb=burn", "verb: should be one of"),
        ("since=tomorrow", "since: should be a date"),
        ("repository=no/such", "repository: should be one"),
    ],
)
def test_a_filter_that_cannot_be_read_is_refused(guarded: Site, query: str, place: str) -> None:
    answer = guarded.ask("GET", f"/api/v1/trail?{query}", token=TOKEN)
    assert answer.status == 422
    assert answer.fault.startswith(place)


def test_the_page_shows_the_lines_and_escapes_what_people_wrote(guarded: Site) -> None:
    run_id = a_push(guarded)
    hostile = Deed(verb=DeedVerb.ASK, done=False, text=HOSTILE, subject=HOSTILE)
    TrailStore(guarded.parts.database).tell(hostile, guarded.parts.now())
    cookie = {"Cookie": cookie_of(sign_in(guarded))}
    page = guarded.ask("GET", "/trail", headers=cookie)
    text = page.body.decode()
    assert page.status == 200
    assert f"/runs/{run_id}" in text
    assert "jti-1" in text
    assert "refused" in text
    assert "<script>alert" not in text
    assert "\u202e" not in text
    assert guarded.ask("GET", "/trail").status == 303  # to sign in
    own = guarded.ask("GET", f"/runs/{run_id}", headers=cookie).body.decode()
    assert "Trail" in own
    assert "jti-1" in own


def test_older_lines_are_a_link_that_keeps_the_filter(guarded: Site) -> None:
    store, now = TrailStore(guarded.parts.database), guarded.parts.now()
    for number in range(101):
        store.tell(Deed(verb=DeedVerb.ASK, text=f"number {number:03}"), now)
    cookie = {"Cookie": cookie_of(sign_in(guarded))}
    first = guarded.ask("GET", "/trail?verb=ask", headers=cookie).body.decode()
    assert "number 100" in first
    assert "number 000" not in first
    link = first.partition('class="button" href="')[2].partition('"')[0].replace("&amp;", "&")
    assert "verb=ask" in link
    assert "number 000" in guarded.ask("GET", link, headers=cookie).body.decode()


def test_the_command_line_prints_every_page(
    guarded: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = a_push(guarded)
    client = Client(guarded.url, TOKEN)
    assert [line["verb"] for line in client.trail({"run": run_id})] == ["start", "image"]
    monkeypatch.setenv("CYNTHUS_TOKEN", TOKEN)
    words = ["trail", "--server", guarded.url, "--repository", "7"]
    assert cynthus(words) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert f"ada  start  run {run_id}" in first
    assert "token jti-1" in first
    assert "ada  image" in second
    assert cynthus([*words, "--json"]) == 0
    assert [json.loads(text)["seq"] for text in capsys.readouterr().out.splitlines()] == [1, 2]


def test_the_form_of_the_page_is_not_for_strangers(guarded: Site) -> None:
    assert guarded.ask("POST", "/trail", body=b"", headers=FORM).status == 405
