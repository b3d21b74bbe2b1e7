"""The door to GitHub against answers made by hand: limits, trouble, identity."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cynthus.errors import Refused, Transient, UserError
from webhook_server.github_api import (
    AppHooks,
    AppSettings,
    GithubApi,
    Invalid,
    NotFound,
    Release,
    Releases,
)
from webhook_server.github_api.pace import OwnPaces, Pace
from webhook_server.intents import Place

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
PLACE = Place(id=41, owner_id=7, full_name="octo/digits", default_branch="main", installation_id=5)
OTHER = Place(id=42, owner_id=8, full_name="acme/words", default_branch="main", installation_id=6)
REPOSITORY = {
    "id": 41,
    "full_name": "octo/digits",
    "default_branch": "main",
    "owner": {"id": 7, "login": "octo"},
}


@cache
def pem() -> str:
    key = rsa.generate_private_key(65537, 2048)
    data = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    return data.decode()


@dataclass(frozen=True)
class Said:
    """One answer of the scripted GitHub."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Script:
    """Answers in turn; the last one again and again. Tokens are always given."""

    url: str = ""
    answers: list[Said] = field(default_factory=list)
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    tokens: int = 0

    def say(self, *answers: Said) -> None:
        self.answers = list(answers)

    def next(self, method: str, path: str, headers: dict[str, str]) -> Said:
        if path.endswith("/access_tokens"):
            self.tokens += 1
            ends = (NOON + timedelta(hours=1)).isoformat()
            return Said(201, {"token": f"ghs_{self.tokens}", "expires_at": ends})
        self.asked.append((method, path, headers))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def script() -> Iterator[Script]:
    found = Script()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            found.bodies.append(self.rfile.read(int(self.headers.get("content-length", 0))))
            headers = {name.lower(): value for name, value in self.headers.items()}
            said = found.next(self.command, self.path, headers)
            raw = isinstance(said.body, bytes)
            data = said.body if raw else json.dumps(said.body).encode()
            data = b"" if said.body is None else data
            self.send_response(said.status)
            for name, value in ({"Content-Length": str(len(data))} | said.headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)
            self.close_connection = True

        do_GET = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815 - the base class's names

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as above
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=[0.01], daemon=True)
    thread.start()
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def waited() -> list[float]:
    return []


@pytest.fixture
def api(script: Script, clock: Clock, waited: list[float]) -> GithubApi:
    settings = AppSettings(api_url=script.url, uploads_url="", app_id="1", private_key=pem())
    return GithubApi(settings, now=clock, wait=waited.append)


def test_every_request_names_the_api_version_and_its_own_token(
    api: GithubApi, script: Script
) -> None:
    script.say(Said(200, REPOSITORY))
    assert api.repository(PLACE).owner_id == 7
    [(_, path, headers)] = script.asked
    assert path == "/repos/octo/digits"
    assert headers["x-github-api-version"] == "2022-11-28"
    assert headers["authorization"] == "token ghs_1"
    assert json.loads(script.bodies[0]) == {"repository_ids": [41]}


def test_a_token_is_kept_until_minutes_before_its_end(
    api: GithubApi, script: Script, clock: Clock
) -> None:
    script.say(Said(200, REPOSITORY))
    for minutes, tokens in ((0, 1), (30, 1), (54, 1), (56, 2)):
        clock.now = NOON + timedelta(minutes=minutes)
        api.repository(PLACE)
        assert script.tokens == tokens


@pytest.mark.case("G1")
def test_g1_a_refused_token_is_renewed_once_and_not_for_ever(
    api: GithubApi, script: Script
) -> None:
    script.say(Said(401, {"message": "Bad credentials"}))
    with pytest.raises(Transient, match="identity"):
        api.repository(PLACE)
    assert (len(script.asked), script.tokens) == (2, 2)


