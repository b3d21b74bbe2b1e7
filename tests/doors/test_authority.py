"""Every door, everybody: what is another repository's is refused like what does not exist."""

from __future__ import annotations

import http.client
import itertools
import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from typing import Any
from urllib.parse import urlencode

import jwt
import pytest
from fastapi import APIRouter, FastAPI
from starlette.routing import Route

from cynthus.wire_data import Dataset, SourceKind
from tests.doors.app_key import app_settings
from tests.doors.conftest import IMAGE, NONCE, SPEC, Agent, Answer, Site, open_site
from tests.unit.test_oidc import ISSUER, Issuer, claims, key
from webhook_server.auth.allowed import Allowed
from webhook_server.auth.oidc import Caller, OidcVerifier, PullHead
from webhook_server.auth.tokens import form_token, run_token
from webhook_server.ground import clock
from webhook_server.routes.access import SESSION_COOKIE
from webhook_server.routes.jobs import GithubJobs
from webhook_server.runs.data_cache import Scope
from webhook_server.settings_reader import read
from webhook_server.stores.data_store import DataStore
from webhook_server.stores.repository_store import Repository, RepositoryStore

OPERATOR = "operator-token-0123456789abcdef"
OURS, THEIRS, NOBODYS = 41, 42, 43  # repositories: the asker's, another's, one that is not known
COMMIT = "c" * 40
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}
REFUSALS = {401, 403, 404, 410}
JOBS_WORKFLOW_RUN = "https://github.com/{}/actions/runs/900"


# ── what is asked for, and who asks ─────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class Thing:
    """What belongs to one repository, as an address or a body names it."""

    repository_id: int
    repository: str
    run_id: str
    instance: str


@dataclass(frozen=True)
class Ask:
    """A request, but for who sends it."""

    path: str
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class World:
    """A guarded server with two repositories, each with a run and an agent."""

    site: Site
    ours: Agent
    theirs: Agent

    @cached_property
    def things(self) -> dict[str, Thing]:
        def thing(repository_id: int, repository: str, run_id: str, instance: str) -> Thing:
            return Thing(
                repository_id=repository_id,
                repository=repository,
                run_id=run_id,
                instance=instance,
            )

        return {
            "ours": thing(OURS, "acme/digits", self.ours.run_id, self.ours.instance),
            "theirs": thing(THEIRS, "other/digits", self.theirs.run_id, self.theirs.instance),
            "nobody's": thing(NOBODYS, "nobody/digits", "q" * 12, f"cynthus-{'q' * 12}-1"),
        }

    def headers(self, who: str) -> dict[str, str]:
        """Return what proves who somebody is."""
        return PEOPLE[who](self)

    def status(self, who: str, door: str, thing: Thing) -> int:
        """Return the status alone: the end of a stream is not waited for."""
        ask = DOORS[door].ask(thing)
        connection = http.client.HTTPConnection("127.0.0.1", self.site.port, timeout=60)
        try:
            headers = {**ask.headers, **self.headers(who)}
            connection.request(door.partition(" ")[0], ask.path, ask.body, headers)
            return connection.getresponse().status
        finally:
            connection.close()

    def send(self, who: str, door: str, thing: Thing) -> Answer:
        method = door.partition(" ")[0]
        ask = DOORS[door].ask(thing)
        return self.site.ask(
            method, ask.path, body=ask.body, headers={**ask.headers, **self.headers(who)}
        )


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


_jobs_tokens = itertools.count()


def _job(world: World) -> dict[str, str]:
    now = int(world.site.parts.now().timestamp())
    told = claims(
        iat=now, nbf=now - 60, exp=now + 300, sha=COMMIT, jti=f"a-job-token-{next(_jobs_tokens)}"
    )
    return _bearer(jwt.encode(told, key(), algorithm="RS256", headers={"kid": "k1"}))


def _run_token(world: World) -> dict[str, str]:
    until = world.site.parts.now() + timedelta(days=1)
    return _bearer(run_token(world.site.parts.server_key, world.ours.run_id, until))


def _other_site(world: World) -> dict[str, str]:
    """The operator's browser, as a page of somebody else makes it send a request."""
    session = world.site.parts.sessions.open(OPERATOR)
    return {"Cookie": f"{SESSION_COOKIE}={session}", "Origin": "https://evil.example"}


