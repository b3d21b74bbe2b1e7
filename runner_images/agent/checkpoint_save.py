"""Save a checkpoint folder: bring what changed, then the list of all files, which makes it one."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from cynthus.codec import decode, encode
from cynthus.wire import UploadGrant
from cynthus.wire_checkpoint import (
    BLOBS_AT_ONCE,
    CHECKPOINT_FILES,
    Checkpoint,
    CheckpointBlob,
    CheckpointBlobs,
    CheckpointFile,
    CheckpointGrants,
    CheckpointKept,
)
from runner_images.agent import checkpoint_rules as rules
from runner_images.agent.checkpoint_folder import Held, look, still
from runner_images.agent.checkpoint_rules import Look, Stamp, Steps
from runner_images.agent.door import Door, TurnedAway, Unanswered, Upload
from runner_images.agent.resumable import put_resumable
from runner_images.agent.threads import together

BLOCK_BYTES = 1 << 20
AT_ONCE = 4  # files hashed or sent side by side: a disk and a network are full with fewer
# A line is heard this long after it was written, on a busy machine: one printed just before the
# file was written counts.
HEARD_NS = 50_000_000
FORGOTTEN = 409  # the server misses bytes that it had: bring them again


class NotStill(Exception):  # noqa: N818 - reads as what happened
    """The folder is being written to: look again."""


class NotSaved(Exception):  # noqa: N818 - as above
    """It cannot be saved as it is; the text says why, for the user."""


@dataclass(frozen=True, kw_only=True)
class Saving:
    """What one saving works with."""

    folder: Path
    held: Path  # a folder of ours on the same file system
    limit_bytes: int
    steps: Steps
    now_ns: Callable[[], int]
    left_s: Callable[[], float]
    over: threading.Event


@dataclass(frozen=True)
class _Content:
    """The bytes of one file as they were read."""

    sha256: str
    md5: str
    size_bytes: int


class Saver:
    """Brings one attempt's checkpoints to the server; remembers what is there already."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._known: dict[str, tuple[Stamp, _Content]] = {}  # by path: read, and stored
        self._last: tuple[CheckpointFile, ...] = ()
        self._unrest: rules.Unrest = {}
        self.left_out: dict[str, str] = {}  # of the last look: path → why

    def know(self, files: Iterable[CheckpointFile]) -> None:
        """Take these files for saved: they were just put back."""
        self._last = tuple(sorted(files, key=lambda file: file.path))

    def save(self, saving: Saving, *, ended_ns: int | None = None) -> int | None:
        """Save the folder as it stands; return the checkpoint's number, None: nothing is new.

        `ended_ns`: since when nobody writes any more. What was written just before counts as half
        written: give a later moment when the command ended by itself.
        Raises: NotStill, NotSaved, Unanswered, TurnedAway.
        """
        self.left_out = {}
        first = self._looked(saving, None, ended_ns)
        self._check_size(first, saving)
        fresh = {path: stamp for path, stamp in first.files.items() if self._is_fresh(path, stamp)}
        if not first.files or (not fresh and self._same(first)):
            return None
        with Held(saving.folder, saving.held) as held:
            held.hold({path: stamp for path, stamp in fresh.items() if stamp.link is None})
            self._looked(saving, first, ended_ns)
            read = self._read(held, fresh, first, saving)
            self._bring(held, read, saving)
        self._known = {path: known for path, known in self._known.items() if path in first.files}
        self._known.update({path: (fresh[path], content) for path, content in read.items()})
        files = self._files(first)
        if not files or files == self._last:
            return None
        number = self._commit(files, first, saving)
        self._last = files
        return number

    # ── looking ──────────────────────────────────────────────────────────────────────────────

    def _looked(self, saving: Saving, before: Look | None, ended_ns: int | None) -> Look:
        """Look at the folder. Raises: NotStill unless it stands still."""
        found = look(saving.folder, saving.now_ns)
        judged = found if ended_ns is None else replace(found, at_ns=ended_ns)
        moved = rules.moving(before, judged)
        self._unrest = rules.follow(self._unrest, moved, judged)
        self.left_out.update(found.left_out)
        if not moved <= rules.loose(self._unrest, judged.at_ns):
            raise NotStill
        return found

    def _check_size(self, found: Look, saving: Saving) -> None:
        if len(found.files) > CHECKPOINT_FILES:
            raise NotSaved(f"it has more than {CHECKPOINT_FILES} files")
        size = sum(stamp.size_bytes for stamp in found.files.values())
        if size > saving.limit_bytes:
            raise NotSaved(f"it has {size} bytes, more than the {saving.limit_bytes} allowed here")

    def _is_fresh(self, path: str, stamp: Stamp) -> bool:
        known = self._known.get(path)
        return known is None or known[0] != stamp

    def _same(self, found: Look) -> bool:
        return {file.path for file in self._last} == found.files.keys()

    # ── reading ──────────────────────────────────────────────────────────────────────────────

    def _read(
        self, held: Held, fresh: Mapping[str, Stamp], found: Look, saving: Saving
    ) -> dict[str, _Content]:
        """Read what is fresh; files that move while they are read stay as they were saved last.

        Raises: NotStill for one that belongs to the set, Unanswered when no time is left.
        """
        alone = rules.loose(self._unrest, found.at_ns)
        read: dict[str, _Content] = {}

        def one(item: tuple[str, Stamp]) -> None:
            path, stamp = item
            if stamp.link is not None:
                return
            try:
                content = _content(held, path, stamp, saving.left_s)
            except PermissionError:
                self.left_out[path] = "the agent may not read it"
                return
            if content is not None:
                read[path] = content
            elif path not in alone:
                raise NotStill

        together(one, fresh.items(), at_once=AT_ONCE)
        return read

    # ── bringing ─────────────────────────────────────────────────────────────────────────────

    def _bring(self, held: Held, read: Mapping[str, _Content], saving: Saving) -> None:
        """Bring the bytes that the server lacks; then they are known."""
        paths = {content.sha256: path for path, content in read.items()}
        contents = [read[path] for path in paths.values()]
        for first in range(0, len(contents), BLOBS_AT_ONCE):
            self._bring_batch(held, contents[first : first + BLOBS_AT_ONCE], paths, saving)

    def _bring_batch(
        self,
        held: Held,
        batch: Sequence[_Content],
        paths: Mapping[str, str],
        saving: Saving,
    ) -> None:
        blobs = tuple(CheckpointBlob(**vars(content)) for content in batch)
        ask = encode(CheckpointBlobs(blobs=blobs))
        told = self._door.post("agent/v1/checkpoints/blobs", ask)
        grants = decode(CheckpointGrants, told, "grants").grants
        if len(grants) != len(batch):
            raise Unanswered("checkpoint: the server granted another number than was asked for")

        def one(item: tuple[_Content, UploadGrant]) -> None:
            content, grant = item
            if grant.url is not None:
                with held.opened(paths[content.sha256]) as file:
                    self._put(file, content, grant, saving)

        together(one, zip(batch, grants, strict=True), at_once=AT_ONCE)

    def _put(self, file: BinaryIO, content: _Content, grant: UploadGrant, saving: Saving) -> None:
        assert grant.url is not None  # noqa: S101 - the caller has looked
        upload = Upload(size_bytes=content.size_bytes, headers=grant.headers, left_s=saving.left_s)
        if grant.resumable:
            put_resumable(grant.url, file, replace(upload, headers={}), saving.over)
            return
        try:
            self._door.put(grant.url, file, upload)
        except TurnedAway as refusal:
            # The address is over, or the bytes are not those that were read: look anew.
            raise Unanswered(f"checkpoint: the storage answered {refusal.status}") from refusal

    # ── the list ─────────────────────────────────────────────────────────────────────────────

    def _files(self, found: Look) -> tuple[CheckpointFile, ...]:
        before = {file.path: file for file in self._last}
        files = (self._file(path, stamp, before) for path, stamp in sorted(found.files.items()))
        return tuple(file for file in files if file is not None)

    def _file(
        self, path: str, stamp: Stamp, before: Mapping[str, CheckpointFile]
    ) -> CheckpointFile | None:
        modified_us = stamp.modified_ns // 1000
        if stamp.link is not None:
            return CheckpointFile(
                path=path, size_bytes=0, sha256="", modified_us=modified_us, link=stamp.link
            )
        known = self._known.get(path)
        if known is None or known[0] != stamp:
            return before.get(path)  # it moved while it was read
        return CheckpointFile(
            path=path,
            size_bytes=stamp.size_bytes,
            sha256=known[1].sha256,
            modified_us=modified_us,
            executable=stamp.executable,
        )

    def _commit(self, files: tuple[CheckpointFile, ...], found: Look, saving: Saving) -> int:
        alone = rules.loose(self._unrest, found.at_ns)
        newest_us = max(
            (f.modified_us for f in files if f.path not in alone), default=found.at_ns // 1000
        )
        told = saving.steps.at(newest_us * 1000 + HEARD_NS)
        message = Checkpoint(
            files=files,
            saved_at=datetime.fromtimestamp(found.at_ns / 1e9, UTC),
            step=told.step,
            progress=told.progress,
        )
        try:
            answer = self._door.post("agent/v1/checkpoints", encode(message))
        except TurnedAway as refusal:
            if refusal.status != FORGOTTEN:
                raise
            self._known.clear()
            raise Unanswered(f"checkpoint: {refusal}") from refusal
        return decode(CheckpointKept, answer, "checkpoint").number


def _content(held: Held, path: str, stamp: Stamp, left_s: Callable[[], float]) -> _Content | None:
    """Read one file whole; None: it is not what was looked at, or has gone.

    Raises: PermissionError; Unanswered when no time is left.
    """
    sha256, size = hashlib.sha256(), 0
    # What Cloud Storage computes as well: it finds accidents, and nobody's safety rests on it.
    md5 = hashlib.md5(usedforsecurity=False)
    try:
        with held.opened(path) as file:
            while block := file.read(BLOCK_BYTES):
                sha256.update(block)
                md5.update(block)
                size += len(block)
                if size > stamp.size_bytes:
                    return None  # it grows: reading to its end might take for ever
                if left_s() <= 0:
                    raise Unanswered("checkpoint: no time is left to read it")
            if size != stamp.size_bytes or not still(file, stamp):
                return None
    except PermissionError:
        raise
    except OSError:
        return None
    return _Content(sha256.hexdigest(), md5.hexdigest(), size)
