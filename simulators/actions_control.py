"""A loopback page of the runner: what it runs, and its fault switches.

GET  /healthz                 → {"ok": true}
GET  /_sim/jobs               → workflow runs and their jobs
GET  /_sim/jobs/ID/log        → the log so far, as text
POST /_sim/jobs/ID/cancel     → cancel a running job, as the button on GitHub does
POST /_sim/faults {"paused": true, "no_id_token": true}
     paused       no event is taken (no runner is online) until it is set to false
     no_id_token  jobs get no ACTIONS_ID_TOKEN_REQUEST_* although they ask for it
"""

from __future__ import annotations

import json
import re
import socketserver
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from simulators.actions_orders import Runner

_MOST_BYTES = 10_000  # a fault request is a handful of words
_JOB = re.compile(r"/_sim/jobs/(\d+)/(log|cancel)\Z")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    runner: Runner

    def server_bind(self) -> None:
        # The inherited one looks up this machine's own name in the DNS, for up to ten seconds.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        if self.path == "/healthz":
            self._answer({"ok": True})
        elif self.path == "/_sim/jobs":
            self._answer(_overview(self.server.runner))
        elif (match := _JOB.match(self.path)) and match[2] == "log":
            self._log(int(match[1]))
        else:
            self._answer({"message": "Not Found"}, 404)

    def do_POST(self) -> None:
        if self.path == "/_sim/faults":
            self._set_faults()
        elif (match := _JOB.match(self.path)) and match[2] == "cancel":
            self._cancel(int(match[1]))
        else:
            self._answer({"message": "Not Found"}, 404)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the inherited name
        """Keep quiet: standard output belongs to the jobs."""

    def _set_faults(self) -> None:
        size = min(int(self.headers.get("Content-Length") or 0), _MOST_BYTES)
        try:
            wanted = json.loads(self.rfile.read(size))
            known = set(vars(self.server.runner.faults))
            if not isinstance(wanted, dict) or not set(wanted) <= known:
                raise ValueError(f"the fault switches are {sorted(known)}")
        except ValueError as fault:
            self._answer({"message": str(fault)}, 422)
            return
        for name, value in wanted.items():
            setattr(self.server.runner.faults, name, bool(value))
        self._answer(vars(self.server.runner.faults))

    def _cancel(self, job_id: int) -> None:
        cancel = self.server.runner.live.get(job_id)
        if cancel is None:
            self._answer({"message": "no such job is running"}, 404)
            return
        cancel.set()
        self._answer({"ok": True}, 202)

    def _log(self, job_id: int) -> None:
        ledger = self.server.runner.ledger
        for entry in ledger.entries():
            for name, job in entry.jobs.items():
                if job.job_id == job_id and ledger.log_path(entry, name).exists():
                    self._send(ledger.log_path(entry, name).read_bytes(), "text/plain", 200)
                    return
        self._answer({"message": "Not Found"}, 404)

    def _answer(self, value: object, status: int = 200) -> None:
        self._send(json.dumps(value).encode(), "application/json", status)

    def _send(self, body: bytes, kind: str, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _overview(runner: Runner) -> list[dict[str, object]]:
    return [
        {
            "key": entry.key,
            "event": entry.event,
            "repository": f"{entry.owner}/{entry.repo}",
            "sha": entry.sha,
            "workflow": entry.workflow_path,
            "status": entry.status,
            "result": entry.result,
            "jobs": {
                name: {"job_id": job.job_id, "conclusion": job.conclusion}
                for name, job in entry.jobs.items()
            },
        }
        for entry in runner.ledger.entries()
    ]


def serve_control(runner: Runner, port: int) -> str:
    """Serve the page beside the jobs and return its address."""
    server = _Server(("127.0.0.1", port), _Handler)
    server.runner = runner
    threading.Thread(target=server.serve_forever, daemon=True, name="control").start()
    return f"http://127.0.0.1:{server.server_port}"