@pytest.mark.case("G10")
def test_g10_an_answer_about_another_repository_is_refused(api: GithubApi, script: Script) -> None:
    script.say(Said(200, REPOSITORY | {"id": 99}))
    with pytest.raises(NotFound, match="another repository"):
        api.repository(PLACE)
    head = {"sha": "a" * 40, "ref": "x", "repo": None}
    script.say(Said(200, {"head": head, "base": {"ref": "main", "repo": {"id": 99}}}))
    with pytest.raises(NotFound, match="another repository"):
        api.pull(PLACE, 3)


@pytest.mark.case("G10")
def test_a_moved_repository_is_followed_on_the_same_host_only(
    api: GithubApi, script: Script
) -> None:
    moved = {"Location": f"{script.url}/repositories/41"}
    script.say(Said(301, {"message": "Moved Permanently"}, moved), Said(200, REPOSITORY))
    assert api.repository(PLACE).id == 41
    script.say(Said(301, None, {"Location": "http://evil.example/x"}))
    with pytest.raises(Transient, match="unreadable"):
        api.repository(PLACE)


LIMITS: dict[str, tuple[Said, timedelta]] = {
    "403 with retry-after": (
        Said(403, {"message": "x"}, {"Retry-After": "90"}),
        timedelta(seconds=90),
    ),
    "429 with retry-after": (
        Said(429, {"message": "x"}, {"Retry-After": "90"}),
        timedelta(seconds=90),
    ),
    "403 with nothing left": (
        Said(
            403,
            {"message": "API rate limit exceeded for installation"},
            {
                "X-RateLimit-Remaining": "0",
                "X-RateLimit-Reset": str(int((NOON + timedelta(minutes=20)).timestamp())),
            },
        ),
        timedelta(minutes=20, seconds=1),
    ),
    "secondary without a hint": (
        Said(403, {"message": "You have exceeded a secondary rate limit"}),
        timedelta(minutes=1),
    ),
    "429 without a hint": (Said(429, None), timedelta(minutes=1)),
    "an absurd hint": (Said(429, None, {"Retry-After": "999999999"}), timedelta(hours=2)),
    "a broken hint": (Said(429, None, {"Retry-After": "soon"}), timedelta(minutes=1)),
}


@pytest.mark.case("G2")
@pytest.mark.parametrize(("said", "pause"), LIMITS.values(), ids=LIMITS.keys())
def test_g2_github_is_left_alone_as_long_as_it_wants(
    api: GithubApi, script: Script, clock: Clock, said: Said, pause: timedelta
) -> None:
    script.say(said)
    with pytest.raises(Transient) as first:
        api.create_check_run(PLACE, {"name": "x"})
    assert first.value.retry_at == NOON + pause
    asked = len(script.asked)
    clock.now = NOON + pause - timedelta(seconds=1)
    with pytest.raises(Transient) as second:
        api.repository(PLACE)
    assert second.value.retry_at == NOON + pause
    assert len(script.asked) == asked  # no request while GitHub wants silence
    clock.now = NOON + pause
    script.say(Said(200, REPOSITORY))
    api.repository(PLACE)


@pytest.mark.case("G2")
def test_g2_one_installations_pause_is_no_other_ones(api: GithubApi, script: Script) -> None:
    script.say(Said(429, None))
    with pytest.raises(Transient):
        api.repository(PLACE)
    script.say(Said(200, REPOSITORY | {"id": 42, "full_name": "acme/words"}))
    assert api.repository(OTHER).id == 42


def test_pauses_without_a_hint_grow_and_end_with_the_first_good_answer() -> None:
    clock = Clock()
    pace = Pace(5, OwnPaces(), now=clock, spacing=timedelta(seconds=1))
    pauses = []
    for _ in range(7):
        until = pace.limited({})
        pauses.append((until - clock.now).total_seconds() / 60)
        clock.now = until
    assert pauses == [1, 2, 4, 8, 16, 30, 30]
    pace.answered({})
    assert (pace.limited({}) - clock.now) == timedelta(minutes=1)


