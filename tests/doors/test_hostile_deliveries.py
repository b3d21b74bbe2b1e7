"""Deliveries and tokens made to do harm, over real doors, on either database."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jwt
import pytest
from sqlalchemy import select

from tests.doors.app_key import WEBHOOK_SECRET, app_settings
from tests.doors.conftest import IMAGE, SPEC, Answer, Site, open_site
from tests.doors.test_authority import COMMIT, OURS, gate
from tests.postgres_fixture import a_database, a_server
from tests.unit.test_intents import EVERYTHING, SAMPLES, with_value
from tests.unit.test_oidc import claims, key
from webhook_server.settings_reader import read
from webhook_server.stores.delivery_store import DeliveryState
from webhook_server.stores.tables import deliveries

# What databases, parsers and logs would each stumble over; one after the other in every member.
HOSTILE: tuple[Any, ...] = (
    "\x00",
    "\ud800",
    "\u202e\u2066x\x1b[31m",
    "'; DROP TABLE runs; --",
    "{{7*7}}${7*7}%s%n",
    "../" * 40 + "etc/passwd",
    "A" * 70_000,
    2**63,
    -(2**65),
    float("nan"),
    [[[[]]]],
)
WHOLE = (
    b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    b'{"n":' + b"9" * 6000 + b"}",
    b'{"repository":{"id":36893488147419103232}}',
    b'{"\\u0000":"\\ud800"}',
)


@pytest.fixture(scope="module")
def postgres_server() -> Iterator[str]:
    with a_server() as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    settings = {"CYNTHUS_STATE_DIR": str(tmp_path / "state"), "CYNTHUS_PORT": "0"}
    settings |= app_settings() | {"CYNTHUS_ALLOWED": "99"}
    if request.param == "postgres":
        settings["CYNTHUS_DATABASE_URL"] = a_database(request.getfixturevalue("postgres_server"))
    with open_site(read(settings), with_github=True) as opened:
        yield opened


def deliver(
    site: Site, number: int, event: str, body: bytes, *, secret: str = WEBHOOK_SECRET
) -> int:
    digest = hmac.new(secret.encode(), body, "sha256").hexdigest()
    headers = {
        "Content-Type": "application/json",
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": f"hostile-{number}",
        "X-Hub-Signature-256": f"sha256={digest}",
    }
    return site.ask("POST", "/webhooks/github", body=body, headers=headers).status


def hostile_bodies() -> Iterator[tuple[str, bytes]]:
    """Yield an event and a body: each member once, each hostile value in its turn."""
    for number, (event, path) in enumerate(EVERYTHING):
        value = HOSTILE[number % len(HOSTILE)]
        yield event, json.dumps(with_value(SAMPLES[event], path, value)).encode()
    yield from (("push", body) for body in WHOLE)


@pytest.mark.case("W14", "W15", "W17")
def test_a_signed_body_of_any_content_is_kept_looked_at_and_over(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """None is a fault of ours, none stays behind to be tried again, none names another's file."""
    sent = list(hostile_bodies())
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: deliver(site, n, *sent[n]), range(len(sent))))
    assert set(answers) == {202}
    assert site.github is not None
    while not over(site):
        site.github.inbox.step()
    states = rows(site)
    assert set(states) <= {DeliveryState.IGNORED.value, DeliveryState.DONE.value}
    assert len(states) == len(sent)
    assert site.parts.runs.is_empty()
    assert [r.getMessage() for r in caplog.records if r.levelname == "ERROR"] == []


@pytest.mark.case("W21")
def test_while_the_secret_is_replaced_both_are_good_and_no_third(tmp_path: Path) -> None:
    new, old = "n" * 32, WEBHOOK_SECRET
    settings = {"CYNTHUS_STATE_DIR": str(tmp_path / "state"), "CYNTHUS_PORT": "0"}
    settings |= app_settings() | {"CYNTHUS_ALLOWED": "99"}
    for accepted, told in ((f"{new},{old}", [202, 202, 401]), (new, [202, 401, 401])):
        both = settings | {"CYNTHUS_WEBHOOK_SECRET": accepted}
        with open_site(read(both), with_github=True) as site:
            secrets = (new, old, f"{new},{old}")
            found = [
                deliver(site, number, "push", b"{}", secret=secret)
                for number, secret in enumerate(secrets)
            ]
            assert found == told