PEOPLE: dict[str, Callable[[World], dict[str, str]]] = {
    "nobody": lambda _: {},
    "a guesser": lambda _: _bearer("guess-guess-guess-guess-guess"),
    "a forger": lambda _: _bearer("cyr_" + "q" * 12 + ".9999999999.forged"),
    "who forwards": lambda _: {"X-Forwarded-For": "127.0.0.1", "Forwarded": "for=127.0.0.1"},
    "the run": _run_token,
    "the agent": lambda world: _bearer(world.ours.token),
    "the job": _job,
    "another site": _other_site,
    "the operator": lambda _: _bearer(OPERATOR),
}
EVERYBODY = frozenset(PEOPLE)


# ── the doors ───────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class DoorRule:
    """Who may ask what at one door."""

    ask: Callable[[Thing], Ask]
    may: frozenset[str] = frozenset()  # whatever it is about
    may_own: frozenset[str] = frozenset()  # about what is theirs
    about: bool = True  # whether the request names what it is about
    also: frozenset[int] = frozenset()  # a refusal of this door alone
    granted: int = 200


def _json(path: str, /, **members: Any) -> Ask:
    return Ask(path, json.dumps(members).encode(), JSON)


def _form(path: str, /, **fields: str) -> Ask:
    return Ask(path, urlencode(fields).encode(), FORM)


def get(path: str) -> Callable[[Thing], Ask]:
    """Return the request of an address that names a run or nothing."""
    return lambda thing: Ask(path.format(run_id=thing.run_id, repository_id=thing.repository_id))


def _run_request(thing: Thing) -> Ask:
    return _json(
        "/api/v1/runs",
        repository_id=thing.repository_id,
        repository=thing.repository,
        commit_sha=COMMIT,
        ref="refs/heads/main",
        event="push",
        trigger="push",
        spec_path="cynthus.yaml",
        spec_text=SPEC,
        image=IMAGE,
    )


def _enrolment(thing: Thing) -> Ask:
    return _json(
        "/agent/v1/enrol",
        instance=thing.instance,
        secret="cye_guess",
        nonce="f" * 32,
        agent_version="0.1.0",
        facts={"engine": "docker", "cpu_count": 1, "memory_bytes": 1, "disk_free_bytes": 1},
    )


def _upload(_: Thing) -> Ask:
    return _json("/agent/v1/uploads", path="outputs/a", size_bytes=1, sha256="a" * 64)


def data_key(repository_id: int) -> str:
    """Return the key of the data that a repository's run has."""
    return f"{repository_id:064x}"


def _of_data(path: str, **more: Any) -> Callable[[Thing], Ask]:
    return lambda thing: _json(path, key=data_key(thing.repository_id), **more)


def _beat(_: Thing) -> Ask:
    return _json("/agent/v1/heartbeat", seq=1, sent_at="2026-01-31T12:00:00Z", state="running")


def _page_form(path: str) -> Callable[[Thing], Ask]:
    """Return a form with the token that every visitor is given: it must not be what lets in."""
    return lambda thing: _form(
        path.format(run_id=thing.run_id), form_token=_visitors_token(), token="guess", next="/"
    )


SERVER_KEY = "5e" * 32


def _visitors_token() -> str:
    return form_token(bytes.fromhex(SERVER_KEY), "this machine")


READERS = frozenset({"the run"})
BROWSER = frozenset({"the operator", "another site"})  # a GET of another site reads nothing there


def _public(path: str, **more: Any) -> DoorRule:
    return DoorRule(ask=get(path), may=EVERYBODY, about=False, **more)


def _operators(ask: Callable[[Thing], Ask], **more: Any) -> DoorRule:
    return DoorRule(ask=ask, may=frozenset({"the operator"}), about=False, **more)


def _operators_get(path: str, **more: Any) -> DoorRule:
    return DoorRule(ask=get(path), may=BROWSER, about=False, **more)


def _operators_page(path: str, **more: Any) -> DoorRule:
    """A page: strangers are led to where they sign in, whatever it is about."""
    return DoorRule(ask=get(path), may=BROWSER, also=frozenset({303}), **more)


