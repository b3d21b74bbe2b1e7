"""Pin files behind https addresses: the spec's own digest does, and nobody is asked."""

from __future__ import annotations

from cynthus.wire_data import Dataset
from webhook_server.runs.pinning import bind
from webhook_server.sources.source import Asked, SourceRefused


class Https:
    """Any address on the public internet. The server never goes there: agents do."""

    def pin(self, asked: Asked) -> Dataset:
        """Return the entry at its digest. Raises: SourceRefused without one."""
        if asked.entry.sha256 is None:
            raise SourceRefused(
                f"{asked.place}/sha256: should be the file's digest, found none. Write what"
                " `sha256sum` prints for it."
            )
        return bind(asked.entry, asked.entry.sha256, files=None if asked.entry.unpack else 1)
