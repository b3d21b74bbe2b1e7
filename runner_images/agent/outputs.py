"""Bring a run's outputs to the blob store, or say of each why it stays behind.

One thread reads them in their order: small files into memory, which others send, many at a time;
beyond the first of them they are packed. Large files are hashed while they are sent, and never
copied. The rules for people: docs/outputs.md.
"""

from __future__ import annotations

import contextlib
import json
import math
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from tarfile import TarError
from typing import TYPE_CHECKING, BinaryIO

from cynthus.packing import (
    AGE_SUFFIX,
    FIRST_FILES,
    OWN_FOLDER,
    PACK_BYTES,
    SMALL_BYTES,
    PackedFile,
    pack_name,
    packed,
    room_for,
)
from cynthus.wire import Output
from runner_images.agent.clock import elapsed_s
from runner_images.agent.door import Door, Unanswered
from runner_images.agent.masking import HIDDEN, Masks
from runner_images.agent.measuring import Changed, Guard, LeftOut, Measured, stamp
from runner_images.agent.sending import NO_TIME, Sender
from runner_images.agent.threads import Threads
from runner_images.agent.workload import Found

if TYPE_CHECKING:
    from runner_images.agent.encrypting import Encryption

# Four connections fill a path of 100 ms at 1 Gbit/s with TCP's usual windows of 4 MiB; more cost
# memory here, and turns at the server's door.
THREADS = 4
# Read and not sent yet: two archives. With the one that is being filled, and what Python itself
# has (45 MiB), it keeps the agent below 120 MiB.
WAITING_BYTES = 2 * PACK_BYTES
TOLD_LIMIT = 200  # left-out entries in the report; the others are in a file beside the outputs
LIST_NAME = f"{OWN_FOLDER}/left-out.jsonl"
LIST_LIMIT_BYTES = SMALL_BYTES  # of that file, and of memory: 80,000 lines


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much may be brought."""

    files: int
    total_bytes: int


class Collector:
    """Collects the outputs of one attempt, once."""

    def __init__(
        self,
        open_door: Callable[[], Door],
        masks: Masks,
        limits: Limits,
        *,
        over: threading.Event,
        encryption: Encryption | None = None,
    ) -> None:
        self._open_door, self._masks, self._limits = open_door, masks, limits
        self._over, self._encryption = over, encryption
        self._until_s = math.inf
        self._files = self._bytes = self._alone = 0
        self._report = _Report(masks)
        self._pack: list[tuple[PackedFile, bytes]] = []
        self._pack_bytes = self._packs = 0
        self._threads = Threads(THREADS, WAITING_BYTES)
        self._doors: list[Door] = []
        self._own = threading.local()  # each thread has its door
        self._past_server = False

    def hurry(self, until_s: float) -> None:
        """Leave out what is not stored by that moment of `elapsed_s`: the machine goes away."""
        self._until_s = until_s

    def stored(self) -> tuple[Output, ...]:
        """Return what lies in the store by now. Any thread may ask."""
        return self._report.stored()

    def collect(self, outputs: Iterable[Found]) -> tuple[Output, ...]:
        """Upload all of them and return the whole list, with reasons for what was left out."""
        try:
            for found in outputs:
                if self._over.is_set():
                    break
                if self._left_s() <= 0:  # also what is only passed by has to be read
                    self._report.add(Output(path="…", size_bytes=0, sha256="", left_out=NO_TIME))
                    break
                self._bring(found)
            self._send_pack()
        finally:
            self._threads.finish()
        self._send_list()
        for door in self._doors:
            door.close()
        return self._report.all()

    def _left_s(self) -> float:
        return self._until_s - elapsed_s()

    # ── one file ─────────────────────────────────────────────────────────────────────────────

    def _bring(self, found: Found) -> None:
        reason = found.left_out or self._refusal(found)
        if reason is not None:
            self._leave(found, reason)
            return
        try:
            if found.size_bytes <= SMALL_BYTES:
                self._bring_small(found)
            else:
                self._bring_large(found)
        except (LeftOut, Unanswered) as refusal:
            self._leave(found, str(refusal))
        except (OSError, TarError) as error:
            self._leave(found, f"cannot be read: {error}")

    def _refusal(self, found: Found) -> str | None:
        try:
            name = found.path.encode()
        except UnicodeEncodeError:
            return "its name is not UTF-8"
        if any(byte < 32 or byte == 127 for byte in name):  # noqa: PLR2004 - ASCII's control characters
            return "its name has control characters"
        if self._masks.hide(found.path) != found.path:
            return "its name holds a secret"
        if found.path.partition("/")[0] == OWN_FOLDER:
            return f"names in {OWN_FOLDER} are not yours"
        if self._files >= self._limits.files:
            return f"more than {self._limits.files} files"
        if self._bytes + found.size_bytes > self._limits.total_bytes:
            return f"outputs larger than {self._limits.total_bytes} bytes together"
        return None

    def _count(self, size_bytes: int) -> None:
        self._files += 1
        self._bytes += size_bytes

    def _bring_small(self, found: Found) -> None:
        content = self._whole(found)
        alone = self._alone < FIRST_FILES
        size = len(content) if alone else room_for(found.path, len(content))
        if self._bytes + size > self._limits.total_bytes:
            raise LeftOut(f"outputs larger than {self._limits.total_bytes} bytes together")
        self._count(size)
        if alone:
            self._alone += 1
            self._send_blocks(found.path, [content])
            return
        about = PackedFile(
            path=found.path, size_bytes=len(content), sha256=sha256(content).hexdigest()
        )
        if self._pack_bytes + size > PACK_BYTES:
            self._send_pack()
        self._pack.append((about, content))
        self._pack_bytes += size

    def _whole(self, found: Found) -> bytes:
        """Return a small file's content, read twice where it changes. Raises: LeftOut, OSError."""
        content = self._read_once(found)
        if content is None and found.again is not None:
            content = self._read_once(replace(found, content=None))
        if content is None:
            raise LeftOut("it changed each time it was read")
        return content

    def _read_once(self, found: Found) -> bytes | None:
        """Return a small file's content; None: it changed meanwhile."""
        file = found.content if found.content is not None else _again(found)
        before = stamp(file)
        size = found.size_bytes if before is None else before[0]
        if size > SMALL_BYTES:
            raise LeftOut("it grew while it was read")
        guard = Guard(self._masks, self._left_s, NO_TIME)
        with contextlib.closing(Measured(file, size, guard, partial(_again, found))) as measured:
            measured.with_md5 = False
            content = b"".join(iter(partial(measured.read, SMALL_BYTES), b""))
            try:
                measured.check_steady()
            except Changed:
                return None
        return content if len(content) == size else None

    def _bring_large(self, found: Found) -> None:
        self._count(found.size_bytes)
        if found.content is None:
            self._threads.submit(0, lambda: self._send_large(found))  # apart from the others
        else:
            self._send_large(found)

    def _send_large(self, found: Found) -> None:
        first = [found.content] if found.content is not None else []
        plain: list[Measured] = []

        def opened() -> Measured:
            file = first.pop() if first else _again(found)
            known = stamp(file)
            size = found.size_bytes if known is None else known[0]
            if self._bytes - found.size_bytes + size > self._limits.total_bytes:
                raise LeftOut("it grew beyond the limit while it was read")
            guard = Guard(self._masks, self._left_s, NO_TIME)
            measured = Measured(file, size, guard, partial(_again, found))
            plain[:] = [measured]
            if self._encryption is None:
                return measured
            measured.with_md5 = False
            return self._encryption.measured(measured)

        self._try(found.path, found.size_bytes, lambda: self._stored_large(found, opened, plain))

    def _stored_large(
        self, found: Found, opened: Callable[[], Measured], plain: list[Measured]
    ) -> Output:
        path = found.path + (AGE_SUFFIX if self._encryption else "")
        stored = self._sender().send_file(path, opened)
        output = Output(path=path, size_bytes=stored.size_bytes, sha256=stored.sha256)
        if self._encryption is None:
            return output
        [measured] = plain
        return replace(output, plain_size_bytes=measured.size_bytes, plain_sha256=measured.sha256)

    # ── what is in memory ────────────────────────────────────────────────────────────────────

    def _send_pack(self) -> None:
        if not self._pack:
            return
        files, self._pack, self._pack_bytes = self._pack, [], 0
        self._packs += 1
        self._send_blocks(pack_name(self._packs), packed(files), packed_files=len(files))

    def _send_blocks(self, path: str, blocks: Sequence[bytes], *, packed_files: int = 0) -> None:
        size_bytes = sum(len(block) for block in blocks)

        def store() -> Output:
            output = self._stored_blocks(path, blocks)
            return replace(output, packed=packed_files)

        self._threads.submit(
            size_bytes, lambda: self._try(path, size_bytes, store, count=packed_files)
        )

    def _stored_blocks(self, path: str, blocks: Sequence[bytes]) -> Output:
        if self._encryption is None:
            stored = self._sender().send_blocks(path, blocks)
            return Output(path=path, size_bytes=stored.size_bytes, sha256=stored.sha256)
        plain = sha256()
        for block in blocks:
            plain.update(block)
        path += AGE_SUFFIX
        stored = self._sender().send_blocks(path, self._encryption.encrypted(blocks))
        return Output(
            path=path,
            size_bytes=stored.size_bytes,
            sha256=stored.sha256,
            plain_size_bytes=sum(len(block) for block in blocks),
            plain_sha256=plain.hexdigest(),
        )

    # ── in whichever thread ──────────────────────────────────────────────────────────────────────

    def _try(
        self, path: str, size_bytes: int, store: Callable[[], Output], *, count: int = 0
    ) -> None:
        """Store it and note what became of it, whatever that is."""
        try:
            output = store()
        except (LeftOut, Unanswered) as refusal:
            what = f"{path} with {count} files" if count else path
            self._leave(Found(path=what, size_bytes=size_bytes), str(refusal))
        except (OSError, TarError) as error:
            self._leave(Found(path=path, size_bytes=size_bytes), f"cannot be read: {error}")
        else:
            self._report.add(output)

    def _sender(self) -> Sender:
        found: Sender | None = getattr(self._own, "sender", None)
        if found is None:
            door = self._open_door()
            self._doors.append(door)
            found = Sender(door, self._left_s, self._over, past_server=self._past_server)
            self._own.sender = found
        self._past_server = self._past_server or found.past_server
        return found

    # ── what was left out ────────────────────────────────────────────────────────────────────

    def _leave(self, found: Found, reason: str) -> None:
        shown = found.path.encode("utf-8", "replace").decode()
        shown = self._masks.hide(shown)
        self._report.add(
            Output(
                path="".join(c if c.isprintable() else "?" for c in shown) or HIDDEN,
                size_bytes=found.size_bytes,
                sha256="",
                left_out=self._masks.hide(reason),
            )
        )

    def _send_list(self) -> None:
        """Store the whole list of what was left out, where the report tells only its beginning."""
        text = self._report.untold()
        if text and not self._over.is_set():
            self._try(LIST_NAME, len(text), lambda: self._stored_blocks(LIST_NAME, [text]))


