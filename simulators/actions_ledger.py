"""What the runner must not forget in a crash: the events it took and the jobs it began."""

from __future__ import annotations

import json
import os
import re
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(kw_only=True)
class JobEntry:
    """One job of a workflow run. `job_id` is 0 until GitHub has answered its registration."""

    job_id: int = 0
    conclusion: str = ""  # set, with the log complete on disk, before it is reported
    reported: bool = False
    report: dict[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class RunEntry:
    """One workflow started by one event."""

    key: str
    seq: int
    event: str
    payload: dict[str, Any]
    owner: str
    repo: str
    sha: str
    ref: str
    workflow_path: str
    run_id: int = 0  # known when the first job is registered
    status: str = "planned"  # planned → running → done
    result: str = ""
    jobs: dict[str, JobEntry] = field(default_factory=dict)

    def is_fork(self) -> bool:
        """Say whether the event is a pull request from another repository."""
        if self.event != "pull_request":
            return False
        pull = self.payload["pull_request"]
        head, base = pull["head"].get("repo") or {}, pull["base"].get("repo") or {}
        return bool(head.get("id") != base.get("id") or not head)

    def pull(self, side: str, name: str) -> str:
        """Give a member of the head or base of the pull request; '' where there is none."""
        pull = self.payload.get("pull_request")
        return str(pull[side].get(name) or "") if pull else ""

    def registration(self, job_name: str, workflow_name: str) -> dict[str, Any]:
        """Say what GitHub is told about a job."""
        sender = self.payload.get("sender") or {}
        known = {"run_id": self.run_id} if self.run_id else {}
        return known | {
            "owner": self.owner,
            "repo": f"{self.owner}/{self.repo}",
            "sha": self.sha,
            "ref": self.ref,
            "head_sha": self.pull("head", "sha") or self.sha,  # check runs hang on the head
            "head_ref": self.pull("head", "ref"),
            "base_ref": self.pull("base", "ref"),
            "fork": self.is_fork(),
            "event": self.event,
            "event_payload": self.payload,
            "workflow_path": self.workflow_path,
            "workflow": workflow_name,
            "workflow_name": workflow_name,
            "job_name": job_name,
            "actor": str(sender.get("login", "")),
            "run_key": self.key,  # the same for all jobs of one workflow run
        }


class Ledger:
    """The state folder. Every write is whole or absent, whatever crashes."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self._runs = state / "runs"
        self._runs.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()

    def cursor(self) -> int:
        """Say the number of the last event that was planned."""
        path = self.state / "cursor.json"
        return int(json.loads(path.read_text())["seq"]) if path.exists() else 0

    def advance(self, seq: int) -> None:
        """Remember that an event and all before it are planned."""
        self._write(self.state / "cursor.json", {"seq": seq})

    def plan(self, entry: RunEntry) -> bool:
        """Keep a workflow run, and say whether it is new: one planned before a crash is not."""
        if self._path(entry.key).exists():
            return False
        self.save(entry)
        return True

    def save(self, entry: RunEntry) -> None:
        """Keep an entry as it now is."""
        with self._lock:
            self._write(self._path(entry.key), asdict(entry))

    def entries(self) -> list[RunEntry]:
        """Read every workflow run, the oldest first."""
        return [_entry(json.loads(path.read_text())) for path in sorted(self._runs.glob("*.json"))]

    def log_path(self, entry: RunEntry, job_name: str) -> Path:
        """Say where a job's log lies."""
        return self.state / "logs" / entry.key / f"{slug(job_name)}.log"

    def work_path(self, entry: RunEntry, job_name: str) -> Path:
        """Say where a job works."""
        return self.state / "work" / entry.key / slug(job_name)

    def _path(self, key: str) -> Path:
        return self._runs / f"{key}.json"

    @staticmethod
    def _write(path: Path, value: dict[str, Any]) -> None:
        draft = path.with_suffix(".tmp")
        with draft.open("w") as file:
            json.dump(value, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)


def _entry(value: dict[str, Any]) -> RunEntry:
    jobs = {name: JobEntry(**job) for name, job in value.pop("jobs").items()}
    return RunEntry(jobs=jobs, **value)


def slug(text: str) -> str:
    """Make a file name of a text; the number tells apart what the letters do not."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[:60]
    if plain == text:
        return plain
    return f"{plain}-{sum(ord(c) * (i + 1) for i, c in enumerate(text)) % 10**6}"
