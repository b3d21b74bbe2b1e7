"""A fetch goes on where a cut left it, follows to the storage, and takes nothing but its part."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from runner_images.agent.__main__ import main
from runner_images.agent.door import Unanswered, is_protected
from runner_images.agent.ranges import TRIES, Fetcher, Span
from tests.unit.test_resumable import Hurry

CONTENT = bytes(range(256)) * 4096
WHOLE = Span(first=0, last=len(CONTENT) - 1, whole=len(CONTENT))


@dataclass
class Storage:
    """A place that breaks off when told; its words are those of RFC 9110."""

    cuts: list[int] = field(default_factory=list)  # each next answer ends after so many bytes
    statuses: list[int] = field(default_factory=list)  # what comes first
    spans: list[str] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)
    told: str = ""  # another content-range than the right one
    location: str = "/there"
    url: str = ""


@pytest.fixture
def storage() -> Iterator[Storage]:
    found = Storage()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            found.spans.append(self.headers["range"])
            found.tokens.append(self.headers["authorization"])
            if self.path == "/redirect":
                self._head(302, 0, location=found.location)
                return
            if found.statuses:
                self._head(found.statuses.pop(0), 0)
                return
            first, last = map(int, self.headers["range"].removeprefix("bytes=").split("-"))
            part = CONTENT[first : last + 1]
            span = found.told or f"bytes {first}-{last}/{len(CONTENT)}"
            self._head(206, len(part), content_range=span)
            cut = found.cuts.pop(0) if found.cuts else len(part)
            self.wfile.write(part[:cut])
            if cut < len(part):
                self.close_connection = True

        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):  # the fetcher hangs up on what is wrong
                super().handle()

        def _head(self, status: int, length: int, **headers: str) -> None:
            self.send_response(status)
            self.send_header("content-length", str(length))
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_port}/blob"
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def hurry() -> Hurry:
    return Hurry()


@pytest.fixture
def fetcher(hurry: Hurry) -> Iterator[Fetcher]:
    made = Fetcher(hurry, lambda: False)
    yield made
    made.close()


def got(fetcher: Fetcher, url: str, span: Span = WHOLE) -> bytes:
    return b"".join(fetcher.bytes_of(url, span))


@pytest.mark.case("A13")
def test_it_goes_on_where_each_cut_left_it(fetcher: Fetcher, storage: Storage) -> None:
    storage.cuts = [1000, 500_000, 1]
    assert got(fetcher, storage.url) == CONTENT
    firsts = [int(span.removeprefix("bytes=").partition("-")[0]) for span in storage.spans]
    assert firsts == [0, 1000, 501_000, 501_001]


def test_a_part_is_a_part_and_nothing_is_asked_for_nothing(
    fetcher: Fetcher, storage: Storage
) -> None:
    part = Span(first=10, last=19, whole=len(CONTENT))
    assert got(fetcher, storage.url, part) == CONTENT[10:20]
    assert got(fetcher, storage.url, Span(first=0, last=-1, whole=0)) == b""
    assert storage.spans == ["bytes=10-19"]


def test_a_storage_that_is_busy_is_asked_again_with_pauses(
    fetcher: Fetcher, storage: Storage, hurry: Hurry
) -> None:
    storage.statuses = [503, 429, 500]
    assert got(fetcher, storage.url) == CONTENT
    assert hurry.waited_s == sorted(hurry.waited_s)
    assert len(hurry.waited_s) == 3


def test_a_storage_that_gives_nothing_is_given_up(
    fetcher: Fetcher, storage: Storage, hurry: Hurry
) -> None:
    storage.statuses = [503] * 50
    with pytest.raises(Unanswered, match="broke off at byte 0"):
        got(fetcher, storage.url)
    assert len(storage.spans) == TRIES


@pytest.mark.parametrize("status", [403, 404, 410, 200, 204])
def test_what_is_no_such_part_is_refused_at_once(
    fetcher: Fetcher, storage: Storage, status: int
) -> None:
    storage.statuses = [status]
    with pytest.raises(Unanswered, match=f"answered {status}"):
        got(fetcher, storage.url, Span(first=1, last=5, whole=len(CONTENT)))
    assert len(storage.spans) == 1


def test_another_part_than_was_asked_for_is_refused(fetcher: Fetcher, storage: Storage) -> None:
    storage.told = f"bytes 5-9/{len(CONTENT)}"
    with pytest.raises(Unanswered, match="answered 206"):
        got(fetcher, storage.url, Span(first=0, last=4, whole=len(CONTENT)))


def test_it_follows_to_the_storage_and_no_further_than_twice(
    fetcher: Fetcher, storage: Storage
) -> None:
    redirect = storage.url.replace("/blob", "/redirect")
    assert got(fetcher, redirect) == CONTENT
    assert storage.tokens == [None, None]
    storage.location = "/redirect"
    with pytest.raises(Unanswered, match="led around"):
        got(fetcher, redirect)


@pytest.mark.case("A16")
def test_nothing_is_fetched_in_plain_text_from_beyond_this_machine(
    fetcher: Fetcher, storage: Storage
) -> None:
    with pytest.raises(Unanswered, match="should be https"):
        got(fetcher, "http://storage.example/blob")
    storage.location = "http://10.0.0.7/blob"
    with pytest.raises(Unanswered, match="should be https"):
        got(fetcher, storage.url.replace("/blob", "/redirect"))


def test_whoever_is_told_to_stop_fetches_no_more(storage: Storage, hurry: Hurry) -> None:
    fetcher = Fetcher(hurry, lambda: True)
    with pytest.raises(Unanswered, match="was stopped"):
        got(fetcher, storage.url)
    fetcher.close()


@pytest.mark.parametrize("server", ["http://server.example", "http://10.0.0.7:8080", "http://api"])
def test_no_agent_tells_its_token_in_plain_text(
    server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "--server", server, "--instance", "one", "--state-dir", str(tmp_path)]
    with pytest.raises(SystemExit) as ended:
        main([*words, "--secret-file", str(tmp_path / "secret")])
    assert ended.value.code == 2
    assert "--server: should be https outside this machine" in capsys.readouterr().err


def test_what_never_leaves_this_machine_needs_no_tls() -> None:
    for url in ("http://127.0.0.1:8080", "http://localhost", "http://[::1]:1", "https://x.example"):
        assert is_protected(url), url
    for url in ("http://127.evil.example", "http://localhost.example", "ftp://x", "", "http://0"):
        assert not is_protected(url), url