def test_writes_are_a_second_apart_and_reads_are_not() -> None:
    pace = Pace(5, OwnPaces(), now=lambda: NOON, spacing=timedelta(seconds=1))
    assert [pace.reserve(write=True) for _ in range(3)] == [0, 1, 2]
    assert pace.reserve(write=False) == 0
    assert pace.write_ready_at() == NOON + timedelta(seconds=3)


def test_the_last_permitted_request_ends_the_window_before_github_has_to(
    api: GithubApi, script: Script
) -> None:
    reset = str(int((NOON + timedelta(minutes=5)).timestamp()))
    last = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset}
    script.say(Said(200, REPOSITORY, last))
    api.repository(PLACE)
    with pytest.raises(Transient) as error:
        api.repository(PLACE)
    assert error.value.retry_at == NOON + timedelta(minutes=5, seconds=1)
    assert len(script.asked) == 1


TROUBLE: dict[str, Said] = {
    "500": Said(500, {"message": "x"}),
    "502 in HTML": Said(502, b"<html>Bad gateway</html>"),
    "503": Said(503, None),
    "empty 200": Said(200, None),
    "HTML with 200": Said(200, b"<html>Whoops</html>"),
    "cut JSON": Said(200, b'{"id": 4'),
    "another shape": Said(200, [1, 2]),
    "missing members": Said(200, {"message": "hi"}),
    "wrong types": Said(200, REPOSITORY | {"id": "41"}),
    "a cut body": Said(200, b'{"id"', {"Content-Length": "5000"}),
}


@pytest.mark.case("G5")
@pytest.mark.parametrize("said", TROUBLE.values(), ids=TROUBLE.keys())
def test_g5_whatever_is_not_a_good_answer_can_be_asked_again(
    api: GithubApi, script: Script, said: Said
) -> None:
    script.say(said)
    with pytest.raises(Transient):
        api.repository(PLACE)


@pytest.mark.parametrize("said", [TROUBLE["500"], TROUBLE["502 in HTML"], TROUBLE["a cut body"]])
def test_a_write_is_never_repeated_by_the_door(api: GithubApi, script: Script, said: Said) -> None:
    script.say(said)
    with pytest.raises(Transient):
        api.create_check_run(PLACE, {"name": "x"})
    assert len(script.asked) == 1


@pytest.mark.case("G3", "G4")
@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (404, "Not Found", NotFound),
        (410, "Gone", NotFound),
        (422, "Only 65535 characters are allowed", Invalid),
        (403, "Resource not accessible by integration", Refused),
        (409, "Git Repository is empty.", Refused),
    ],
)
def test_g3_g4_a_no_is_a_no(
    api: GithubApi, script: Script, status: int, message: str, kind: type[Exception]
) -> None:
    script.say(Said(status, {"message": message}))
    with pytest.raises(kind, match=message) as error:
        api.create_check_run(PLACE, {"name": "x"})
    assert not isinstance(error.value, Transient)


def test_an_app_that_is_not_installed_asks_nothing(api: GithubApi, script: Script) -> None:
    from dataclasses import replace

    for nothing in (None, 0):
        with pytest.raises(NotFound, match="not installed"):
            api.repository(replace(PLACE, installation_id=nothing))
    assert script.asked == []


@pytest.mark.parametrize(
    "make",
    [
        lambda _: "http://evil.example/upload{?name}",
        lambda _: "https://uploads.github.com/x{?name}",
        lambda url: url.replace("http://", "https://") + "/x",
        lambda url: url.replace("127.0.0.1", "127.0.0.1.evil.example") + "/x",
        lambda _: "",
    ],
)
def test_a_token_is_sent_to_no_foreign_upload_host(
    api: GithubApi, script: Script, make: Callable[[str], str]
) -> None:
    import io

    release = Release(
        id=1, tag="t", draft=True, immutable=False, url="", upload_url=make(script.url), body=""
    )
    script.say(Said(201, {"id": 1}))
    with pytest.raises(Refused, match="upload host"):
        Releases(api, PLACE).upload(release, "a", io.BytesIO(b"x"), 1)
    assert script.asked == []