def over(site: Site) -> bool:
    return DeliveryState.PENDING.value not in rows(site)


def rows(site: Site) -> list[str]:
    with site.parts.database.read() as connection:
        return list(connection.scalars(select(deliveries.c.state)))


# ── one token, two replicas ─────────────────────────────────────────────────────────────────────


@pytest.fixture
def two_sites(postgres_server: str, tmp_path: Path) -> Iterator[tuple[Site, Site]]:
    url = a_database(postgres_server)

    def settings(name: str) -> dict[str, str]:
        return {
            "CYNTHUS_STATE_DIR": str(tmp_path / name),
            "CYNTHUS_PORT": "0",
            "CYNTHUS_API_TOKEN": "operator-token-0123456789abcdef",
            "CYNTHUS_SERVER_KEY": "5e" * 32,
            "CYNTHUS_DATABASE_URL": url,
        }

    with (
        open_site(read(settings("one")), gate()) as one,
        open_site(read(settings("two")), gate()) as two,
    ):
        yield one, two


def job_token(site: Site, jti: str) -> str:
    now = int(site.parts.now().timestamp())
    told = claims(iat=now, nbf=now - 60, exp=now + 300, sha=COMMIT, jti=jti)
    return str(jwt.encode(told, key(), algorithm="RS256", headers={"kid": "k1"}))


def run_request() -> dict[str, Any]:
    return {
        "repository_id": OURS,
        "repository": "acme/digits",
        "commit_sha": COMMIT,
        "ref": "refs/heads/main",
        "event": "push",
        "trigger": "push",
        "spec_path": "cynthus.yaml",
        "spec_text": SPEC,
        "image": IMAGE,
    }


def together(asks: list[Callable[[], Answer]]) -> list[Answer]:
    with ThreadPoolExecutor(len(asks)) as pool:
        return [found.result(60) for found in [pool.submit(ask) for ask in asks]]


@pytest.mark.postgres
@pytest.mark.case("O9", "O22")
def test_one_token_at_two_replicas_at_once_is_taken_once(two_sites: tuple[Site, Site]) -> None:
    token = job_token(two_sites[0], "shown-to-both")

    def asking(site: Site) -> Callable[[], Answer]:
        return lambda: site.ask("POST", "/api/v1/runs", value=run_request(), token=token)

    answers = together([asking(site) for site in two_sites * 5])
    assert sorted(answer.status for answer in answers) == [202] + [401] * 9
    accepted = next(answer.json for answer in answers if answer.status == 202)
    for site in two_sites:  # what one of them gave out is good at the other, for this run alone
        mine = f"/api/v1/runs/{accepted['run_id']}"
        assert site.ask("GET", mine, token=accepted["token"]).status == 200
        other = site.a_run()
        assert site.ask("GET", f"/api/v1/runs/{other}", token=accepted["token"]).status == 401


@pytest.mark.postgres
@pytest.mark.case("A21", "R4")
def test_of_two_agents_at_two_replicas_one_gets_the_attempt(two_sites: tuple[Site, Site]) -> None:
    one, two = two_sites
    instance = one.order(one.a_run())

    def asking(site: Site, nonce: str) -> Callable[[], Answer]:
        return lambda: site.enrol(instance, nonce=nonce)

    answers = together([asking(site, n * 32) for n in "abcd" for site in (one, two)])
    won = [answer for answer in answers if answer.status == 200]
    assert {answer.status for answer in answers} == {200, 409}
    assert len({answer.json["token"] for answer in won}) == 1
