"""A small real HTTP server that plays `/agent/v1` and the blob store for tests of the agent."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import quote, unquote

from cynthus.codec import encode
from cynthus.wire import Enrolled, Rendezvous, Work

SECRET = "cye_one-time-secret-of-this-test"
TOKEN = "cya_token-of-this-test-that-nobody-may-see"


def a_work(**changes: Any) -> Work:
    """Return work that prints one word; `changes` say what matters to the test."""
    plain = Work(
        run_id="rtest",
        attempt=1,
        name="test",
        image="",
        command="echo hello",
        env={},
        secrets={},
        cpu=None,
        memory_bytes=None,
        disk_bytes=None,
        gpu_count=0,
        outputs=(),
        deadline_s=120.0,
        silence_limit_s=60.0,
        stop_grace_s=2.0,
        log_limit_bytes=4 << 20,
        output_limit_bytes=64 << 20,
        output_limit_files=100,
        pids_limit=256,
        shm_bytes=16 << 20,
    )
    return replace(plain, **changes)


@dataclass
class ControlPlane:
    """What the server was told, with what it shall answer."""

    work: Work
    heartbeat_s: float = 10.0
    beats: list[dict[str, Any]] = field(default_factory=list)
    largest_beat: int = 0
    blobs: dict[str, bytes] = field(default_factory=dict)
    enrolments: list[dict[str, Any]] = field(default_factory=list)
    stop: str | None = None
    status: int = 200  # what heartbeats are answered with
    drop_answers: int = 0  # heartbeats that are taken, but whose answer is lost
    fail_puts: int = 0
    identity: str | None = None  # the token that the enrolment must bring instead of the secret
    rendezvous: Rendezvous | None = None
    deadline_s: float | None = None  # from now, once the run was given more time (or less)
    next_answers: list[int | Work] = field(default_factory=list)  # to /agent/v1/next, in order
    nexts: list[dict[str, Any]] = field(default_factory=list)
    past: list[list[dict[str, Any]]] = field(default_factory=list)  # beats of earlier attempts
    token: str = TOKEN
    checkpoints: list[dict[str, Any]] = field(default_factory=list)
    agent_pyz: bytes = b""  # what is served as the agent's own program
    changed: threading.Condition = field(default_factory=threading.Condition)
    url: str = ""

    def __enter__(self) -> Self:
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def wait(self, condition: Any, timeout_s: float = 60.0) -> None:
        """Wait until `condition()` holds after some message."""
        with self.changed:
            if not self.changed.wait_for(condition, timeout_s):
                raise AssertionError(f"not within {timeout_s} s; last beats: {self.beats[-3:]}")

    def wait_state(self, state: str) -> None:
        self.wait(lambda: any(beat["state"] == state for beat in self.beats))

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [e["body"] for b in self.beats for e in b["events"] if e["kind"] == kind]

    @property
    def log(self) -> str:
        return "".join(body["text"] for body in self.events("log"))

    @property
    def exit(self) -> dict[str, Any]:
        found: dict[str, Any] = next(b["exit"] for b in reversed(self.beats) if b["exit"])
        return found

    @property
    def outputs(self) -> dict[str, dict[str, Any]]:
        assert self.beats[-1]["state"] == "done"
        return {found["path"]: found for found in self.beats[-1]["outputs"]}

    def route(self, path: str, authorization: str | None, body: bytes) -> tuple[int, Any]:
        message = json.loads(body)
        if path == "/agent/v1/enrol":
            return self.enrol(message)
        if authorization != f"Bearer {self.token}":
            return 401, _error("not your token")
        if path == "/agent/v1/heartbeat":
            return self.beat(message, len(body))
        if path == "/agent/v1/next":
            return self.next(message)
        if path == "/agent/v1/checkpoints/blobs":
            return 200, {"grants": [self.blob_grant(blob) for blob in message["blobs"]]}
        if path == "/agent/v1/checkpoints":
            self.checkpoints.append(message)
            return 200, {"number": len(self.checkpoints)}
        if path.startswith("/agent/v1/data/"):
            return 404, _error("this server keeps no data")
        return self.grant(message)

    # ── what it does ─────────────────────────────────────────────────────────────────────────

    def enrol(self, message: dict[str, Any]) -> tuple[int, Any]:
        proof = (SECRET, None) if self.identity is None else ("", self.identity)
        if (message["secret"], message["identity_token"]) != proof:
            return 401, _error("not the proof")
        self.enrolments.append(message)
        if message["nonce"] != self.enrolments[0]["nonce"]:
            return 409, _error("taken by another agent")
        answer = Enrolled(token=self.token, work=self.work, heartbeat_s=self.heartbeat_s)
        return 200, encode(answer)

    def beat(self, message: dict[str, Any], size: int) -> tuple[int, Any]:
        if self.status != 200:
            return self.status, _error("the attempt is over")
        accepted = self.beats[-1]["seq"] if self.beats else 0
        self.largest_beat = max(self.largest_beat, size)
        if message["seq"] == accepted + 1:
            self.beats.append(message)
            accepted += 1
        else:
            assert message["seq"] == accepted, "a gap in the sequence"
            assert message == self.beats[-1], "a repeat must be the same"
        if self.drop_answers:
            self.drop_answers -= 1
            return 0, None
        meet = encode(self.rendezvous)
        answer = {"accepted_seq": accepted, "stop": self.stop, "masks": [], "rendezvous": meet}
        return 200, answer | ({} if self.deadline_s is None else {"deadline_s": self.deadline_s})

    def next(self, message: dict[str, Any]) -> tuple[int, Any]:
        self.nexts.append(message)
        answer = self.next_answers.pop(0) if self.next_answers else 410
        if isinstance(answer, int):
            return answer, _error("the machine is given back") if answer != 204 else None
        self.past.append(self.beats)
        self.beats = []
        self.token = f"{TOKEN}-{len(self.past) + 1}"
        enrolled = Enrolled(token=self.token, work=answer, heartbeat_s=self.heartbeat_s)
        return 200, encode(enrolled)

    def grant(self, message: dict[str, Any]) -> tuple[int, Any]:
        path = quote(message["path"], safe="")
        url: str | None = f"/blobs/{path}?size={message['size_bytes']}&sha256={message['sha256']}"
        lies_there = self.blobs.get(message["path"])
        if lies_there is not None and hashlib.sha256(lies_there).hexdigest() == message["sha256"]:
            url = None
        answer = {"url": url, "expires_at": "2030-01-01T00:00:00Z"}
        return 200, answer | {"confirm": not message["sha256"]}

    def blob_grant(self, blob: dict[str, Any]) -> dict[str, Any]:
        if blob["sha256"] in self.blobs:
            return {"url": None, "expires_at": "2030-01-01T00:00:00Z"}
        return self.grant({**blob, "path": blob["sha256"]})[1]

    def put(self, target: str, content: bytes) -> int:
        name, _, query = target.removeprefix("/blobs/").partition("?")
        terms = dict(pair.split("=") for pair in query.split("&"))
        if self.fail_puts:
            self.fail_puts -= 1
            return 503
        assert len(content) == int(terms["size"])
        assert terms["sha256"] in {"", hashlib.sha256(content).hexdigest()}
        self.blobs[unquote(name)] = content
        return 200


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A machine that lost its power breaks its connection off: that is no news."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def _error(text: str) -> dict[str, Any]:
    return {"error": {"code": "test", "message": text}}


def _handler(plane: ControlPlane) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: object) -> None:
            pass

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            with plane.changed:
                status, answer = plane.route(self.path, self.headers["authorization"], body)
                plane.changed.notify_all()
            if not status:
                self.close_connection = True
                return
            self._answer(status, b"" if status == 204 else json.dumps(answer).encode())

        def do_GET(self) -> None:
            found = self.path == "/agent.pyz"
            self._answer(200 if found else 404, plane.agent_pyz if found else b"")

        def do_PUT(self) -> None:
            content = self.rfile.read(int(self.headers["content-length"]))
            with plane.changed:
                status = plane.put(self.path, content)
            self._answer(status, b"{}")

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler
