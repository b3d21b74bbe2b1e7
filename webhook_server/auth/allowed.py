"""Say which repositories may use this server."""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import sha256

from cynthus.errors import UserError

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,98}[A-Za-z0-9_])?"
_ENTRY = re.compile(rf"[1-9][0-9]{{0,18}}|{_NAME}(?:/[A-Za-z0-9._-]{{1,100}})?")


class Allowed:
    """The list `CYNTHUS_ALLOWED`: owner names, `owner/repo`, numeric ids of either.

    A name speaks for the id that first came with it, since anybody can register a name that its
    owner gave up: `state` and `keep_state` keep that id (server_state), the first for ever.
    """

    def __init__(
        self,
        entries: tuple[str, ...],
        *,
        state: Callable[[str], str | None],
        keep_state: Callable[[str, str], str],
    ) -> None:
        for entry in entries:
            if _ENTRY.fullmatch(entry) is None or (entry.isdigit() and entry[0] == "0"):
                raise UserError(
                    f"CYNTHUS_ALLOWED: should list owners, `owner/repo` or numeric ids, found "
                    f"{entry!r}. Write for example `acme,octo/digits,1296269`."
                )
        self._ids = frozenset(int(entry) for entry in entries if entry.isdigit())
        self._names = tuple(entry.lower() for entry in entries if not entry.isdigit())
        self._state, self._keep_state = state, keep_state

    def permits(self, repository_id: int, owner_id: int, full_name: str) -> bool:
        """Say whether this repository may use the server; ids decide wherever they are known."""
        if repository_id in self._ids or owner_id in self._ids:
            return True
        name = full_name.lower()
        return any(self._named(entry, repository_id, owner_id, name) for entry in self._names)

    def _named(self, entry: str, repository_id: int, owner_id: int, full_name: str) -> bool:
        is_repository = "/" in entry
        found_id = repository_id if is_repository else owner_id
        pinned = self._state(_key(entry))
        if pinned is not None:
            return pinned == str(found_id)
        if entry != (full_name if is_repository else full_name.partition("/")[0]):
            return False
        return self._keep_state(_key(entry), str(found_id)) == str(found_id)


def _key(entry: str) -> str:
    # A digest, since names may be longer than a key of server_state.
    return "allowed/" + sha256(entry.encode()).hexdigest()[:40]
