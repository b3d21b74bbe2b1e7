"""The exception tree that every room shares.

CynthusError
├── UserError       the user can fix it      → annotation, HTTP 422, exit 2
├── Transient       try again at `retry_at`  → HTTP 503, the pass is repeated
└── Refused         the world said no        → outcome `failed`, the reason is shown
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


class CynthusError(Exception):
    """Anything Cynthus says on purpose; the text is a sentence fit for a user."""


@dataclass(frozen=True, kw_only=True, order=True)
class Fault:
    """One thing wrong in a user's file, with its place (lines and columns count from 1).

    Line 0: it stands in no file, and `where` alone says what is meant.
    """

    path: str
    line: int
    column: int
    where: str
    message: str

    def __str__(self) -> str:
        if not self.line:
            return f"{self.where}: {self.message}"
        where = f" {self.where}:" if self.where else ""
        return f"{self.path}:{self.line}:{self.column}:{where} {self.message}"


class UserError(CynthusError):
    """What the user wrote cannot be used; `faults` names every place."""

    def __init__(self, message: str, faults: tuple[Fault, ...] = ()) -> None:
        super().__init__(message)
        self.faults = faults


class Transient(CynthusError):  # noqa: N818 - the house's word, and it reads as a type
    """The outside world failed in a way that passes; `retry_at` is the earliest sensible time."""

    def __init__(self, message: str, retry_at: datetime | None = None) -> None:
        super().__init__(message)
        self.retry_at = retry_at


class Refused(CynthusError):  # noqa: N818 - as above
    """The outside world said no, and asking again will not help."""
