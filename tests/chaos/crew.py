"""Agents on the simulated cloud's instances: the real protocol; their work is to wait."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from cynthus.codec import decode, encode
from cynthus.wire import (
    AgentEvent,
    AgentState,
    Enrolled,
    Enrolment,
    EventKind,
    Exit,
    Heartbeat,
    Work,
)
from tests.builders import some_facts
from tests.gcp_fixture import GcpSimulator

LOOK_S = 0.1  # between looks at the cloud's instances
BEAT_S = 0.5  # faster than agents beat, so that a test need not wait for the next one
ANSWER_LIMIT_S = 10.0  # as agents have it: a held link must not hold an agent for ever
OVER = frozenset({401, 409, 410})


@dataclass(frozen=True, kw_only=True)
class Executed:
    """One attempt's command, from its first moment to its last (`time.monotonic`)."""

    run_id: str
    attempt: int
    begun: float
    ended: float


@dataclass
class Crew:
    """One agent for each instance that runs, until the crew is dismissed."""

    cloud: GcpSimulator
    server_port: int
    audience: str
    executed: list[Executed] = field(default_factory=list)
    refused: list[tuple[str, int]] = field(default_factory=list)  # instance, 401 or 410
    may_end: threading.Event = field(default_factory=threading.Event)  # the work may
    _present: frozenset[str] = frozenset()
    _last_seen: dict[str, float] = field(default_factory=dict)  # `time.monotonic`
    _agents: dict[str, threading.Thread] = field(default_factory=dict)
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._watcher = threading.Thread(target=self._watch, name="crew")
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._watcher.join()
        for agent in self._agents.values():
            agent.join()

    def _watch(self) -> None:
        while not self._over.wait(LOOK_S):
            there = {one["name"]: one for one in self.cloud.sim("GET", "/instances")}
            self._present = frozenset(there)
            self._last_seen.update(dict.fromkeys(there, time.monotonic()))
            for name, one in there.items():
                if one["status"] == "RUNNING" and name not in self._agents:
                    agent = threading.Thread(target=self._serve, args=(one,), name=name)
                    self._agents[name] = agent
                    agent.start()

    def _lives(self, name: str) -> bool:
        return name in self._present and not self._over.is_set()

    # ── one agent ──────────────────────────────────────────────────────────────────────────────

    def _serve(self, machine: dict[str, Any]) -> None:
        name = str(machine["name"])
        enrolled = self._enrol(machine)
        if enrolled is None:
            return
        begun = time.monotonic()
        work = enrolled.work
        beats = self._beats(work, name)
        for seq, beat in enumerate(beats, start=1):
            message = {**encode(beat), "seq": seq}
            if self._told(name, "/agent/v1/heartbeat", message, enrolled.token) is None:
                break
        # With its instance it ended as well, however late this thread has come to know of it.
        gone = name not in self._present
        ended = self._last_seen[name] if gone else time.monotonic()
        self.executed.append(
            Executed(run_id=work.run_id, attempt=work.attempt, begun=begun, ended=ended)
        )

    def _beats(self, work: Work, name: str) -> Iterator[Heartbeat]:
        """Yield what is to be told, while the instance is there."""
        log = AgentEvent(at=_now(), kind=EventKind.LOG, body={"text": f"attempt {work.attempt}\n"})
        yield _beat(AgentState.RUNNING, events=(log,))
        while not self.may_end.wait(BEAT_S):
            if not self._lives(name):
                return
            yield _beat(AgentState.RUNNING)
        yield _beat(AgentState.UPLOADING, exit=Exit(code=0))
        yield _beat(AgentState.DONE, exit=Exit(code=0), outputs=())

    def _enrol(self, machine: dict[str, Any]) -> Enrolled | None:
        name = str(machine["name"])
        ask = Enrolment(
            instance=name,
            secret="",
            nonce=uuid.uuid4().hex,
            agent_version="0",
            facts=some_facts(cpu_count=8, memory_bytes=64 << 30),
            identity_token=self._identity(machine),
        )
        answer = self._told(name, "/agent/v1/enrol", encode(ask))
        return None if answer is None else decode(Enrolled, answer)

    def _identity(self, machine: dict[str, Any]) -> str:
        now = int(time.time())
        about = {
            "instance_creation_timestamp": now,
            "instance_id": machine["id"],
            "instance_name": machine["name"],
            "project_id": self.cloud.project,
            "zone": machine["zone"].rpartition("/")[2],
        }
        claims = {
            "iss": "https://accounts.google.com",
            "aud": self.audience,
            "iat": now,
            "exp": now + 3600,
            "google": {"compute_engine": about},
        }
        return str(self.cloud.post("/identity", claims=claims)["value"])

    def _told(self, name: str, path: str, message: object, token: str = "") -> Any:
        """Return the answer to a message, sent until it is answered; None: it is over."""
        while self._lives(name):
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                status, body = _post(self.server_port, path, message, token)
                if status == 200:
                    return json.loads(body)
                if status in OVER:
                    self.refused.append((name, status))
                    return None
            self._over.wait(BEAT_S)
        return None


def _post(port: int, path: str, message: object, token: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_LIMIT_S)
    headers = {"content-type": "application/json"}
    if token:
        headers["authorization"] = f"Bearer {token}"
    with contextlib.closing(connection):
        connection.request("POST", path, json.dumps(message).encode(), headers)
        answer = connection.getresponse()
        return answer.status, answer.read()


def _beat(state: AgentState, **members: Any) -> Heartbeat:
    return Heartbeat(seq=1, sent_at=_now(), state=state, **members)


def _now() -> datetime:
    return datetime.now(UTC)
