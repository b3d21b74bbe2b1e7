"""The client tells in plain words what went wrong, and trusts no server with the disk."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cynthus.cli_connection import harmless
from cynthus.client import Client
from cynthus.errors import CynthusError, Refused, Transient, UserError
from cynthus.pulling import Item, Piece, Puller, Standing
from cynthus.wire import OutputView

Script = list[tuple[int, bytes, dict[str, str]]]
Play = Callable[..., str]


@pytest.fixture
def play() -> Iterator[Play]:
    """Return a function that starts a server which gives these answers, in order."""
    servers: list[ThreadingHTTPServer] = []

    def start(script: Script, seen: list[dict[str, str]] | None = None) -> str:
        answers = iter(script)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if seen is not None:
                    seen.append({**dict(self.headers), "path": self.path})
                status, body, headers = next(answers)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET  # noqa: N815 - the library's name

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def error(status: int) -> tuple[int, bytes, dict[str, str]]:
    return status, json.dumps({"error": {"code": "x", "message": "what was wrong."}}).encode(), {}


def output(path: str, content: bytes, url: str) -> OutputView:
    digest = hashlib.sha256(content).hexdigest()
    return OutputView(path=path, size_bytes=len(content), sha256=digest, url=url)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, UserError),
        (401, UserError),
        (403, Refused),
        (404, UserError),
        (409, Refused),
        (410, Refused),
        (422, UserError),
        (429, Transient),
        (500, Transient),
        (503, Transient),
    ],
)
def test_a_refusal_is_told_by_its_family(play: Play, status: int, kind: type[CynthusError]) -> None:
    with pytest.raises(kind, match="what was wrong"):
        Client(play([error(status)])).get("run")


def test_a_server_that_is_not_there_is_told_with_what_to_do() -> None:
    with pytest.raises(Transient, match="cynthus serve"):
        Client("http://127.0.0.1:9").get("run")


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(UserError, match="http"):
        Client("file:///etc/passwd")


def test_a_redirect_is_not_followed_with_the_token(play: Play) -> None:
    seen: list[dict[str, str]] = []
    thief = play([(200, b"{}", {})], seen)
    with pytest.raises(CynthusError):
        Client(play([(302, b"", {"Location": thief})]), "secret").get("run")
    assert seen == []


def test_an_id_stays_one_part_of_the_address(play: Play) -> None:
    seen: list[dict[str, str]] = []
    with pytest.raises(UserError):
        Client(play([error(404)], seen)).get("../../healthz?x=")
    assert seen[0]["path"] == "/api/v1/runs/..%2F..%2Fhealthz%3Fx%3D"


def pulled(client: Client, found: OutputView, folder: Path) -> Path:
    """Fetch one output without patience. Raises: what is noted of it."""
    piece = Piece(size_bytes=found.size_bytes, open=lambda at: client.fetch(found.url or "", at))
    item = Item(path=found.path, size_bytes=found.size_bytes, sha256=found.sha256, pieces=(piece,))
    standing = Standing(total_bytes=item.size_bytes, total_files=1)
    Puller(folder, wait=lambda _: None).pull([item], standing)
    if standing.faults:
        raise Refused(standing.faults[0])
    return folder / found.path


def test_a_download_is_whole_checked_and_free_the_second_time(play: Play, tmp_path: Path) -> None:
    url = play([(200, b"weights", {})])
    client = Client(url, "token")
    one = output("outputs/model.pt", b"weights", f"{url}/blobs/x")
    for _ in range(2):  # the server has one answer only
        assert pulled(client, one, tmp_path).read_bytes() == b"weights"


def test_the_token_does_not_travel_with_a_signed_address(play: Play, tmp_path: Path) -> None:
    seen: list[dict[str, str]] = []
    url = play([(200, b"x", {})], seen)
    pulled(Client(url, "token"), output("a", b"x", f"{url}/blobs/x"), tmp_path)
    assert "Authorization" not in seen[0]


def test_another_content_than_announced_leaves_nothing(play: Play, tmp_path: Path) -> None:
    url = play([(200, b"WEIGHTS", {})])
    with pytest.raises(Refused, match="SHA-256"):
        pulled(Client(url), output("a", b"weights", f"{url}/blobs/x"), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["../a", "/etc/a", "a/../../b", "a//b", ".", ""])
def test_an_output_stays_inside_the_folder(tmp_path: Path, path: str) -> None:
    with pytest.raises(Refused, match="inside"):
        pulled(Client("http://127.0.0.1:9"), output(path, b"", "x"), tmp_path)


def test_an_output_does_not_follow_a_link_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(Refused, match="inside"):
        pulled(Client("http://127.0.0.1:9"), output("link/a", b"", "x"), tmp_path / "in")


def an_event(seq: int, state: str) -> bytes:
    event = {
        "seq": seq,
        "at": "2026-01-31T12:00:00Z",
        "attempt": 1,
        "kind": "state",
        "body": {"state": state},
    }
    return f"id: {seq}\nevent: state\ndata: {json.dumps(event)}\n\n".encode()


def test_a_broken_stream_goes_on_where_it_broke(play: Play) -> None:
    seen: list[dict[str, str]] = []
    url = play(
        [
            (200, b": hello\n\n" + an_event(1, "running"), {}),
            error(503),  # asked whether the run is over
            error(503),
            (200, an_event(5, "finished"), {}),
        ],
        seen,
    )
    waits: list[float] = []
    events = list(Client(url, wait=waits.append).follow("run"))
    assert [event.seq for event in events] == [1, 5]
    assert seen[-1]["path"].endswith("after=1")
    assert len(waits) == 2


def test_a_server_that_stays_away_ends_the_wait() -> None:
    waits: list[float] = []
    with pytest.raises(Transient):
        list(Client("http://127.0.0.1:9", wait=waits.append).follow("run"))
    assert len(waits) == 60


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("\x1b[32mgreen\x1b[0m", "\x1b[32mgreen\x1b[0m"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b[2Jgone", "gone"),
        ("\x1b[1;1Hmoved", "moved"),
        ("bell\x07\x08", "bell"),
    ],
)
def test_a_log_colours_the_terminal_and_commands_nothing(text: str, shown: str) -> None:
    assert harmless(text) == shown


def test_a_signed_address_may_lead_to_the_storage_without_the_token(
    play: Play, tmp_path: Path
) -> None:
    seen: list[dict[str, str]] = []
    storage = play([(200, b"weights", {})], seen)
    server = play([(302, b"", {"Location": f"{storage}/bucket/object?X-Goog-Signature=ab"})], seen)
    found = output("x", b"weights", f"{server}/blobs/7/arun/1/x?signature=y")
    assert pulled(Client(server, "cyr_token"), found, tmp_path).read_bytes() == b"weights"
    assert [step["path"].partition("?")[0] for step in seen] == [
        "/blobs/7/arun/1/x",
        "/bucket/object",
    ]
    assert not any("Authorization" in step for step in seen)


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_a_signed_address_leads_to_web_addresses_alone(
    play: Play, tmp_path: Path, address: str
) -> None:
    server = play([(302, b"", {"Location": address})])
    with pytest.raises(CynthusError):
        pulled(Client(server), output("x", b"x", f"{server}/blobs/x"), tmp_path)
    assert list(tmp_path.iterdir()) == []
