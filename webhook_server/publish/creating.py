"""Create each thing on GitHub once, whatever crashes: note the try before it, ask after it."""

from __future__ import annotations

import threading

from cynthus.frozen import replace
from webhook_server.publish.parts import Parts
from webhook_server.stores.publication_store import Publication


class Creating:
    """What was begun, durably in the publication, and by whom, in this process."""

    def __init__(self, parts: Parts) -> None:
        self._store, self._now, self._new_token = parts.publications, parts.now, parts.new_token
        self._begun: set[str] = set()  # creates that nobody tried yet
        self._lock = threading.Lock()

    def begin(self, item: Publication) -> bool:
        """Note durably that a create will be tried; False: another pass must do it.

        Save before you create: after a crash the flag says that GitHub has to be asked first.
        """
        if item.sent.get("begun"):
            return True
        begun = self._new_token()  # of this process alone: another may go on with the publication
        with self._lock:
            self._begun.add(begun)
        self._store.save(replace(item, sent={**item.sent, "begun": begun}, due_at=self._now()))
        return False

    def in_doubt(self, item: Publication) -> bool:
        """Say whether somebody may have created it already; ask once a create."""
        begun = str(item.sent.get("begun"))
        with self._lock:
            fresh = begun in self._begun
            self._begun.discard(begun)
        return not fresh
