"""Our ignore rules choose the files that Docker's own client chooses.

The client filters the context itself and sends it to the engine as a tar archive. Here a door on a
Unix socket takes the engine's place and reads which names arrive: no engine, no image.
"""

from __future__ import annotations

import io
import os
import random
import re
import shutil
import socketserver
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from action.source import source

# Every name that the letters below can meet, in folders two deep.
NAMES = ("a", "b", "ab", "ba", "a.b", "b.a", ".a", "aab", "a-b", "é", "[a]")
# An escaped letter is left out: Docker hands `\\d` on to Go as a regular expression, a digit,
# against its own page, which says that `\\` makes a character stand for itself.
PIECES = (
    "a",
    "b",
    "*",
    "**",
    "?",
    "/",
    "/",
    "**/",
    "/**",
    ".",
    "[ab]",
    "[^a]",
    "[a-b]",
    "\\[",
    "é",
)
PREFIXED = 120  # rules of one client's run, each for a folder of its own
ALONE = 20  # runs with a few rules each, for what only the start of a line can say


class _Engine(socketserver.UnixStreamServer):
    """The two doors of an engine that `docker build` knocks at."""

    def __init__(self, path: str) -> None:
        super().__init__(path, _Doors)
        self.context = b""


class _Doors(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Engine

    def do_HEAD(self) -> None:
        self._answer(b"")

    def do_GET(self) -> None:
        self._answer(b"OK")

    def do_POST(self) -> None:
        body = io.BytesIO()
        while length := int(self.rfile.readline(), 16):
            body.write(self.rfile.read(length))
            self.rfile.readline()
        self.rfile.readline()
        self.server.context = body.getvalue()
        self._answer(b'{"stream":"Successfully built 0\\n"}\n')

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Api-Version", "1.41")
        self.send_header("Ostype", "linux")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def address_string(self) -> str:
        return "client"

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def engine() -> Iterator[_Engine]:
    folder = tempfile.mkdtemp(prefix="engine-")  # a socket's path must be short
    with _Engine(f"{folder}/socket") as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def client() -> str:
    """Return a client that judges as BuildKit does; older ones looked at one folder above only.

    https://github.com/docker/buildx/issues/850
    """
    for folder in os.get_exec_path():
        path = shutil.which("docker", path=folder)
        words = (path, "version", "--format", "{{.Client.Version}}")
        if path and int(_output(words).partition(".")[0] or "0") >= 23:
            return path
    pytest.skip("no docker client of version 23 or newer")


def _output(words: tuple[str | None, ...]) -> str:
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=60)
    return done.stdout


def docker_keeps(client: str, engine: _Engine, folder: Path) -> set[str]:
    """Return the files that `docker build` sends."""
    surroundings = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder.parent),
        "DOCKER_HOST": f"unix://{engine.server_address}",
        "DOCKER_BUILDKIT": "0",
    }
    words = (client, "build", "--quiet", str(folder))
    done = subprocess.run(words, check=False, env=surroundings, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    with tarfile.open(fileobj=io.BytesIO(engine.context)) as archive:
        found = {member.name for member in archive if member.isfile()}
    return found - {"Dockerfile", ".dockerignore"}


def we_keep(folder: Path) -> set[str]:
    chosen = source.select(folder, ".", source.rules_of(folder))
    return {item.path for item in chosen.items if item.kind is source.Kind.FILE} - {"Dockerfile"}


def a_tree(folder: Path) -> None:
    for top in NAMES:
        (folder / top).mkdir(parents=True)
        for name in NAMES:
            (folder / top / name).touch()
    for name in ("c", "abc", "a.c"):
        (folder / name).touch()


def a_pattern(chance: random.Random) -> str:
    while True:
        pattern = "".join(chance.choice(PIECES) for _ in range(chance.randint(1, 6)))
        if pattern.strip("/.") and "***" not in pattern and "..." not in pattern:
            return pattern


def an_exception(chance: random.Random) -> str:
    """Return a `!` line that the client honours in an ignored folder, too.

    Other wildcards it does not look for there, a fault that BuildKit does not have:
    https://github.com/moby/buildkit/issues/2371
    """
    pieces = [piece for piece in PIECES if "/" not in piece and piece not in {"**", "[^a]"}]
    short = "".join(chance.choice(pieces) for _ in range(chance.randint(1, 3)))
    return "!" + chance.choice((short.replace("**", "*"), "b/a", "ab/b/a", "a", "b", "ab/b"))


def test_rules_for_a_folder_choose_what_docker_chooses(
    client: str, engine: _Engine, tmp_path: Path
) -> None:
    chance = random.Random(20261122)
    folder = tmp_path / "context"
    rules = []
    for n in range(PREFIXED):
        wanted = [a_pattern(chance), a_pattern(chance), an_exception(chance), a_pattern(chance)]
        chance.shuffle(wanted)
        rules += [re.sub("^!?", rf"\g<0>p{n}/", rule) for rule in wanted]
        a_small = folder / f"p{n}"
        for name in ("a", "b/a", "ab/b/a", "a.b/[a]", "é/b"):
            (a_small / name).parent.mkdir(parents=True, exist_ok=True)
            (a_small / name).touch()
    (folder / "Dockerfile").write_text("FROM scratch\n")
    (folder / ".dockerignore").write_text("\n".join(rules) + "\n")
    differ = {
        path.partition("/")[0] for path in we_keep(folder) ^ docker_keeps(client, engine, folder)
    }
    assert [rule for rule in rules if rule.lstrip("!").partition("/")[0] in differ] == []


def test_a_few_rules_choose_what_docker_chooses(
    client: str, engine: _Engine, tmp_path: Path
) -> None:
    chance = random.Random(19)
    folder = tmp_path / "context"
    a_tree(folder)
    (folder / "Dockerfile").write_text("FROM scratch\n")
    differ = {}
    for _ in range(ALONE):
        rules = [a_pattern(chance), an_exception(chance), a_pattern(chance)]
        (folder / ".dockerignore").write_text("\n".join(rules) + "\n")
        ours, theirs = we_keep(folder), docker_keeps(client, engine, folder)
        if ours != theirs:
            differ[tuple(rules)] = sorted(ours ^ theirs)
    assert differ == {}
