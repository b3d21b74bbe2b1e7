"""Keep the bytes of one run's checkpoints: files and lists of files, each under its own digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from cynthus.codec import decode, encode
from cynthus.errors import UserError
from cynthus.wire_checkpoint import CHECKPOINT_FILES, Checkpoint
from webhook_server.stores.blob_protocol import Announced, BlobStore
from webhook_server.stores.checkpoint_store import CheckpointStore

# One file's entry: a path of 1 KiB, three numbers and a digest. More than our own list is not read.
_MANIFEST_BYTES = CHECKPOINT_FILES * 1600
# What a saving leaves behind is removed with the next one, and with the run at last: a bucket is
# asked once for each, and the agent waits for the answer.
_REMOVED_AT_ONCE = 50
#: Runs whose checkpoints are removed in one step of the loop, which no stop cuts short.
ENDED_AT_ONCE = 20


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """Where the checkpoints of one run and rank lie: no other run's shelf holds any of it."""

    blobs: BlobStore
    repository_id: int
    run_id: str
    rank: int

    def key(self, sha256: str) -> str:
        """Return the key of a blob."""
        return f"{self._folder}{sha256}"

    @property
    def _folder(self) -> str:
        return f"{self.repository_id}/ck{self.run_id}/{self.rank}/"

    def usage(self) -> tuple[int, int]:
        """Return how many blobs lie here, with their bytes."""
        return self.blobs.usage(self._folder.rstrip("/"))

    def missing(self, checkpoint: Checkpoint) -> str | None:
        """Return the path of a file whose bytes are not here in its size, or None: all are."""
        here = {blob.key: blob.size_bytes for blob in self.blobs.stored(self._folder)}
        for file in checkpoint.files:
            if file.link is None and here.get(self.key(file.sha256)) != file.size_bytes:
                return file.path
        return None

    def put_manifest(self, checkpoint: Checkpoint) -> str:
        """Store the list of files; return its digest. Safe to repeat."""
        content = json.dumps(encode(checkpoint), sort_keys=True).encode()
        sha256 = hashlib.sha256(content).hexdigest()
        blob = Announced(size_bytes=len(content), sha256=sha256)
        receipt = self.blobs.receive(self.key(sha256), blob)
        try:
            receipt.write(content)
            receipt.finish()
        finally:
            receipt.abort()
        return sha256

    def manifest(self, sha256: str) -> Checkpoint | None:
        """Return a list of files; None: it is gone, or not what was stored. Raises: Transient."""
        found = self.blobs.open(self.key(sha256))
        if found is None:
            return None
        with found:
            content = found.read(_MANIFEST_BYTES)
        if hashlib.sha256(content).hexdigest() != sha256:
            return None
        try:
            return decode(Checkpoint, json.loads(content))
        except (UserError, ValueError):
            return None

    def tidy(self, manifests: Iterable[str]) -> None:
        """Remove what none of these lists names, some at a time. Safe to repeat.

        Only between two savings of the one agent that writes here: what it has just brought is
        named by none yet. A list that cannot be read keeps everything.
        """
        wanted = set()
        for sha256 in manifests:
            checkpoint = self.manifest(sha256)
            if checkpoint is None:
                return
            wanted |= {sha256, *(file.sha256 for file in checkpoint.files)}
        keys = {self.key(sha256) for sha256 in wanted}
        idle = [blob.key for blob in self.blobs.stored(self._folder) if blob.key not in keys]
        for key in idle[:_REMOVED_AT_ONCE]:
            self.blobs.delete(key)


def remove_run(blobs: BlobStore, repository_id: int, run_id: str) -> None:
    """Remove all checkpoints of a run, of every rank. Safe to repeat. Raises: Transient."""
    for key in [blob.key for blob in blobs.stored(f"{repository_id}/ck{run_id}/")]:
        blobs.delete(key)


def remove_ended(store: CheckpointStore, blobs: BlobStore, before: datetime) -> int:
    """Remove the checkpoints of runs that ended before; return of how many, some at a time.

    Safe to repeat: what is cut short is found again. Raises: Transient.
    """
    ended = store.ended_before(before, ENDED_AT_ONCE)
    for repository_id, run_id in ended:
        remove_run(blobs, repository_id, run_id)
        store.forget(run_id)
    return len(ended)
