"""The build lease against a server that keeps one, as the door is described."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from action import build_lease, kept_lock
from action.build_lease import Post
from action.inputs import Secret, TokenDoor
from action.server import Server
from action.workflow import PlainConsole

KEY = "a" * 32


@dataclass
class Doors:
    """GitHub's token service and the server's doors: one lease, and the locks of commits."""

    url: str
    status: int = 200
    holder: str | None = None
    asks: list[dict[str, Any]] = field(default_factory=list)
    locks: dict[str, dict[str, str]] = field(default_factory=dict)  # by the query
    asked: threading.Condition = field(default_factory=threading.Condition)
    tokens: list[str] = field(default_factory=list)

    def lease(self, ask: dict[str, Any]) -> dict[str, Any]:
        with self.asked:
            self.asks.append(ask)
            if self.holder in {None, ask["holder"]}:
                self.holder = None if ask["done"] else ask["holder"]
                granted = True
            else:
                granted = False
            self.asked.notify_all()
            holder = self.holder or ask["holder"]
            return {"granted": granted, "holder": holder, "until": "2026-01-31T12:00:00Z"}

    def server(self) -> Server:
        door = TokenDoor(url=f"{self.url}/token?api-version=2.0", token=Secret("of-the-job"))
        return Server(url=self.url, audience="cynthus", door=door)

    def post(self, holder: str, **more: Any) -> Post:
        console = more.pop("console", PlainConsole(io.StringIO()))
        return Post(server=self.server(), holder=holder, console=console, **more)


def _handler(doors: Doors) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            if path == "/token":
                doors.tokens.append(f"token-{len(doors.tokens)}")
                return self._answer(200, {"value": doors.tokens[-1]})
            found = doors.locks.get(query)
            return self._answer(200 if found else 404, found or {})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            token = self.headers["Authorization"].removeprefix("Bearer ")
            doors.tokens.remove(token)  # each is good for one use
            if doors.status != 200:
                return self._answer(doors.status, {})
            return self._answer(200, doors.lease(body))

        def _answer(self, status: int, value: Any) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@pytest.fixture
def doors() -> Iterator[Doors]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    found = Doors(f"http://127.0.0.1:{server.server_port}")
    server.RequestHandlerClass = _handler(found)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_lease_is_given_back_after_the_build(doors: Doors) -> None:
    with build_lease.held(KEY, doors.post("run-1"), lambda: False) as ours:
        assert ours
        assert doors.holder == "run-1"
    assert doors.holder is None
    assert [ask["done"] for ask in doors.asks] == [False, True]


def test_it_is_given_back_when_the_build_fails(doors: Doors) -> None:
    with pytest.raises(RuntimeError), build_lease.held(KEY, doors.post("run-1"), lambda: False):
        raise RuntimeError
    assert doors.holder is None


def test_a_long_build_asks_again_and_again(doors: Doors) -> None:
    post = doors.post("run-1", renew_s=0.01)
    with build_lease.held(KEY, post, lambda: False) as ours, doors.asked:
        assert ours
        assert doors.asked.wait_for(lambda: len(doors.asks) >= 4, timeout=10)


def test_of_two_at_once_one_builds_and_the_other_takes_what_it_made(doors: Doors) -> None:
    there = threading.Event()
    built: list[str] = []
    began = threading.Event()
    waits = threading.Event()
    told = io.StringIO()

    def wait(_seconds: float) -> None:
        waits.set()
        there.wait(10)

    def first() -> None:
        with build_lease.held(KEY, doors.post("run-1"), there.is_set) as ours:
            assert ours
            began.set()
            assert waits.wait(10)
            built.append("run-1")
            there.set()

    def second() -> bool:
        assert began.wait(10)
        post = doors.post("run-2", console=PlainConsole(told), wait=wait)
        with build_lease.held(KEY, post, there.is_set) as ours:
            return ours

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.submit(first), pool.submit(second)
        one.result()
        assert other.result() is False
    assert built == ["run-1"]
    assert "environment aaaaaaaaaaaa: run-1 is building it; waiting" in told.getvalue()
    assert "built by run-1" in told.getvalue()


def test_whoever_waited_for_a_build_that_failed_builds_itself(doors: Doors) -> None:
    doors.holder = "run-1"

    def wait(_seconds: float) -> None:
        doors.holder = None  # its job died, and the lease ended

    with build_lease.held(KEY, doors.post("run-2", wait=wait), lambda: False) as ours:
        assert ours
        assert doors.holder == "run-2"


def test_what_was_finished_just_before_our_turn_is_not_built_again(doors: Doors) -> None:
    with build_lease.held(KEY, doors.post("run-1"), lambda: True) as ours:
        assert not ours
        assert doors.holder is None


@pytest.mark.parametrize("status", [404, 405, 403, 500, 503])
def test_a_server_that_keeps_no_leases_keeps_nobody_from_building(
    doors: Doors, status: int
) -> None:
    doors.status = status
    told = io.StringIO()
    with build_lease.held(KEY, doors.post("run-1", console=PlainConsole(told)), bool) as ours:
        assert ours
    assert ("no build lease" in told.getvalue()) is (status not in {404, 405})


def test_neither_does_one_that_is_away(doors: Doors) -> None:
    nobody = Server(url="http://127.0.0.1:9", audience="cynthus", door=doors.server().door)
    told = io.StringIO()
    post = Post(server=nobody, holder="run-1", console=PlainConsole(told))
    with build_lease.held(KEY, post, bool) as ours:
        assert ours
    assert "no build lease (127.0.0.1:9 does not answer" in told.getvalue()


def test_without_a_server_one_simply_builds() -> None:
    post = Post(server=None, holder="", console=PlainConsole(io.StringIO()))
    with build_lease.held(KEY, post, lambda: False) as ours:
        assert ours


# ── the lock of the same commit ─────────────────────────────────────────────────────────────────

COMMIT = kept_lock.Commit(sha="c" * 40, spec_path="runs/a b.yaml")
QUERY = f"commit={'c' * 40}&spec=runs%2Fa+b.yaml"


def asked(doors: Doors, wishes: str = "1" * 32) -> str | None:
    view = kept_lock.ask(doors.server(), COMMIT, wishes, PlainConsole(io.StringIO()))
    return view.lock if view else None


def test_the_same_commit_gets_its_lock_back_when_it_wishes_the_same(doors: Doors) -> None:
    lock = kept_lock.marked("six==1.16.0 --hash=sha256:aa\n", "1" * 32)
    doors.locks[QUERY] = {"key": KEY, "lock": lock}
    assert asked(doors) == lock
    assert asked(doors, wishes="2" * 32) is None


def test_a_commit_that_was_never_built_has_none(doors: Doors) -> None:
    assert asked(doors) is None


def test_a_lock_is_marked_once() -> None:
    twice = kept_lock.marked(kept_lock.marked("six==1\n", "1" * 32), "2" * 32)
    assert twice == "# cynthus: wishes " + "2" * 32 + "\nsix==1\n"
    assert kept_lock.wishes_of("six==1\n") is None
