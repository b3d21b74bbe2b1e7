"""The bad days of a simulated registry: what goes wrong, for which requests, how often."""

from __future__ import annotations

import re
import threading
from typing import Any

from simulators.oci_http import Refusal

KINDS = frozenset(
    {"error", "cut", "cut_answer", "drop_answer", "vanish", "wrong_digest", "corrupt", "slow",
     "expire", "stuck_range", "no_range"}
)  # fmt: skip
Fault = dict[str, Any]


class Faults:
    """Switches, each with how often it struck."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(self, wish: Fault) -> Fault:
        """Arm one: `kind`, `method`, `path` (a regular expression), `times` (-1: for ever)."""
        if wish.get("kind") not in KINDS:
            raise Refusal(400, "UNSUPPORTED", f"kind: one of {', '.join(sorted(KINDS))}")
        re.compile(str(wish.get("path", "")))
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

    def take(self, method: str, target: str) -> list[Fault]:
        """Return those that strike this request, at most one of a kind."""
        found: dict[str, Fault] = {}
        with self._lock:
            for fault in self._faults:
                spent = 0 <= fault["times"] <= fault["struck"]
                if spent or fault["kind"] in found or not _matches(fault, method, target):
                    continue
                fault["struck"] += 1
                found[fault["kind"]] = dict(fault)
        return list(found.values())


def _matches(fault: Fault, method: str, target: str) -> bool:
    return fault.get("method", method) == method and bool(
        re.search(str(fault.get("path", "")), target)
    )
