"""`cynthus pull release TAG` against a small GitHub, whose storage has an address of its own."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from cynthus import __main__ as command_line
from cynthus.packing import END, PackedFile, packed
from cynthus.releases import named

BASE = "/repos/acme/digits/releases"


@dataclass
class Github:
    """Assets by name, and what was asked for with which login."""

    assets: dict[str, bytes]
    url: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)

    def answer(self, path: str, login: str) -> tuple[int, dict[str, str], bytes]:
        where = urlsplit(path)
        self.asked.append((where.path, login))
        names = list(self.assets)
        if where.path == f"{BASE}/tags/cynthus/digits/7":
            return 200, {}, json.dumps({"id": 5}).encode()
        if where.path == f"{BASE}/5/assets":
            told = [
                {"id": n, "name": name, "size": len(self.assets[name])}
                for n, name in enumerate(names)
            ]
            return 200, {}, json.dumps(told).encode()
        if where.path.startswith(f"{BASE}/assets/"):
            return 302, {"location": f"{self.url}/storage/{where.path.rpartition('/')[2]}"}, b""
        if where.path.startswith("/storage/"):
            return 200, {}, self.assets[names[int(where.path.rpartition("/")[2])]]
        return 404, {}, b"{}"


@pytest.fixture
def github() -> Iterator[Github]:
    found = Github({})

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            login = self.headers.get("authorization", "")
            status, headers, body = found.answer(self.path, login)
            begin = int(self.headers.get("range", "bytes=0-")[6:-1])
            if begin:
                status, headers = 206, {"content-range": f"bytes {begin}-/{len(body)}"}
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body) - begin))
            self.end_headers()
            self.wfile.write(body[begin:])

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield found
    server.shutdown()
    server.server_close()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def entry(path: str, content: bytes, **more: Any) -> dict[str, Any]:
    return {"path": path, "size_bytes": len(content), "sha256": sha256(content), **more}


@pytest.fixture
def release(github: Github, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Github:
    small = {"rank-1/outputs/a": b"1", "rank-1/outputs/b": b"22"}
    index = [
        PackedFile(path=path.removeprefix("rank-1/"), size_bytes=len(c), sha256=sha256(c))
        for path, c in small.items()
    ]
    archive = b"".join(packed(list(zip(index, small.values(), strict=True)))) + END
    github.assets |= {
        "model.bin.part001": b"first ",
        "model.bin.part002": b"second",
        "rank-1-packed-001.tar": archive,
        "log.txt": b"a log",
    }
    parts = ["model.bin.part001", "model.bin.part002"]
    name = "rank-1-packed-001.tar"
    files = [
        entry("outputs/model.bin", b"first second", parts=parts),
        *(
            entry(path, c, bundle=name, asset=name, member=path.removeprefix("rank-1/"))
            for path, c in small.items()
        ),
        {"path": "outputs/pipe", "size_bytes": 0, "sha256": "", "left_out": "a named pipe"},
        entry("outputs/empty", b"", left_out="the file is empty; GitHub takes no empty asset"),
    ]
    own = [{"name": "log.txt", "size_bytes": 5, "sha256": sha256(b"a log")}]
    github.assets["manifest.json"] = json.dumps({"files": files, "own_files": own}).encode()
    monkeypatch.setenv("CYNTHUS_GITHUB_API_URL", github.url)
    monkeypatch.setenv("GITHUB_TOKEN", "a-token")
    monkeypatch.setenv("GITHUB_REPOSITORY", "acme/digits")
    monkeypatch.chdir(tmp_path)
    return github


WORDS = [
    ["release", "cynthus/digits/7"],
    ["https://github.com/acme/digits/releases/tag/cynthus/digits/7"],
]


@pytest.mark.parametrize("words", WORDS)
def test_a_release_comes_joined_unpacked_and_checked(
    release: Github, tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command_line.main(["pull", *words]) == 0, capsys.readouterr().err
    folder = tmp_path / "cynthus-outputs" / "cynthus-digits-7"
    found = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".cynthus-pull" not in path.parts
    }
    assert found == {
        "outputs/model.bin": b"first second",
        "rank-1/outputs/a": b"1",
        "rank-1/outputs/b": b"22",
        "outputs/empty": b"",
        "log.txt": b"a log",
    }
    assert {login for path, login in release.asked if "/storage/" in path} == {""}
    assert {login for path, login in release.asked if "/storage/" not in path} == {"Bearer a-token"}


def test_what_differs_from_the_manifest_is_said_and_ends_with_one(
    release: Github, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    release.assets["log.txt"] = b"A LOG"
    del release.assets["model.bin.part002"]
    assert command_line.main(["pull", *WORDS[0]]) == 3
    assert "should have 'model.bin.part002'" in capsys.readouterr().err
    release.assets["model.bin.part002"] = b"second"
    assert command_line.main(["pull", *WORDS[0]]) == 1
    assert "log.txt: should have the SHA-256" in capsys.readouterr().err
    assert not (tmp_path / "cynthus-outputs" / "cynthus-digits-7" / "log.txt").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["release", "cynthus/digits/8"], "GitHub knows none"),
        (["release", "x", "--repository", "digits"], "should be OWNER/NAME"),
        (["release"], "should answer"),
        (["a", "b"], "should be a run's id"),
        (["release", "cynthus/digits/7", "--identity", "absent"], "--identity: should be a file"),
    ],
)
def test_a_wrong_wish_is_told(
    release: Github, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server = ["--server", "http://127.0.0.1:9"]
    assert command_line.main(["pull", *words, *server]) in {2, 3}
    assert said in capsys.readouterr().err


def test_a_manifest_that_is_none_is_refused(
    release: Github, capsys: pytest.CaptureFixture[str]
) -> None:
    for text in (
        b"[]",
        b"{",
        b'{"files": [{"asset": "log.txt"}], "own_files": []}',
        b'{"files": 1}',
    ):
        release.assets["manifest.json"] = text
        assert command_line.main(["pull", *WORDS[0]]) == 3
        assert "manifest.json should be one of Cynthus" in capsys.readouterr().err


def test_addresses_of_releases_are_known() -> None:
    assert named("https://github.com/a/b/releases/tag/x/y") == ("a/b", "x/y")
    assert named("kq3v9x2m7a1b") is None
