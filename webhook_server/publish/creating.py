"""Create each thing on GitHub once, whatever crashes: note the try before it, ask after it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from webhook_server.stores.publication_store import (
    Publication,
    PublicationKind,
    PublicationStore,
)


class Creating:
    """What was begun, durably in the publication, and by whom, in this process."""

    def __init__(self, store: PublicationStore, now: Callable[[], datetime]) -> None:
        self._store, self._now = store, now
        self._begun: set[tuple[str, PublicationKind]] = set()  # creates that nobody tried yet
        self._lock = threading.Lock()

    def begin(self, item: Publication) -> bool:
        """Note durably that a create will be tried; False: another pass must do it.

        Save before you create: after a crash the flag says that GitHub has to be asked first.
        """
        if item.sent.get("begun"):
            return True
        with self._lock:
            self._begun.add((item.subject, item.kind))
        self._store.save(replace(item, sent={**item.sent, "begun": True}, due_at=self._now()))
        return False

    def in_doubt(self, item: Publication) -> bool:
        """Say whether somebody may have created it already; ask once a create."""
        key = (item.subject, item.kind)
        with self._lock:
            fresh = key in self._begun
            self._begun.discard(key)
        return not fresh
