"""Write down what happened, in the order in which it took effect: what the oracles read."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import NamedTuple


class Happened(NamedTuple):
    """One call of a program, or one fact of the outside (`fate` is then empty)."""

    at: float  # virtual seconds since the history began
    replica: str  # who called; empty: the outside itself
    kind: str  # "cloud.create", "db.write", "agent.beat" …; a fact: "machine.born" …
    name: str  # whom or what it is about
    fate: str = ""
    detail: str = ""
    nth: int = -1  # of a call: its number, from 0, in the order in which calls begin


@dataclass
class Record:
    """The log of one history; it only grows."""

    log: list[Happened] = field(default_factory=list)
    said: list[tuple[float, str, str]] = field(default_factory=list)  # at, template, text

    def fact(self, at: float, kind: str, name: str, detail: str = "") -> None:
        """Note what the outside did by itself."""
        self.log.append(Happened(at=at, replica="", kind=kind, name=name, detail=detail))

    def digest(self) -> str:
        """Return what two histories have in common only if they are the same."""
        told = hashlib.sha256()
        for one in self.log:
            line = (one.at, one.replica, one.kind, one.name, one.fate, one.detail)
            told.update(repr(line).encode())
        for line in self.said:
            told.update(repr(line).encode())
        return told.hexdigest()
