"""Bad days on demand: what `/_sim/faults` switches on, and what strikes a request."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from simulators.gcp_http import GoogleError
from simulators.gcp_state import Doc, Store

# Kinds that any API knows; the others belong to the API that registers them.
ANSWER_KINDS = ("error", "lost", "delay", "late")


class Faults:
    """The faults that are switched on; every use holds the world's lock."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.kinds = set(ANSWER_KINDS)

    def add(self, wish: Doc) -> Doc:
        """Switch a fault on: `kind`, `match`, `times` (1; -1 for ever), `after` (0), and more.

        `match` holds a regular expression for each fact that is to be looked at.
        """
        kind = wish.get("kind")
        if kind not in self.kinds:
            raise GoogleError(400, f"kind: should be one of {sorted(self.kinds)}, found {kind!r}")
        match = wish.get("match") or {}
        for name, pattern in match.items():
            try:
                re.compile(pattern)
            except (re.error, TypeError) as error:
                raise GoogleError(
                    400, f"match/{name}: should be a regular expression: {error}"
                ) from None
        fault = {"times": 1, "after": 0, "struck": 0, "seen": 0, **wish, "match": match}
        fault["id"] = str(self._store.count("fault"))
        return self._store.put("fault", fault["id"], fault)

    def listed(self) -> list[Doc]:
        """Return all, with how often each was `seen` and `struck`."""
        return list(self._store.all("fault").values())

    def clear(self) -> None:
        """Switch all off."""
        for key in self._store.all("fault"):
            self._store.delete("fault", key)

    def take(self, kinds: str | tuple[str, ...], facts: Mapping[str, Any]) -> Doc | None:
        """Return the first fault of these kinds that strikes, and count it."""
        wanted = (kinds,) if isinstance(kinds, str) else kinds
        for fault in self._store.all("fault").values():
            if fault["kind"] not in wanted or not _matches(fault["match"], facts):
                continue
            if 0 <= fault["times"] <= fault["struck"]:
                continue
            fault["seen"] += 1
            strikes = fault["seen"] > fault["after"]
            fault["struck"] += strikes
            self._store.put("fault", fault["id"], fault)
            if strikes:
                return fault
        return None


def _matches(match: Mapping[str, str], facts: Mapping[str, Any]) -> bool:
    # A path or a query is searched; every other fact must fit as a whole.
    return all(
        re.search(pattern, str(facts.get(name, "")))
        if name in {"path", "query"}
        else re.fullmatch(pattern, str(facts.get(name, "")))
        for name, pattern in match.items()
    )
