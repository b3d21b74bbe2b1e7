"""Read members of a webhook's payload, none of which need be what GitHub says. Pure.

Signed payloads are GitHub's, but members may be null, missing or of another type than described,
and what they hold is written by strangers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeGuard

_MAX_ID = 2**63 - 1  # what the database's BIGINT holds
_SHA = re.compile(r"[0-9a-f]{40}")
NOTHING = "0" * 40  # GitHub's "no commit": a branch that began or ended


class Odd(Exception):  # noqa: N818 - reads as what it is
    """The payload is not what the event's name says; never leaves the reading of intents."""


def fits(value: object, pattern: re.Pattern[str]) -> TypeGuard[str]:
    """Say whether it is text of this form."""
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def member(parent: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a member that must be an object. Raises: Odd."""
    value = parent.get(name)
    if not isinstance(value, Mapping):
        raise Odd(f"{name}: should be an object")
    return value


def text_of(parent: Mapping[str, Any], name: str) -> str:
    """Return a member that must be text. Raises: Odd."""
    value = parent.get(name)
    if not isinstance(value, str):
        raise Odd(f"{name}: should be text")
    return value


def branch_of(text: str) -> str:
    """Return the name of a branch. Raises: Odd."""
    # Lone surrogates and NUL can be written in JSON but not in a database or a URL.
    if not 1 <= len(text) <= 244 or re.search(r"[\x00-\x20\x7f\ud800-\udfff]", text):  # noqa: PLR2004
        raise Odd("ref: should be the name of a branch")
    return text


def sha_of(value: object) -> str:
    """Return a commit's full name. Raises: Odd."""
    if not isinstance(value, str) or _SHA.fullmatch(value) is None or value == NOTHING:
        raise Odd("sha: should be 40 hex digits")
    return value


def is_id(value: object) -> bool:
    """Say whether it is an id that the database holds."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MAX_ID


def id_of(value: Any, where: str) -> int:
    """Return an id; `where` names it in the complaint. Raises: Odd."""
    if not is_id(value):
        raise Odd(f"{where}: should be an id")
    return int(value)


def ids_of(value: object) -> tuple[int, ...]:
    """Return the ids of a list's objects; what has none is left out."""
    items = value if isinstance(value, list) else []
    found = (item.get("id") for item in items if isinstance(item, Mapping))
    return tuple(item for item in found if isinstance(item, int) and is_id(item))


def moment_of(value: object) -> datetime | None:
    """Read GitHub's moments: text, or in pushes seconds since 1970."""
    try:
        if isinstance(value, str):
            found = datetime.fromisoformat(value)
            return found.astimezone(UTC) if found.tzinfo else None
        if isinstance(value, int) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return None
