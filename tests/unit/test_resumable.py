"""A large upload goes on where a cut left it, and gives up when its session is lost."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from runner_images.agent import resumable
from runner_images.agent.door import Unanswered, Upload
from runner_images.agent.resumable import put_resumable

CONTENT = bytes(range(256)) * 4096
NEVER = threading.Event()


class Hurry(threading.Event):
    """Waits for nothing, and remembers how long it should have."""

    def __init__(self) -> None:
        super().__init__()
        self.waited_s: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waited_s.append(timeout or 0)
        return self.is_set()


@dataclass
class Session:
    """A resumable session that breaks when told; its words are Cloud Storage's."""

    cuts: list[int] = field(default_factory=list)  # each next PUT of bytes breaks after so many
    statuses: list[int] = field(default_factory=list)  # what queries are answered first
    received: bytes = b""
    spans: list[str] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def session() -> Iterator[Session]:
    found = Session()

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            span = self.headers["content-range"]
            found.spans.append(span)
            if span.startswith("bytes */"):
                self._tell(found.statuses.pop(0) if found.statuses else 0)
                return
            first = int(span.removeprefix("bytes ").partition("-")[0])
            assert first == len(found.received)
            if found.cuts:
                found.received += self.rfile.read(found.cuts.pop(0))
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            found.received += self.rfile.read(int(self.headers["content-length"]))
            self._tell(0)

        def _tell(self, status: int) -> None:
            whole = len(found.received) == len(CONTENT)
            self.send_response(status or (200 if whole else 308))
            if found.received and not whole:
                self.send_header("Range", f"bytes=0-{len(found.received) - 1}")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    found.url = f"http://127.0.0.1:{server.server_address[1]}/session"
    yield found
    server.shutdown()
    server.server_close()


def bring(session: Session, over: threading.Event) -> None:
    put_resumable(session.url, io.BytesIO(CONTENT), Upload(size_bytes=len(CONTENT)), over)


def test_a_file_is_put_in_one_request(session: Session) -> None:
    bring(session, Hurry())
    assert session.received == CONTENT
    assert session.spans == [f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}"]


def test_after_cuts_it_goes_on_where_it_stopped(session: Session) -> None:
    session.cuts = [300_000, 0, 256]
    bring(session, Hurry())
    assert session.received == CONTENT
    assert session.spans[2].startswith("bytes 300000-")


def test_a_session_that_cannot_say_now_is_asked_again(session: Session) -> None:
    session.cuts, session.statuses = [1000], [503, 429, 500]
    bring(session, Hurry())
    assert session.received == CONTENT


def test_an_upload_whose_answer_was_lost_is_done(session: Session) -> None:
    session.cuts = [len(CONTENT)]
    bring(session, Hurry())
    assert len(session.spans) == 2


@pytest.mark.parametrize("status", [404, 410, 403, 400])
def test_a_lost_session_is_given_up_at_once(session: Session, status: int) -> None:
    session.cuts, session.statuses = [1000], [status]
    with pytest.raises(Unanswered, match=str(status)):
        bring(session, Hurry())


def test_a_session_that_takes_nothing_is_given_up_after_growing_pauses(session: Session) -> None:
    session.cuts = [0] * 100
    over = Hurry()
    with pytest.raises(Unanswered, match="broke off at byte 0"):
        bring(session, over)
    assert len(over.waited_s) == resumable.RESUME_TRIES
    assert over.waited_s == sorted(over.waited_s)
    assert 15 < sum(over.waited_s) < 60


def test_an_attempt_that_is_over_stops_trying(session: Session) -> None:
    session.cuts = [1000]
    over = Hurry()
    over.set()
    with pytest.raises(Unanswered):
        bring(session, over)
    assert len(session.received) == 1000