DOORS: dict[str, DoorRule] = {
    # GitHub's own door: a signature over the body, and nothing else, opens it.
    "POST /webhooks/github": DoorRule(
        ask=lambda thing: Ask(
            "/webhooks/github",
            json.dumps({"repository": {"id": thing.repository_id}}).encode(),
            JSON | {"X-GitHub-Event": "push", "X-GitHub-Delivery": "0123-4567"},
        ),
    ),
    "GET /healthz": _public("/healthz"),
    "GET /readyz": _public("/readyz"),
    "GET /agent.pyz": _public("/agent.pyz"),
    "GET /static/{name}": _public("/static/style.css"),
    "GET /sign-in": _public("/sign-in"),
    "GET /api/v1/signing-key": _public("/api/v1/signing-key", granted=404),  # nothing is signed
    "POST /sign-in": DoorRule(ask=_page_form("/sign-in"), about=False),
    "POST /sign-out": DoorRule(
        ask=_page_form("/sign-out"), may=EVERYBODY - {"another site"}, about=False, granted=303
    ),
    # the operator's
    "GET /metrics": _operators_get("/metrics"),
    "GET /api/v1/runs": _operators_get("/api/v1/runs"),
    "GET /api/v1/openapi.json": _operators_get("/api/v1/openapi.json"),
    "GET /api/v1/doctor": _operators_get("/api/v1/doctor"),
    "GET /api/v1/audit": _operators_get("/api/v1/audit", granted=503),  # no provider here
    "POST /api/v1/audit/sweep": _operators(
        lambda thing: _json("/api/v1/audit/sweep", names=[thing.instance], count=1), granted=503
    ),
    "POST /api/v1/plan": _operators(
        lambda thing: _json(
            "/api/v1/plan",
            repository_id=thing.repository_id,
            repository=thing.repository,
            spec_path="cynthus.yaml",
            spec_text=SPEC,
        ),
        granted=503,
    ),
    "POST /api/v1/runs/cancel": _operators(
        lambda thing: Ask(f"/api/v1/runs/cancel?repository_id={thing.repository_id}"), granted=202
    ),
    "GET /": _operators_page("/"),
    "GET /trail": _operators_page("/trail?run={run_id}"),
    "GET /nodes": _operators_page("/nodes"),
    "GET /runs/{run_id}": _operators_page("/runs/{run_id}"),
    "GET /setup": _operators_page("/setup"),
    "GET /setup/callback": _operators_page("/setup/callback?code=x&state=y", granted=303),
    "POST /setup": _operators(_page_form("/setup"), granted=303),  # there is an App already
    "POST /runs/{run_id}/cancel": _operators(_page_form("/runs/{run_id}/cancel"), granted=303),
    # a run's
    **{
        f"GET /api/v1/runs/{{run_id}}{part}": DoorRule(
            ask=get(f"/api/v1/runs/{{run_id}}{part}"), may=BROWSER, may_own=READERS
        )
        for part in ("", "/events", "/log", "/outputs")
    },
    "GET /api/v1/runs/{run_id}/stream": DoorRule(
        ask=get("/api/v1/runs/{run_id}/stream"), may=BROWSER, may_own=READERS
    ),
    "GET /api/v1/trail": DoorRule(
        ask=get("/api/v1/trail?run={run_id}"), may=BROWSER, may_own=READERS
    ),
    "POST /api/v1/runs/{run_id}/cancel": DoorRule(
        ask=get("/api/v1/runs/{run_id}/cancel"),
        may=frozenset({"the operator"}),
        may_own=READERS,
        granted=202,
    ),
    # a workflow job's
    "POST /api/v1/runs": DoorRule(ask=_run_request, may_own=frozenset({"the job"}), granted=202),
    "GET /api/v1/locks": DoorRule(
        ask=get(f"/api/v1/locks?commit={COMMIT}&spec=a&repository_id={{repository_id}}"),
        may=BROWSER,
        may_own=frozenset({"the job"}),
        granted=404,  # none was kept
    ),
    "GET /api/v1/images": DoorRule(
        ask=get("/api/v1/images?repository_id={repository_id}"),
        may=BROWSER,
        may_own=frozenset({"the job"}),
    ),
    "POST /api/v1/build-leases": DoorRule(
        ask=lambda thing: _json(
            "/api/v1/build-leases", key="d" * 32, holder=JOBS_WORKFLOW_RUN.format(thing.repository)
        ),
        may=frozenset({"the operator"}),
        may_own=frozenset({"the job"}),
    ),
    # an agent's
    "POST /agent/v1/enrol": DoorRule(ask=_enrolment),
    "POST /agent/v1/heartbeat": DoorRule(
        ask=_beat, may_own=frozenset({"the agent"}), about=False
    ),
    "POST /agent/v1/uploads": DoorRule(
        ask=_upload, may_own=frozenset({"the agent"}), about=False
    ),
    # The agent is let in, and told that its run's spec names no folder.
    "POST /agent/v1/checkpoints/blobs": DoorRule(
        ask=lambda _: _json("/agent/v1/checkpoints/blobs", blobs=[]),
        may_own=frozenset({"the agent"}),
        about=False,
        granted=422,
    ),
    "POST /agent/v1/checkpoints": DoorRule(
        ask=lambda _: _json("/agent/v1/checkpoints", files=[], saved_at="2026-01-31T12:00:00Z"),
        may_own=frozenset({"the agent"}),
        about=False,
        granted=422,
    ),
    "POST /agent/v1/checkpoints/latest": DoorRule(
        ask=lambda _: _json("/agent/v1/checkpoints/latest"),
        may_own=frozenset({"the agent"}),
        about=False,
        granted=422,
    ),
    "POST /agent/v1/next": DoorRule(
        ask=lambda thing: _json("/agent/v1/next", instance=thing.instance, nonce=NONCE),
        may_own=frozenset({"the agent"}),
        also=frozenset({204}),  # "ask again later", as to the agent's own: nothing is told
        granted=204,
    ),
    **{
        f"POST /agent/v1/data/{verb}": DoorRule(
            ask=_of_data(f"/agent/v1/data/{verb}", **more),
            may_own=frozenset({"the agent"}),
            granted=granted,
        )
        for verb, granted, more in (
            ("claim", 200, {}),
            ("blobs", 200, {"blobs": []}),
            ("commit", 422, {"tree": {"sha256": "a" * 64, "size_bytes": 1}}),  # was never brought
            ("addresses", 200, {"sha256": ["a" * 64]}),
            ("listing", 404, {}),  # of a bucket's data there is one, this comes from a hub
            ("give-up", 200, {}),
        )
    },
    # cached data
    "GET /api/v1/data": DoorRule(
        ask=get("/api/v1/data?repository={repository_id}"),
        may=BROWSER,
        may_own=frozenset({"the job"}),
    ),
    "POST /api/v1/data/gc": _operators(get("/api/v1/data/gc?dry_run=1")),
    "POST /api/v1/data/purge": _operators(
        get("/api/v1/data/purge?repository={repository_id}"), granted=409  # a run of it is live
    ),
    # whoever has a signed address
    "GET /blobs/{key}": DoorRule(
        ask=get("/blobs/{repository_id}/{run_id}/1/" + "a" * 64 + "?expires=9999999999&signature=x")
    ),
}  # fmt: skip