class _Report:
    """What became of each output, in the order in which it was known; any thread adds."""

    def __init__(self, masks: Masks) -> None:
        self._masks = masks
        self._lock = threading.Lock()
        self._stored: list[Output] = []
        self._left_out: list[Output] = []
        self._lines: list[bytes] = []
        self._lines_bytes = self._count = 0

    def add(self, output: Output) -> None:
        with self._lock:
            if output.left_out is None:
                self._stored.append(output)
                return
            self._count += 1
            if len(self._left_out) < TOLD_LIMIT:
                self._left_out.append(output)
            line = {"path": output.path, "bytes": output.size_bytes, "why": output.left_out}
            text = (json.dumps(line, ensure_ascii=False) + "\n").encode()
            if self._lines_bytes + len(text) <= LIST_LIMIT_BYTES:
                self._lines.append(text)
                self._lines_bytes += len(text)

    def stored(self) -> tuple[Output, ...]:
        with self._lock:
            return tuple(self._stored)

    def untold(self) -> bytes:
        """Return the list as JSON lines where it is longer than what is told; else nothing."""
        with self._lock:
            return b"".join(self._lines) if self._count > TOLD_LIMIT else b""

    def all(self) -> tuple[Output, ...]:
        with self._lock:
            found = [*sorted(self._stored, key=lambda output: output.path), *self._left_out]
            more = self._count - len(self._left_out)
            if more > 0:
                text = f"and {more} more were left out: {LIST_NAME}"
                found.append(Output(path="…", size_bytes=0, sha256="", left_out=text))
            return tuple(found)


def _again(found: Found) -> BinaryIO:
    """Open a file from its beginning once more. Raises: OSError, Unanswered."""
    if found.again is None:
        raise Unanswered("it can be read only once")
    return found.again()
