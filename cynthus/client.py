"""Call the server's API, in plain words when it says no."""

from __future__ import annotations

import http.client
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urlencode
from urllib.request import HTTPRedirectHandler, OpenerDirector, Request, build_opener

from cynthus.codec import decode, encode
from cynthus.errors import CynthusError, Refused, Transient, UserError
from cynthus.wire import OutputView, RunAccepted, RunEvent, RunRequest, RunView
from cynthus.wire_doctor import DoctorView
from cynthus.wire_kept import CollectView, DataView, PurgeView
from cynthus.wire_money import AuditView, PlanAsk, PlanView, SweepAsk, SweepView

DEFAULT_SERVER = "http://127.0.0.1:8080"
_TIMEOUT_S = 30.0
_STREAM_TIMEOUT_S = 45.0  # the server says something every 15 s: three misses mean it is gone
_RECONNECT_S = 1.0
_MOST_RECONNECTS = 60  # a minute: a server that is being replaced is back long before
_CHUNK_BYTES = 1 << 20
_LONGEST_ERROR = 64 * 1024

T = TypeVar("T")
Wait = Callable[[float], None]


class _NoRedirects(HTTPRedirectHandler):
    """A redirect would carry the token to whoever it names."""

    def redirect_request(self, *_: object) -> None:
        """Follow none: the answer itself becomes the error."""