# Doors past FastAPI, by their names in the metrics and in the order in which they are tried.
BUSY = {
    "webhook": "POST /webhooks/github",
    "heartbeat": "POST /agent/v1/heartbeat",
    "runs": "GET /api/v1/runs",
    "accept": "POST /api/v1/runs",
    "stream": "GET /api/v1/runs/{run_id}/stream",
    "blobs": "GET /blobs/{key}",
    "healthz": "GET /healthz",
    "readyz": "GET /readyz",
    "metrics": "GET /metrics",
}


# ── the world ───────────────────────────────────────────────────────────────────────────────────


class Repositories:
    """What GitHub would say of the job's repository."""

    def default_branch(self, caller: Caller) -> str:  # noqa: ARG002 - the protocol has it
        return "main"

    def pull_head(self, caller: Caller, number: int) -> PullHead:  # noqa: ARG002
        raise AssertionError("no job here is a pull request's")


def gate() -> GithubJobs:
    """Return the real gate, with a key set of our own."""
    verifier = OidcVerifier(issuer=ISSUER, audience="cynthus", fetch=Issuer(), now=clock)
    served = Allowed(
        (str(OURS), str(THEIRS)), state=lambda _: None, keep_state=lambda _, value: value
    )
    return GithubJobs(verifier, served, Repositories(), lambda _: False)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    settings = read(
        {
            "CYNTHUS_STATE_DIR": str(tmp_path_factory.mktemp("authority") / "state"),
            "CYNTHUS_PORT": "0",
            "CYNTHUS_API_TOKEN": OPERATOR,
            "CYNTHUS_SERVER_KEY": SERVER_KEY,
            "CYNTHUS_ALLOWED": f"{OURS},{THEIRS}",
            **app_settings(),
        }
    )
    with open_site(settings, gate(), with_github=True) as site:
        known = RepositoryStore(site.parts.database)
        for number, name in ((OURS, "acme/digits"), (THEIRS, "other/digits")):
            facts = Repository(
                id=number,
                owner_id=number,
                full_name=name,
                default_branch="main",
                installation_id=None,
            )
            known.upsert(facts, site.parts.now())
        ours, theirs = (site.an_agent(repository_id=number) for number in (OURS, THEIRS))
        for number, agent in ((OURS, ours), (THEIRS, theirs)):
            data = Dataset(
                name="train",
                source="hf://datasets/acme/digits",
                mount="/data/train",
                kind=SourceKind.HF,
                revision=COMMIT,
                key=data_key(number),
            )
            run = site.save(agent.run_id, lambda run, data=data: replace(run, datasets=(data,)))
            own = Scope(tenant_id=number)
            store = DataStore(site.parts.database)
            store.claim((own,), data, agent.instance, site.parts.now())
            assert run.datasets == (data,)
        yield World(site=site, ours=ours, theirs=theirs)


