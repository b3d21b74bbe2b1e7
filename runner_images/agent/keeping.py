"""Bring a staged tree to the blob store beside the command: what is missing, then the list."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, BinaryIO

from cynthus.tree_form import written
from cynthus.wire import UploadGrant
from cynthus.wire_cache import (
    BLOB_BATCH,
    DataAsk,
    DataBlob,
    DataBlobsAsk,
    DataBlobsView,
    DataClaimView,
    DataCommit,
    Standing,
)
from cynthus.wire_data import Tree, TreeFile
from runner_images.agent.door import BLOCK_BYTES, TurnedAway, Unanswered, Upload, put_once
from runner_images.agent.resumable import put_resumable

PARALLEL = 4  # uploads run beside the command: they take what its own traffic leaves
RENEW_S = 20.0  # a third of the lease: two calls may be lost
TRIES = 6  # of one batch, with pauses up to 8 s about half a minute
LONGEST_PAUSE_S = 8.0
SILENCE_S = 120.0  # between two blocks of an upload

Ask = Callable[[str, object, type[Any]], Any]


class Keeping:
    """One tree on its way to the blob store."""

    def __init__(
        self,
        ask: Ask,
        tree: Tree,
        open: Callable[[TreeFile], BinaryIO],  # noqa: A002 - opens a staged file
        over: threading.Event,
    ) -> None:
        self._ask, self._tree, self._open, self._over = ask, tree, open, over
        self._lost = threading.Event()
        self._asked_to_stop: Callable[[], bool] = over.is_set

    def _stopping(self) -> bool:
        return self._asked_to_stop() or self._lost.is_set() or self._over.is_set()

    def keep(self, told: Callable[[int], None], stopping: Callable[[], bool]) -> None:
        """Bring all of it, then commit. Raises: Unanswered."""
        self._asked_to_stop = stopping
        listed = b"".join(written(self._tree))
        sha256 = hashlib.sha256(listed).hexdigest()
        as_file = TreeFile(path="", size_bytes=len(listed), sha256=sha256)
        sources = {file.sha256: file for file in self._tree.files}
        # Digests in their order: another instance that brings the same goes the same way.
        wanted = [sources[digest] for digest in sorted(sources)]
        with self._renewed():
            for start in range(0, len(wanted), BLOB_BATCH):
                self._batch(wanted[start : start + BLOB_BATCH], self._open, told)
            self._batch([as_file], lambda _: io.BytesIO(listed), lambda _: None)
            blob = DataBlob(sha256=sha256, size_bytes=len(listed))
            self._asked("commit", DataCommit(key=self._tree.key, tree=blob), dict[str, str])

    # ── the lease ───────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def _renewed(self) -> Iterator[None]:
        """Hold the lease until the block ends; a loss stops what is under way."""
        done = threading.Event()
        self._renew()
        keeper = threading.Thread(target=self._renew_until, args=(done,), name="data-lease")
        keeper.start()
        try:
            yield
        finally:
            done.set()
            keeper.join()

    def _renew_until(self, done: threading.Event) -> None:
        while not done.wait(RENEW_S):
            try:
                self._renew()
            except Unanswered:
                continue  # the lease outlives two lost calls; then the server says so itself

    def _renew(self) -> None:
        ask = DataAsk(key=self._tree.key, own=True)
        try:
            view = self._ask("claim", ask, DataClaimView)
        except TurnedAway as refusal:
            self._lost.set()
            raise Unanswered(f"cache: {refusal}") from refusal
        if view.standing is not Standing.FETCH:
            self._lost.set()
            raise Unanswered("cache: another instance has brought it, or brings it now")

    # ── bytes ───────────────────────────────────────────────────────────────────────────────────

    def _batch(
        self,
        files: Sequence[TreeFile],
        open_file: Callable[[TreeFile], BinaryIO],
        told: Callable[[int], None],
    ) -> None:
        """Have all of these stored, asking again for what is not until the server has all."""
        left, pause_s = list(files), 0.25
        md5s: dict[str, str] = {}
        for _ in range(TRIES):
            grants = self._grants(left, md5s)
            if grants is not None:
                missing = [(f, g) for f, g in zip(left, grants, strict=True) if g.url is not None]
                for file, grant in zip(left, grants, strict=True):
                    if grant.url is None:
                        told(file.size_bytes)
                left = [file for file, _ in missing]
                if not left:
                    return
                if self._put_all(missing, open_file, md5s):
                    continue  # the next asking confirms them
            if self._over.wait(pause_s) or self._stopping():
                break
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
        raise Unanswered("cache: could not be brought")

    def _grants(
        self, files: Sequence[TreeFile], md5s: dict[str, str]
    ) -> tuple[UploadGrant, ...] | None:
        """Return a grant for each; None: ask again later. Raises: Unanswered once it is stopped."""
        if self._stopping():
            raise Unanswered("cache: bringing it was stopped")
        blobs = tuple(
            DataBlob(sha256=file.sha256, size_bytes=file.size_bytes, md5=md5s.get(file.sha256))
            for file in files
        )
        ask = DataBlobsAsk(key=self._tree.key, blobs=blobs)
        try:
            view: DataBlobsView = self._ask("blobs", ask, DataBlobsView)
        except TurnedAway as refusal:
            raise Unanswered(f"cache: {refusal}") from refusal
        except Unanswered:
            return None
        return view.grants if len(view.grants) == len(files) else None

    def _put_all(
        self,
        missing: Sequence[tuple[TreeFile, UploadGrant]],
        open_file: Callable[[TreeFile], BinaryIO],
        md5s: dict[str, str],
    ) -> bool:
        """Put each where it was granted; return whether every answer was a yes."""

        def put(one: tuple[TreeFile, UploadGrant]) -> bool:
            file, grant = one
            try:
                with open_file(file) as content:
                    if grant.confirm:
                        md5s[file.sha256] = _md5_of(content)
                        content.seek(0)
                    self._put(file, grant, content)
            except (Unanswered, OSError):
                return False
            return True

        with ThreadPoolExecutor(PARALLEL, thread_name_prefix="keep") as pool:
            return all(list(pool.map(put, missing)))

    def _put(self, file: TreeFile, grant: UploadGrant, content: BinaryIO) -> None:
        def left_s() -> float:
            return 0.0 if self._stopping() else SILENCE_S

        upload = Upload(size_bytes=file.size_bytes, headers=grant.headers, left_s=left_s)
        url = grant.url or ""
        if grant.resumable:
            plain = Upload(size_bytes=file.size_bytes, left_s=left_s)
            put_resumable(url, content, plain, self._over)
            return
        answer = put_once(url, content, upload)
        if answer.status not in {200, 201}:
            raise Unanswered(f"cache: the storage answered {answer.status}")

    def _asked(self, verb: str, message: object, kind: type[Any]) -> None:
        pause_s = 0.25
        for _ in range(TRIES):
            if self._stopping():
                break
            try:
                self._ask(verb, message, kind)
            except TurnedAway as refusal:
                raise Unanswered(f"cache: {refusal}") from refusal
            except Unanswered:
                self._over.wait(pause_s)
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            else:
                return
        raise Unanswered("cache: could not be committed")


def _md5_of(content: BinaryIO) -> str:
    # What Cloud Storage computes as well: it finds accidents, and nobody's safety rests on it.
    digest = hashlib.md5(usedforsecurity=False)
    while block := content.read(BLOCK_BYTES):
        digest.update(block)
    return digest.hexdigest()
