"""The stream tells what happens as it happens, and lets go of who does not listen."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from cynthus.client import Client
from cynthus.errors import Transient
from cynthus.wire import EventKind, RunEvent
from tests.doors.conftest import Site, raw
from tests.stopwatch import Stopwatch
from webhook_server.bell import Bell
from webhook_server.routes import stream
from webhook_server.runs.model import Outcome, State


def follow(site: Site, run_id: str) -> tuple[threading.Thread, list[RunEvent]]:
    seen: list[RunEvent] = []
    client = Client(site.url)

    def listen() -> None:
        with contextlib.suppress(Transient):  # the test ended, and its server with it
            seen.extend(client.follow(run_id))

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    return thread, seen


def finish(site: Site, run_id: str) -> None:
    now = site.parts.now()
    site.enter(
        run_id,
        State.FINISHED,
        "it ended with exit code 0",
        outcome=Outcome.SUCCEEDED,
        finished_at=now,
    )


def test_a_follower_sees_everything_in_order_and_then_the_end(site: Site) -> None:
    agent = site.an_agent()
    thread, seen = follow(site, agent.run_id)
    for n in range(5):
        agent.beat(("log", {"text": f"{n}\n"}))
    finish(site, agent.run_id)
    thread.join(60)
    assert not thread.is_alive()
    assert "".join(str(e.body["text"]) for e in seen if e.kind == "log") == "0\n1\n2\n3\n4\n"
    assert [e.seq for e in seen] == sorted({e.seq for e in seen})
    assert seen[-1].body["state"] == "finished"


def test_an_event_reaches_a_follower_soon(site: Site) -> None:
    agent = site.an_agent()
    arrived = threading.Event()

    def listen() -> None:
        for event in Client(site.url).follow(agent.run_id):
            if event.kind == "log":
                arrived.set()
                return

    threading.Thread(target=listen, daemon=True).start()
    agent.beat()
    began = Stopwatch()
    agent.beat(("log", {"text": "now\n"}))
    assert arrived.wait(60)
    assert began.s < 2  # the look that rings no bell comes after 2 s


def test_a_follower_that_comes_after_the_end_sees_it_all_and_ends(site: Site) -> None:
    agent = site.an_agent()
    agent.beat(("log", {"text": "x\n"}))
    finish(site, agent.run_id)
    thread, seen = follow(site, agent.run_id)
    thread.join(60)
    assert [e.kind for e in seen if e.kind == "log"] == ["log"]


def test_an_end_between_two_looks_is_told() -> None:
    """The page is read, then the run ends, then it is asked whether the run is over."""
    at = datetime(2026, 1, 15, 12, tzinfo=UTC)
    finished = RunEvent(seq=7, attempt=1, at=at, kind=EventKind.STATE, body={"state": "finished"})
    events: list[RunEvent] = []

    class Events:
        def after(self, run_id: str, seq: int, *, limit: int) -> list[RunEvent]:  # noqa: ARG002
            return [event for event in events if event.seq > seq][:limit]

    class Runs:
        def get(self, run_id: str) -> Any:  # noqa: ARG002 - as the store
            events[:] = [finished]
            return SimpleNamespace(state=State.FINISHED)

    async def told() -> str:
        sent: list[bytes] = []

        async def send(message: Any) -> None:
            sent.append(message["body"])

        parts: Any = SimpleNamespace(events=Events(), runs=Runs())
        scope = {"query_string": b"", "headers": []}
        reader = stream._Reader(parts, stream.Readers(Bell()), scope, send, asyncio.Event())
        await stream._feed(reader, "arun", asyncio.create_task(asyncio.Event().wait()))
        return b"".join(sent).decode()

    assert '"finished"' in asyncio.run(told())


def test_the_stream_goes_on_after_the_last_event_seen(site: Site) -> None:
    agent = site.an_agent()
    agent.beat(("log", {"text": "one\n"}))
    agent.beat(("log", {"text": "two\n"}))
    finish(site, agent.run_id)
    everything = Client(site.url).events(agent.run_id)
    at = next(e.seq for e in everything if e.body.get("text") == "one\n")
    head = (
        f"GET /api/v1/runs/{agent.run_id}/stream HTTP/1.1\r\nHost: localhost\r\n"
        f"Last-Event-ID: {at}\r\nConnection: close\r\n\r\n"
    )
    text = raw(site.port, head.encode()).decode()
    assert "one" not in text
    data = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
    assert [e["body"].get("text") for e in data if e["kind"] == "log"] == ["two\n"]


def test_a_text_with_line_breaks_stays_one_event(site: Site) -> None:
    agent = site.an_agent()
    agent.beat(("log", {"text": "a\n\nevent: state\ndata: {}\n\r\n\u2028b"}))
    finish(site, agent.run_id)
    thread, seen = follow(site, agent.run_id)
    thread.join(60)
    assert [e.body["text"] for e in seen if e.kind == "log"] == [
        "a\n\nevent: state\ndata: {}\n\r\n\u2028b"
    ]


@pytest.mark.case("D7")
def test_readers_are_bounded(site: Site) -> None:
    run_id = site.a_run()
    head = f"GET /api/v1/runs/{run_id}/stream HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    connections = [
        socket.create_connection(("127.0.0.1", site.port)) for _ in range(stream.MOST_READERS_A_RUN)
    ]
    try:
        for connection in connections:
            connection.sendall(head)
            assert connection.recv(100)
        answer = site.ask("GET", f"/api/v1/runs/{run_id}/stream")
        assert answer.status == 503
        assert int(answer.headers["retry-after"]) > 0
    finally:
        for connection in connections:
            connection.close()
    wait_until(lambda: "cynthus_stream_readers 0" in site.ask("GET", "/metrics").body.decode())


@pytest.mark.case("D7")
def test_a_server_that_stops_lets_its_readers_go(site: Site) -> None:
    thread, _ = follow(site, site.a_run())
    wait_until(lambda: "cynthus_stream_readers 1" in site.ask("GET", "/metrics").body.decode())
    # Leaving the fixture stops the server; it asserts that nothing hangs.
    assert thread.is_alive()


@pytest.mark.case("D3")
def test_strangers_cannot_listen(site: Site) -> None:
    run_id = site.a_run()
    path = f"/api/v1/runs/{run_id}/stream"
    assert site.ask("GET", path, headers={"X-Forwarded-For": "1.2.3.4"}).status == 401
    assert site.ask("GET", "/api/v1/runs/unknown/stream").status == 404
    assert site.ask("POST", path).status == 405


def wait_until(holds: Callable[[], bool]) -> None:
    for _ in range(2400):
        if holds():
            return
        threading.Event().wait(0.025)
    pytest.fail("it did not become true")
