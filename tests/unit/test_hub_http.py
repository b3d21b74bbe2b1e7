"""A hub is asked at its own host only, and what it answers is bounded in time and size."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

import pytest

from cynthus.errors import Transient
from cynthus.spec import DataSource
from webhook_server.sources import hub_http
from webhook_server.sources.hf import HuggingFace
from webhook_server.sources.hub_http import Answer, Hub, HubAway, Question, bearer
from webhook_server.sources.source import Asked

Speak = Callable[[socket.socket], None]


@pytest.fixture
def listening() -> Iterator[Callable[[Speak], str]]:
    """Return what makes a server that says exactly what it is given to each asker."""
    opened: list[tuple[socket.socket, threading.Thread]] = []

    def start(speak: Speak) -> str:
        server = socket.create_server(("127.0.0.1", 0))

        def serve() -> None:
            while True:
                try:
                    asker, _ = server.accept()
                except OSError:  # closed: the test is over
                    return
                with asker, suppress(OSError):
                    asker.recv(65536)
                    speak(asker)

        thread = threading.Thread(target=serve)
        thread.start()
        opened.append((server, thread))
        return f"http://127.0.0.1:{server.getsockname()[1]}"

    yield start
    for server, thread in opened:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


def says(status: str, body: bytes = b"{}", *headers: str) -> Speak:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    whole = "\r\n".join(lines).encode() + body
    return lambda asker: asker.sendall(whole)


def asked(url: str, path: str = "/api", limit_s: float = 5.0) -> Answer:
    return Hub(url, limit_s=limit_s).ask(Question(path=path, headers=bearer("hf_secret")))


def test_an_answer_comes_with_its_status_and_headers(listening: Callable[[Speak], str]) -> None:
    answer = asked(listening(says("404 Not Found", b'{"a": 1}', "X-Error-Code: RepoNotFound")))
    assert (answer.status, answer.fine, answer.json()) == (404, False, {"a": 1})
    assert answer.headers["x-error-code"] == "RepoNotFound"


@pytest.mark.case("A17")
@pytest.mark.parametrize(
    "to",
    [
        "http://169.254.169.254/computeMetadata/v1/",
        "http://localhost/api",
        "https://127.0.0.1/api",
        "//metadata.google.internal/",
        "file:///etc/passwd",
        "http://127.0.0.1:1/",
    ],
)
def test_a_redirect_to_another_host_is_not_followed(
    listening: Callable[[Speak], str], to: str
) -> None:
    url = listening(says("302 Found", b"", f"Location: {to}"))
    with pytest.raises(Transient, match="sends its askers to another host") as caught:
        asked(url)
    assert "hf_secret" not in str(caught.value)


def test_an_address_that_is_none_leads_nowhere(listening: Callable[[Speak], str]) -> None:
    url = listening(says("302 Found", b"", "Location: http://[half"))
    with pytest.raises(Transient, match="sends its askers to another host"):
        asked(url)
    assert Hub(url).link("http://[half") is None


LIES = [{"type": "file", "path": "a", "size": size} for size in (-1, "1", None, 1 << 60, [])]


@pytest.mark.parametrize("told", [*([one] for one in LIES), {}, None, 7])
def test_a_hub_that_lies_about_files_is_asked_again_later(
    listening: Callable[[Speak], str], told: Any
) -> None:
    info = json.dumps({"sha": "a" * 40}).encode()
    replies = iter([says("200 OK", info), says("200 OK", json.dumps(told).encode())])

    def in_turn(asker: socket.socket) -> None:
        next(replies)(asker)

    url = listening(in_turn)
    entry = DataSource(name="train", source="hf://datasets/org/name", mount="/data/train")
    with pytest.raises(Transient, match=r"tells no"):
        HuggingFace(Hub(url)).pin(Asked(entry=entry, repository_id=7))


def test_a_redirect_within_the_host_is_followed_and_circles_are_not(
    listening: Callable[[Speak], str],
) -> None:
    replies = iter([says("307 Moved", b"", "Location: /new"), says("200 OK", b'"there"')])

    def in_turn(asker: socket.socket) -> None:
        next(replies)(asker)

    url = listening(in_turn)
    assert asked(url).json() == "there"
    with pytest.raises(Transient, match="in circles"):
        asked(listening(says("302 Found", b"", "Location: /api")))


def test_where_the_status_alone_counts_a_redirect_is_the_answer(
    listening: Callable[[Speak], str],
) -> None:
    url = listening(says("302 Found", b"", "Location: https://storage.test/a.zip"))
    answer = Hub(url).ask(Question(path="/v1/Download", method="POST", body=b"{}", whole=False))
    assert (answer.status, answer.body) == (302, b"")


@pytest.mark.parametrize("status", ["500 Oops", "503 Busy", "429 Slow down", "408 Late"])
def test_what_passes_by_itself_is_transient(listening: Callable[[Speak], str], status: str) -> None:
    with pytest.raises(Transient) as caught:
        asked(listening(says(status)))
    assert not isinstance(caught.value, HubAway), "others may be answered all the same"


def test_a_hub_that_nobody_answers_for_is_away() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    with pytest.raises(HubAway, match="does not answer"):
        asked(f"http://127.0.0.1:{port}")


def test_a_slow_drip_ends_in_time(listening: Callable[[Speak], str]) -> None:
    over = threading.Event()

    def drip(asker: socket.socket) -> None:
        asker.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not over.wait(0.02):
            asker.sendall(b" ")

    url = listening(drip)
    try:
        with pytest.raises(HubAway):
            asked(url, limit_s=0.3)
    finally:
        over.set()


def test_a_body_that_breaks_off_is_no_answer(listening: Callable[[Speak], str]) -> None:
    cut = b'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"a": 1}'
    with pytest.raises(Transient, match="IncompleteRead") as caught:
        asked(listening(lambda asker: asker.sendall(cut)))
    assert not isinstance(caught.value, HubAway)


def test_more_than_anybody_needs_is_not_read(listening: Callable[[Speak], str]) -> None:
    block = b"x" * (1 << 20)

    def flood(asker: socket.socket) -> None:
        asker.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(2 * hub_http.LIMIT_BYTES // len(block)):
            asker.sendall(block)

    with pytest.raises(Transient, match="answers what cannot be read"):
        asked(listening(flood))


def test_what_is_no_json_is_transient(listening: Callable[[Speak], str]) -> None:
    with pytest.raises(Transient, match="no JSON"):
        asked(listening(says("200 OK", b"<html>a proxy</html>"))).json()


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("http://h.test/hub/api/x?cursor=1", "/api/x?cursor=1"),
        ("/hub/api/x", "/api/x"),
        ("http://other.test/api/x", None),
        ("https://h.test/hub/api/x", None),
    ],
)
def test_the_next_page_is_the_hubs_own(given: str, path: str | None) -> None:
    assert Hub("http://h.test/hub/").link(given) == path