class _ToStorage(HTTPRedirectHandler):
    """A signed address may lead to where the server keeps blobs; no token goes with it."""

    max_redirections = 2  # this server to the storage: one, and one more for its own reasons

    def redirect_request(  # noqa: PLR0913, PLR0917 - the library's
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        """Follow to a web address, never from https down to http."""
        plain_allowed = req.full_url.startswith("http://")
        if not newurl.startswith(("https://", "http://") if plain_allowed else "https://"):
            return None
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class Client:
    """One server, with the token to speak to it."""

    def __init__(
        self, server: str = DEFAULT_SERVER, token: str = "", *, wait: Wait = time.sleep
    ) -> None:
        self.server = server.rstrip("/")
        if not self.server.startswith(("http://", "https://")):
            raise UserError(
                f"server: should begin with http:// or https://, found {server!r}."
                " Write the whole address."
            )
        self._token, self._wait = token, wait
        self._opener = build_opener(_NoRedirects)
        self._storage_opener = build_opener(_ToStorage)

    def submit(self, request: RunRequest) -> RunAccepted:
        """Ask for a run. Safe to repeat, but for a workflow job's token."""
        return decode(RunAccepted, self._json("POST", "/api/v1/runs", encode(request)))

    def doctor(self) -> DoctorView:
        """Have the server look at itself, which takes up to 15 s."""
        return decode(DoctorView, self._json("GET", "/api/v1/doctor"))

    def get(self, run_id: str) -> RunView:
        """Return one run."""
        return decode(RunView, self._json("GET", f"/api/v1/runs/{_part(run_id)}"))

    def list(self, *, limit: int = 50, before: int | None = None) -> list[dict[str, Any]]:
        """Return rows of the newest runs; `before` is the last row's `seq` of the page before."""
        query = urlencode({"limit": limit} | ({} if before is None else {"before": before}))
        rows: list[dict[str, Any]] = self._json("GET", f"/api/v1/runs?{query}")["runs"]
        return rows

    def events(self, run_id: str, after: int = 0, limit: int = 1000) -> tuple[RunEvent, ...]:
        """Return a page of the run's feed."""
        query = urlencode({"after": after, "limit": limit})
        found = self._json("GET", f"/api/v1/runs/{_part(run_id)}/events?{query}")
        return decode(tuple[RunEvent, ...], found)

    def follow(self, run_id: str, after: int = 0) -> Iterator[RunEvent]:
        """Yield the run's feed as it grows, to its end; a broken connection is made anew.

        Raises: Transient when the server stays away for long; what the server refuses.
        """
        failures = 0
        while True:
            try:
                for event in self._stream(run_id, after):
                    after, failures = event.seq, 0
                    yield event
                    if event.kind == "state" and event.body.get("state") == "finished":
                        return
                if self.get(run_id).state == "finished":
                    yield from self._rest(run_id, after)
                    return
            except Transient:
                failures += 1
                if failures > _MOST_RECONNECTS:
                    raise
            self._wait(_RECONNECT_S)

    def _rest(self, run_id: str, after: int) -> Iterator[RunEvent]:
        while page := self.events(run_id, after):
            yield from page
            after = page[-1].seq

    def _stream(self, run_id: str, after: int) -> Iterator[RunEvent]:
        path = f"/api/v1/runs/{_part(run_id)}/stream?after={after}"
        with self._open("GET", path, timeout_s=_STREAM_TIMEOUT_S) as answer:
            data: list[str] = []
            for line in _lines(answer):
                if line.startswith("data:"):
                    data.append(line[5:].removeprefix(" "))
                elif not line and data:
                    yield decode(RunEvent, json.loads("\n".join(data)))
                    data.clear()

    def log(
        self, run_id: str, attempt: int | None = None, rank: int | None = None
    ) -> Iterator[bytes]:
        """Yield an attempt's log, by default the newest attempt's and of a gang every rank's."""
        asked = {"attempt": attempt, "rank": rank}
        query = "&".join(f"{name}={value}" for name, value in asked.items() if value is not None)
        with self._open("GET", f"/api/v1/runs/{_part(run_id)}/log?{query}") as answer:
            yield from _chunks(answer)

    def cancel(self, run_id: str) -> None:
        """Ask for the run's end. Safe to repeat."""
        self._json("POST", f"/api/v1/runs/{_part(run_id)}/cancel")

    def cancel_all(self, repository_id: int | None = None) -> int:
        """Ask for the end of all live runs, or of a repository's; return how many. Repeatable."""
        query = "" if repository_id is None else f"?repository_id={repository_id}"
        return decode(int, self._json("POST", f"/api/v1/runs/cancel{query}")["runs"])

    def outputs(self, run_id: str) -> tuple[OutputView, ...]:
        """Return the run's files with addresses good for an hour."""
        found = self._json("GET", f"/api/v1/runs/{_part(run_id)}/outputs")
        return decode(tuple[OutputView, ...], found)

    def fetch(self, url: str, at: int = 0) -> tuple[Any, int]:
        """Open a signed address, from a byte on where that can be; return where it begins.

        Raises: Transient; Refused when the address is over or the file is not there.
        """
        # A signed address speaks for itself: no token goes with it.
        if not url.startswith(("https://", "http://")):
            raise Refused("address of an output: should be of the web, found another.")
        request = Request(url, headers={"Range": f"bytes={at}-"} if at else {})  # noqa: S310 - see above
        answer = self._answered(self._storage_opener, request, url)
        begins = _RANGE.match(answer.headers.get("content-range", ""))
        return answer, int(begins[1]) if answer.status == 206 and begins else 0  # noqa: PLR2004 - RFC 9110

    def plan(self, ask: PlanAsk) -> PlanView:
        """Return what a run would get and cost; nothing is ordered."""
        return decode(PlanView, self._json("POST", "/api/v1/plan", encode(ask)))

    def audit(self) -> AuditView:
        """Return what the server's providers lend, beside what it knows."""
        return decode(AuditView, self._json("GET", "/api/v1/audit"))

    def sweep(self, ask: SweepAsk) -> SweepView:
        """Delete what the server does not know. Safe to repeat."""
        return decode(SweepView, self._json("POST", "/api/v1/audit/sweep", encode(ask)))

    def data(self, repository: str = "") -> DataView:
        """Return what is cached: of all repositories, or of one (owner/name or its number)."""
        query = f"?{urlencode({'repository': repository})}" if repository else ""
        return decode(DataView, self._json("GET", f"/api/v1/data{query}"))

    def collect_data(self, *, dry_run: bool) -> CollectView:
        """Give up cached data that is too old or too much; or say what would go. Repeatable."""
        query = f"?dry_run={int(dry_run)}"
        return decode(CollectView, self._json("POST", f"/api/v1/data/gc{query}"))

    def purge_data(self, repository: str) -> PurgeView:
        """Remove a repository's bytes for some seconds; repeat it while there is `more`."""
        query = urlencode({"repository": repository})
        return decode(PurgeView, self._json("POST", f"/api/v1/data/purge?{query}"))

    def trail(self, wanted: Mapping[str, str], after: int = 0) -> Iterator[dict[str, Any]]:
        """Yield lines of the trail beyond a number, oldest first, page after page."""
        while True:
            query = urlencode({**wanted, "after": after})
            with self._open("GET", f"/api/v1/trail?{query}") as answer:
                lines = [json.loads(text) for text in answer.read().splitlines()]
            yield from lines
            if not lines:
                return
            after = lines[-1]["seq"]

    def _json(self, method: str, path: str, value: object = None) -> Any:
        body = None if value is None else json.dumps(value).encode()
        with self._open(method, path, body) as answer:
            try:
                return json.loads(answer.read())
            except (ValueError, http.client.HTTPException, OSError) as error:
                raise Transient(
                    f"{self.server}: should answer JSON, found something else. Is it a Cynthus"
                    " server?"
                ) from error

    def _refusal(self, error: HTTPError, path: str) -> CynthusError:
        message = _message(error)
        run = _OF_A_RUN.match(path)
        if error.code == 404 and run and message.startswith("run: "):  # noqa: PLR2004 - RFC 9110
            message = (
                f"run {unquote(run[1])}: is not known to {self.server}."
                " Check its id: `cynthus status` lists the newest."
            )
        return _refusal(error, message)

    def _open(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        timeout_s: float = _TIMEOUT_S,
    ) -> Any:
        headers = {} if body is None else {"Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        request = Request(self.server + path, body, headers, method=method)  # noqa: S310 - http(s) only: see __init__
        return self._answered(self._opener, request, path, timeout_s)

    def _answered(
        self, opener: OpenerDirector, request: Request, path: str, timeout_s: float = _TIMEOUT_S
    ) -> Any:
        try:
            return opener.open(request, timeout=timeout_s)
        except HTTPError as error:
            with error:
                raise self._refusal(error, path) from error
        except (URLError, OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise Transient(
                f"{self.server}: should answer, found {reason}. Is the server running?"
                " Start one with `cynthus serve`, or name another with --server."
            ) from error


_RANGE = re.compile(r"\Abytes ([0-9]{1,18})-", re.ASCII)
_OF_A_RUN = re.compile(r"/api/v1/runs/([^/?]+)")


def _part(run_id: str) -> str:
    return quote(run_id, safe="")


def _refusal(error: HTTPError, message: str) -> CynthusError:
    if error.code in {408, 429, 500, 502, 503, 504}:
        return Transient(message)
    if error.code in {400, 404, 413, 415, 422}:
        return UserError(message)
    if error.code == 401:  # noqa: PLR2004 - RFC 9110
        return UserError(f"{message} Set CYNTHUS_TOKEN or CYNTHUS_API_TOKEN.")
    return Refused(message)


def _message(error: HTTPError) -> str:
    try:
        return str(json.loads(error.read(_LONGEST_ERROR))["error"]["message"])
    except (ValueError, KeyError, TypeError, OSError, http.client.HTTPException):
        return f"server: answered {error.code} {error.reason}."


def _chunks(answer: Any) -> Iterator[bytes]:
    try:
        while chunk := answer.read(_CHUNK_BYTES):
            yield chunk
    except (OSError, http.client.HTTPException) as error:
        raise Transient("the connection broke. Try again.") from error


def _lines(answer: Any) -> Iterator[str]:
    try:
        for line in answer:
            yield line.decode("utf-8", "replace").rstrip("\r\n")
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise Transient("the connection broke. Try again.") from error
