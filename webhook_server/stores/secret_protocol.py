"""What a store of secrets promises: values by repository id and name, never by name alone."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Protocol

from cynthus.errors import CynthusError, UserError

SHORTEST = 8  # shorter text occurs in logs by chance and could not be masked without harm
LONGEST_BYTES = 64 * 1024  # Secret Manager's limit; GitHub's 48 KB fit: keys, service accounts
SERVER_SCOPE = -1  # the server's own secrets: GitHub numbers repositories from 1, 0 is none
NAME = re.compile(r"\A[A-Za-z_][A-Za-z0-9_]{0,127}\Z", re.ASCII)
_RESERVED = ("CYNTHUS_", "GITHUB_", "LD_")


class SecretUnreadable(CynthusError):  # noqa: N818 - reads as what it is
    """A secret is there and cannot be read; the text says what an operator can do."""


@dataclass(frozen=True, kw_only=True)
class SecretValue:
    """One secret's value."""

    text: str = field(repr=False)
    version: str = ""  # names exactly this value, where the store keeps older ones as well


class SecretStore(Protocol):
    """Secrets by repository id and name. Each call may raise SecretUnreadable, Transient."""

    def get(self, repository_id: int, name: str, version: str = "") -> SecretValue | None:
        """Return the newest value, or that of `version`; None when there is none for it."""

    def set(self, repository_id: int, name: str, value: str) -> None:
        """Store or replace a value; raises UserError for a name or value that cannot be used."""

    def names(self, repository_id: int) -> list[str]:
        """Return the names, sorted."""

    def remove(self, repository_id: int, name: str) -> bool:
        """Forget a secret; returns whether there was one."""

    def close(self) -> None:
        """End kept connections. Safe to repeat."""


def check(name: str, value: str) -> None:
    """Refuse a name or a value that could not be used or masked.

    Raises: UserError, which never shows the value.
    """
    if not NAME.match(name) or name == "PATH" or name.startswith(_RESERVED):
        raise UserError(
            f"{name!r}: should be letters, digits and underscores, and not PATH, CYNTHUS_*,"
            " GITHUB_* or LD_*. Choose another name."
        )
    # A value of several lines is masked line by line: one of them at least must be long enough.
    longest = max((len(line.strip()) for line in value.splitlines()), default=0)
    if longest < SHORTEST:
        raise UserError(
            f"{name}: should have at least {SHORTEST} characters on a line, found {longest}."
            " Shorter values cannot be masked in logs."
        )
    if len(value.encode("utf-8", "surrogatepass")) > LONGEST_BYTES or "\0" in value:
        raise UserError(
            f"{name}: should have at most {LONGEST_BYTES} bytes and no NUL. Store a shorter value."
        )