def test_what_is_sent_is_counted_by_shape(api: GithubApi, script: Script) -> None:
    script.say(Said(200, REPOSITORY))
    api.repository(PLACE)
    assert api.requests == {"POST /app/installations/{}/access_tokens": 1, "GET /repos": 1}
    assert api.total_requests() == 2


@pytest.mark.parametrize("key", ["", "nonsense", "/no/such/file", "a\x00b"])
def test_a_private_key_that_is_none_stops_the_server_without_showing_it(key: str) -> None:
    settings = AppSettings(
        api_url="http://127.0.0.1:1", uploads_url="", app_id="1", private_key=key
    )
    with pytest.raises(UserError, match="CYNTHUS_GITHUB_PRIVATE_KEY") as error:
        GithubApi(settings, now=lambda: NOON, wait=lambda _: None)
    assert not key or key not in str(error.value)


def test_a_private_key_is_read_from_a_file_or_one_line(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_text(pem())
    for key in (str(file), pem().replace("\n", "\\n")):
        settings = AppSettings(
            api_url="http://127.0.0.1:1", uploads_url="", app_id="1", private_key=key
        )
        GithubApi(settings, now=lambda: NOON, wait=lambda _: None)


def a_failure(number: int, minutes_ago: int, **changes: Any) -> dict[str, Any]:
    return {
        "id": number,
        "guid": f"guid-{number}",
        "delivered_at": (NOON - timedelta(minutes=minutes_ago)).isoformat(),
        "status_code": 502,
    } | changes


def test_w24_failed_deliveries_are_read_page_by_page_back_to_a_moment(
    api: GithubApi, script: Script
) -> None:
    more = {"Link": f'<{script.url}/app/hook/deliveries?cursor=v1_9&per_page=100>; rel="next"'}
    script.say(
        Said(200, [a_failure(12, 1), a_failure(11, 2, status_code=202), {"id": "odd"}], more),
        Said(200, [a_failure(9, 50), a_failure(8, 70)], more),
    )
    found = list(AppHooks(api.app).failed(since=NOON - timedelta(hours=1)))
    assert [failed.guid for failed in found] == ["guid-12", "guid-9"]
    assert ["cursor=v1_9" in path for _, path, _ in script.asked] == [False, True]
    assert script.asked[0][2]["authorization"].startswith("Bearer ey")


def test_w24_what_was_read_before_a_failing_page_is_good(api: GithubApi, script: Script) -> None:
    more = {"Link": f'<{script.url}/app/hook/deliveries?cursor=v1_9>; rel="next"'}
    script.say(Said(200, [a_failure(12, 1)], more), Said(502, None))
    pages = AppHooks(api.app).failed(since=NOON - timedelta(hours=1))
    assert next(pages).guid == "guid-12"
    with pytest.raises(Transient):
        next(pages)


def test_what_has_not_changed_is_asked_for_by_its_tag(api: GithubApi, script: Script) -> None:
    script.say(Said(200, REPOSITORY, {"ETag": 'W/"one"'}))
    first = api.repository(PLACE)
    script.say(Said(304, None, {"ETag": 'W/"one"'}))
    assert api.repository(PLACE) == first
    _, _, headers = script.asked[-1]
    assert headers["if-none-match"] == 'W/"one"'
    script.say(Said(200, REPOSITORY | {"default_branch": "trunk"}, {"ETag": 'W/"two"'}))
    assert api.repository(PLACE).default_branch == "trunk"


def test_an_outage_is_probed_by_one_request_for_all(
    api: GithubApi, script: Script, clock: Clock
) -> None:
    script.say(Said(503, {"message": "away"}))
    for _ in range(20):
        with pytest.raises(Transient):
            api.repository(PLACE)
    assert len(script.asked) == 3  # then everybody waits for the probe
    clock.now += timedelta(seconds=11)
    script.say(Said(200, REPOSITORY))
    assert api.repository(PLACE).id == 41
