"""The control endpoints of a simulated hub; a journal lets its world survive `kill -9`."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from simulators.hub_content import Content
from simulators.hub_faults import Faults
from simulators.hub_files import Offered, PlainFiles
from simulators.hub_http import Answer, Refusal, Request, json_answer
from simulators.hub_limits import Limits
from simulators.hub_wishes import Wishes

Wish = dict[str, Any]
Endpoint = Callable[[Wish, datetime], Answer]
_MOST_REMEMBERED = 100_000  # requests: ten thousand files are fetched by thirty thousand


class Clock:
    """The simulator's time."""

    def __init__(self) -> None:
        self.shift_s = 0.0

    def now(self) -> float:
        """Return the seconds since 1970."""
        return time.time() + self.shift_s


class Seen:
    """The requests that were answered, newest last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: list[dict[str, Any]] = []

    def note(self, line: dict[str, Any]) -> None:
        """Remember one."""
        with self._lock:
            self._lines.append(line)
            if len(self._lines) > 2 * _MOST_REMEMBERED:
                del self._lines[:-_MOST_REMEMBERED]

    def lines(self) -> list[dict[str, Any]]:
        """Return them."""
        with self._lock:
            return self._lines[-_MOST_REMEMBERED:]

    def clear(self) -> None:
        """Forget them."""
        with self._lock:
            self._lines.clear()


class Control:
    """Everything below `/_sim/`."""

    def __init__(
        self, journal: Path, clock: Clock, faults: Faults, limits: Limits, seen: Seen
    ) -> None:
        self._journal, self._clock = journal, clock
        self._faults, self._limits, self._seen = faults, limits, seen
        self._lock = threading.Lock()
        self._worlds: dict[tuple[str, str], Endpoint] = {}

    def add(self, prefix: str, endpoints: dict[tuple[str, str], Endpoint]) -> None:
        """Add endpoints that make a world; a start does again what they did."""
        self._worlds |= {(verb, prefix + name): call for (verb, name), call in endpoints.items()}

    def again(self) -> None:
        """Do what the journal says; a last line that was cut counts as never written."""
        if not self._journal.is_file():
            return
        whole, end, _cut = self._journal.read_text().rpartition("\n")
        self._journal.write_text(whole + end)
        for line in whole.splitlines():
            told = json.loads(line)
            at = datetime.fromtimestamp(told["at"], UTC)
            self._worlds[told["method"], told["name"]](told["wish"], at)

    def answer(self, request: Request) -> Answer:
        """Answer a control request.

        Raises: Refusal.
        """
        name, wish = request.path.removeprefix("/_sim/"), request.json()
        try:
            if (request.method, name) in self._worlds:
                return self._make(request.method, name, wish)
            return self._switch(request.method, name, wish)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Refusal(400, {"error": f"{type(error).__name__}: {error}"}) from None

    def _switch(self, method: str, name: str, wish: Wish) -> Answer:
        match method, name:
            case "POST", "faults":
                return json_answer(self._faults.add(wish), 201)
            case "GET", "faults":
                return json_answer(self._faults.all())
            case "DELETE", "faults":
                self._faults.clear()
            case "GET", "requests":
                return json_answer(self._seen.lines())
            case "DELETE", "requests":
                self._seen.clear()
            case "POST", "clock":
                self._clock.shift_s += float(wish["advance_s"])
            case "POST", "limits":
                self._limit(wish)
            case _:
                raise Refusal(404, {"error": "no such control endpoint"})
        return json_answer({})

    def _make(self, method: str, name: str, wish: Wish) -> Answer:
        with self._lock:
            now = self._clock.now()
            answer = self._worlds[method, name](wish, datetime.fromtimestamp(now, UTC))
            with self._journal.open("a") as journal:
                told = {"at": now, "method": method, "name": name, "wish": wish}
                journal.write(json.dumps(told) + "\n")
            return answer

    def _limit(self, wish: Wish) -> None:
        self._limits.enforced = bool(wish.get("enforced", True))
        for bucket, known in list(self._limits.quotas):
            if bucket in wish:
                self._limits.quotas[bucket, known] = int(wish[bucket])


def file_endpoints(plain: PlainFiles, wishes: Wishes) -> dict[tuple[str, str], Endpoint]:
    """Return the endpoint that offers a plain file."""

    def offer(wish: Wish, at: datetime) -> Answer:
        content = wishes.content(wish["content"]) if "content" in wish else Content(b"")
        more = {
            name: wish[name]
            for name in ("media_type", "redirect", "status", "authorization")
            if name in wish
        }
        plain.offered[wish["path"]] = Offered(content=content, modified_at=at.timestamp(), **more)
        return json_answer({"size": content.size, "sha256": content.sha256}, 201)

    def withdraw(wish: Wish, _at: datetime) -> Answer:
        plain.offered.pop(wish["path"], None)
        return json_answer({})

    return {("POST", "files"): offer, ("DELETE", "files"): withdraw}
