"""Create each thing on GitHub once, whatever crashes: note the try before it, ask after it."""

from __future__ import annotations

import threading

from cynthus.frozen import replace
from webhook_server.publish.parts import Parts
from webhook_server.stores.publication_store import Publication

_TRIED = "tried"  # no process's token: whoever reads it asks GitHub first


class Creating:
    """What was begun, durably in the publication, and by whom, in this process."""

    def __init__(self, parts: Parts) -> None:
        self._store, self._now, self._new_token = parts.publications, parts.now, parts.new_token
        self._begun: set[str] = set()  # creates that nobody tried yet
        self._lock = threading.Lock()

    def begin(self, item: Publication) -> bool:
        """Note durably that a create will be tried; False: another pass must do it.

        Save before you create: after a crash the flag says that GitHub has to be asked first. So
        it does where another process began: until it says so, that one takes its own for untried.
        """
        begun = item.sent.get("begun")
        if begun == _TRIED or self._is_untried(begun):
            return True
        token = _TRIED
        if not begun:
            token = self._new_token()  # of this process alone: another may go on with the item
            with self._lock:
                self._begun.add(token)
        self._store.save(replace(item, sent={**item.sent, "begun": token}, due_at=self._now()))
        return False

    def _is_untried(self, begun: object) -> bool:
        with self._lock:
            return begun in self._begun

    def in_doubt(self, item: Publication) -> bool:
        """Say whether somebody may have created it already; ask once a create."""
        begun = str(item.sent.get("begun"))
        with self._lock:
            fresh = begun in self._begun
            self._begun.discard(begun)
        return not fresh