# ── what holds ──────────────────────────────────────────────────────────────────────────────────


def test_every_door_has_its_rule(world: World) -> None:
    """A door that is new, or moved, has to say here who may ask what."""
    pages = world.site.doors.pages.get()
    assert isinstance(pages, FastAPI)
    found = {
        f"{method} {route.path}"
        for route in routes_of(pages.router)
        for method in (route.methods or set()) - {"HEAD"}
    }
    busy = world.site.doors.front._busy
    assert [one.name for one in busy] == list(BUSY)
    for one in busy:
        method, _, path = BUSY[one.name].partition(" ")
        named = path.format(run_id=world.ours.run_id, key="41/a/1/" + "a" * 64)
        assert one.takes(method, named), one.name
    assert found | set(BUSY.values()) == set(DOORS)


def routes_of(router: APIRouter) -> Iterator[Route]:
    """Yield the routes of a router and of those that it includes."""
    for route in router.routes:
        if isinstance(route, Route):
            yield route
        else:  # FastAPI keeps what was included as it was: there is no public list of the whole
            yield from routes_of(route.original_router)  # type: ignore[attr-defined]


def test_what_the_api_says_of_itself_is_among_the_doors(world: World) -> None:
    told = world.send("the operator", "GET /api/v1/openapi.json", world.things["ours"]).json[
        "paths"
    ]
    assert {f"{method.upper()} {path}" for path in told for method in told[path]} <= set(DOORS)


@pytest.mark.case("A14", "C10", "D1", "D3", "O10", "O22")
@pytest.mark.parametrize("door", DOORS)
def test_whoever_may_not_learns_and_changes_nothing(world: World, door: str) -> None:
    rule = DOORS[door]
    strangers = EVERYBODY - rule.may - (frozenset() if rule.about else rule.may_own)
    before = wishes(world)
    for who in sorted(strangers):
        theirs = world.send(who, door, world.things["theirs"])
        nobodys = world.send(who, door, world.things["nobody's"])
        assert theirs.status in REFUSALS | rule.also, (who, theirs)
        assert plain(theirs, world.things["theirs"]) == plain(nobodys, world.things["nobody's"]), (
            who
        )
        if theirs.status == 303:
            assert theirs.headers["location"].startswith("/sign-in?next="), who
    assert wishes(world) == before


@pytest.mark.parametrize("door", DOORS)
def test_whoever_may_is_let_in(world: World, door: str) -> None:
    """Without this the test above would pass on tokens that are worth nothing anywhere."""
    rule = DOORS[door]
    for who in sorted(rule.may | rule.may_own):
        assert world.status(who, door, world.things["ours"]) == rule.granted, who


# What proves who asks stands in the body here: a signature, a secret, a form's own token.
IN_THE_BODY = {
    "POST /webhooks/github",
    "POST /agent/v1/enrol",
    "POST /sign-in",
    "POST /sign-out",
}
WAITING_FOR_BODIES = [d for d in DOORS if d.startswith("POST ") and d not in IN_THE_BODY]


@pytest.mark.case("W12", "W13")
@pytest.mark.parametrize("door", WAITING_FOR_BODIES)
def test_no_door_waits_for_the_body_of_a_stranger(world: World, door: str) -> None:
    ask = DOORS[door].ask(world.things["theirs"])
    lines = [f"POST {ask.path} HTTP/1.1", "Host: localhost", "Content-Length: 1000"]
    lines += [f"{name}: {value}" for name, value in ask.headers.items()]
    with socket.create_connection(("127.0.0.1", world.site.port), 60) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        status = connection.makefile("rb").readline().split()[1]
    assert status == b"401"


def plain(answer: Answer, thing: Thing) -> tuple[int, str, str]:
    """Return what an answer tells, without what the asker said himself."""
    told = [answer.headers.get("location", ""), answer.body.decode()]
    for said in (thing.run_id, thing.instance, thing.repository, str(thing.repository_id)):
        told = [text.replace(said, "…") for text in told]
    return answer.status, told[0], told[1]


def wishes(world: World) -> object:
    """Return what is wanted of the other repository's run, and what its agent has said."""
    parts = world.site.parts
    seen = parts.instances.observe(world.theirs.instance)
    return parts.runs.wishes(world.theirs.run_id), seen.agent, parts.runs.get(world.theirs.run_id)
