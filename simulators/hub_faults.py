"""The bad days of a simulated hub: what goes wrong, for which requests, how often."""

from __future__ import annotations

import re
import threading
from typing import Any

from simulators.hub_http import Refusal

KINDS = frozenset(
    {"error", "rate_limit", "cut", "reset", "slow", "corrupt", "wrong_length", "no_range",
     "drop_answer"}
)  # fmt: skip
Fault = dict[str, Any]


class Faults:
    """Switches, each with how often it struck."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(self, wish: Fault) -> Fault:
        """Arm one: `kind`, `host`, `method`, `path` (a regular expression), `times` (-1: for ever).

        Raises: Refusal (400).
        """
        if wish.get("kind") not in KINDS:
            raise Refusal(400, {"error": f"kind: one of {', '.join(sorted(KINDS))}"})
        try:
            re.compile(str(wish.get("path", "")))
        except re.error as error:
            raise Refusal(400, {"error": f"path: {error}"}) from None
        fault = {"times": 1, "struck": 0, **wish}
        with self._lock:
            self._faults.append(fault)
        return fault

    def all(self) -> list[Fault]:
        """Return them as they are now."""
        with self._lock:
            return [dict(fault) for fault in self._faults]

    def clear(self) -> None:
        """Disarm all."""
        with self._lock:
            self._faults.clear()

    def take(self, host: str, method: str, target: str) -> dict[str, Fault]:
        """Return those that strike this request by their kind, at most one of each."""
        found: dict[str, Fault] = {}
        if not self._faults:
            return found
        with self._lock:
            for fault in self._faults:
                spent = 0 <= fault["times"] <= fault["struck"]
                if spent or fault["kind"] in found or not _matches(fault, host, method, target):
                    continue
                fault["struck"] += 1
                found[fault["kind"]] = dict(fault)
        return found


def _matches(fault: Fault, host: str, method: str, target: str) -> bool:
    return (
        fault.get("host", host) == host
        and fault.get("method", method) == method
        and bool(re.search(str(fault.get("path", "")), target))
    )
