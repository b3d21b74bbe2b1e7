"""The simulated Google Cloud's one world: memory, time, faults, and what is due."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from simulators.gcp_faults import Faults
from simulators.gcp_http import Request, Route
from simulators.gcp_machines import Machines, NoMachines
from simulators.gcp_state import Doc, Store

# Compute Engine writes its times in the time of its home, California, not in UTC.
_HOME = timezone(timedelta(hours=-8))
_LONGEST_NAP_S = 60.0


class World:
    """What the APIs share. Hold `lock` to read or change anything but `now`."""

    def __init__(
        self, folder: Path, *, project: str = "cynthus-sim", machines: Machines | None = None
    ) -> None:
        self.folder = folder
        self.project = project
        self.project_number = "482107553920"
        self.machines: Machines = machines or NoMachines()
        self.url = ""  # set once the port is known
        self.store = Store(folder)
        self.faults = Faults(self.store)
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)  # told when something was due, or is to be
        self.settings: dict[str, Any] = {}  # name → usual value; each API adds its own
        self.gates: list[Callable[[Request, Route], None]] = []  # each may raise GoogleError
        self.starters: list[Callable[[], None]] = []  # each is called once, when the world runs
        self._shift_s = float(self.store.setting("clock_shift_s", 0.0))
        self._still_at: float | None = None
        self._event = threading.local()
        self._due: list[tuple[float, int]] = []
        self._doers: dict[str, Callable[[Doc], None]] = {}
        self.stopping = False
        for key, event in self.store.all("event").items():
            heapq.heappush(self._due, (event["at"], int(key)))

    # time ---------------------------------------------------------------------------------

    def now(self) -> float:
        """Return the world's time in seconds since 1970; inside an event, the time it was due."""
        at: float | None = getattr(self._event, "at", None)
        return self._clock() if at is None else at

    def _clock(self) -> float:
        return (time.time() if self._still_at is None else self._still_at) + self._shift_s

    def stamp(self, at: float | None = None) -> str:
        """Return a time as Compute Engine writes it: 2026-11-22T01:02:03.456-08:00."""
        when = datetime.fromtimestamp(self.now() if at is None else at, _HOME)
        return when.isoformat(timespec="milliseconds")

    @staticmethod
    def epoch(stamp: str) -> float:
        """Return a time that either of these wrote in seconds since 1970."""
        return datetime.fromisoformat(stamp).timestamp()

    def zulu(self, at: float | None = None) -> str:
        """Return a time as the newer APIs write it: 2026-11-22T09:02:03.456789Z."""
        when = datetime.fromtimestamp(self.now() if at is None else at, UTC)
        return when.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"

    def advance(self, seconds: float) -> None:
        """Move the clock; what becomes due happens before this returns, in its order."""
        with self.lock:
            self._shift_s += seconds
            self.store.set("clock_shift_s", self._shift_s)
            self.run_due()

    def hold(self) -> None:
        """Stop the clock for good: only `advance` moves it on, however slow the machine is."""
        with self.lock:
            if self._still_at is None:
                self._still_at = time.time()

    def delay(self, name: str) -> float:
        """Return one of the settings that are seconds."""
        return float(self.store.setting(name, self.settings[name]))

    # what is due --------------------------------------------------------------------------

    def on(self, what: str, do: Callable[[Doc], None]) -> None:
        """Say who carries out events of a kind; called once per kind, before the world runs."""
        self._doers[what] = do

    def later(self, delay_s: float, what: str, **facts: Any) -> None:
        """Have an event carried out after a delay; it survives a restart."""
        number = self.store.count("event")
        event = {"at": self.now() + delay_s, "what": what, **facts}
        self.store.put("event", str(number), event)
        heapq.heappush(self._due, (event["at"], number))
        self.changed.notify_all()

    def run_due(self) -> None:
        """Carry out what is due, oldest first, each at the time it was due."""
        with self.lock:
            if getattr(self._event, "at", None) is not None:
                return  # an event may not carry out another inside itself
            while self._due and self._due[0][0] <= self._clock():
                at, number = heapq.heappop(self._due)
                self._carry_out(at, str(number))
                self.changed.notify_all()

    def _carry_out(self, at: float, key: str) -> None:
        event = self.store.get("event", key)
        if event is None:
            return
        self.store.delete("event", key)
        self._event.at = at
        try:
            self._doers[event["what"]](event)
        finally:
            self._event.at = None

    def start(self) -> None:
        """Begin to carry out what becomes due, in a thread of its own."""
        with self.lock:
            for starter in self.starters:
                starter()
        threading.Thread(target=self._keep_time, name="gcp-time", daemon=True).start()

    def _keep_time(self) -> None:
        with self.lock:
            while not self.stopping:
                self.run_due()
                nap = _LONGEST_NAP_S
                if self._due:
                    nap = min(nap, self._due[0][0] - self._clock())
                if nap > 0:
                    self.changed.wait(nap)

    def close(self) -> None:
        """Stop; the state stays."""
        with self.lock:
            self.stopping = True
            self.changed.notify_all()
        self.machines.close()
        with self.lock:
            self.store.close()
