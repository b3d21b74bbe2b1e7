"""Encrypt outputs to a person's own key before they leave the instance (age, by pyrage).

The library lives in processes of its own: the agent's stays small without it, and what it may do
wrong ends with them. Each takes one file after the other on its standard input, as eight bytes of
length and the content, and answers with blocks of four bytes of length and content; an empty one
ends a file. The format of what comes out: https://age-encryption.org/v1
"""

from __future__ import annotations

import contextlib
import io
import os
import queue
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, BinaryIO, cast

from runner_images.agent.door import Unanswered
from runner_images.agent.locked_python import AGE, interpreter
from runner_images.agent.measuring import Measured
from runner_images.agent.workload import CannotStart

BLOCK_BYTES = 256 * 1024
CHECK_LIMIT_S = 30.0  # to start Python and load one library, on a machine that is busy
_LENGTH, _BLOCK = struct.Struct(">Q"), struct.Struct(">I")
_CHUNK, _TAG = 64 * 1024, 16  # https://age-encryption.org/v1: payload in chunks, a tag on each
_HEAD_LIMIT = 64 * 1024  # one recipient and the library's filler have 0.4 kB
WRONG_KEY, NO_LIBRARY = 2, 3


# ── the process ─────────────────────────────────────────────────────────────────────────────────


def main() -> int:
    """Encrypt to the recipient in the first argument until standard input ends."""
    try:
        import pyrage  # type: ignore[import-untyped]  # it brings no types
    except ImportError:
        return NO_LIBRARY
    try:
        recipient = pyrage.x25519.Recipient.from_str(sys.argv[1])
    except pyrage.RecipientError:
        return WRONG_KEY
    source, target = sys.stdin.buffer, sys.stdout.buffer
    while head := source.read(_LENGTH.size):
        answer = _Framed(target)
        pyrage.encrypt_io(_Limited(source, _LENGTH.unpack(head)[0]), answer, [recipient])
        answer.end()
    return 0


class _Limited(io.RawIOBase):
    """So many bytes of a stream."""

    def __init__(self, source: IO[bytes], left: int) -> None:
        super().__init__()
        self._source, self._left = source, left

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        block = self._source.read(self._left if size < 0 else min(size, self._left))
        if not block and self._left and size:
            raise EOFError("the file ended early")
        self._left -= len(block)
        return block


class _Framed(io.RawIOBase):
    """A stream in blocks that tell their length."""

    def __init__(self, target: IO[bytes]) -> None:
        super().__init__()
        self._target = target

    def writable(self) -> bool:
        return True

    def write(self, block: bytes, /) -> int:  # type: ignore[override]  # bytes are all it gets
        if block:
            self._target.write(_BLOCK.pack(len(block)) + block)
        return len(block)

    def end(self) -> None:
        self._target.write(_BLOCK.pack(0))
        self._target.flush()


# ── the agent's side ────────────────────────────────────────────────────────────────────────────


class Encryption:
    """Encrypts to one recipient, several files at a time; `close` ends its processes."""

    def __init__(self, recipient: str, cache_dir: Path) -> None:
        self._recipient, self._cache_dir = recipient, cache_dir
        self._python = sys.executable  # until `check` finds another
        self._idle: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()
        self._all: list[subprocess.Popen[bytes]] = []

    def check(self, stopping: Callable[[], bool]) -> None:
        """Raise CannotStart unless an output could be encrypted now. Safe to repeat.

        Where this Python has no library, one is made that has it: once on a machine, some seconds.
        """
        self._python = interpreter(AGE, self._cache_dir, stopping)
        try:
            done = subprocess.run(
                _words(self._python, self._recipient),
                stdin=subprocess.DEVNULL,
                check=False,
                capture_output=True,
                timeout=CHECK_LIMIT_S,
            )
            code = done.returncode
        except (OSError, subprocess.TimeoutExpired) as error:
            text = f"encrypt_to: no process could be started: {error}"
            raise CannotStart(text, infrastructure=True) from error
        if code == WRONG_KEY:
            raise CannotStart(
                f"encrypt_to: should be an age recipient (age1…), found {self._recipient!r}."
                " Make a key with `age-keygen` and write its public part",
                infrastructure=False,
            )
        if code:
            raise CannotStart(
                "encrypt_to: pyrage cannot be loaded here, so outputs would leave unencrypted."
                " Have the agent run where `cynthus[agent,age]` is installed, or remove the key",
                infrastructure=True,
            )

    def encrypted(self, blocks: Sequence[bytes]) -> list[bytes]:
        """Return what is in memory, encrypted. Raises: Unanswered: try again."""
        size = sum(len(block) for block in blocks)
        with contextlib.closing(_Stream(self, iter(blocks), size)) as stream:
            return list(iter(lambda: stream.read(BLOCK_BYTES), b""))

    def measured(self, plain: Measured) -> Measured:
        """Return a file as it is once it is encrypted, from its beginning to its end.

        It cannot be read twice the same: after a cut it is sent from its beginning.
        """
        blocks = iter(lambda: plain.read(BLOCK_BYTES), b"")
        stream = _Stream(self, blocks, plain.size_bytes, plain.close)
        return _Encrypted(plain, stream)

    def close(self) -> None:
        """End all processes."""
        for process in self._all:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    if pipe is not None:
                        pipe.close()
        self._all.clear()

    def take(self) -> subprocess.Popen[bytes]:
        """Return a process that waits for a file."""
        with contextlib.suppress(queue.Empty):
            return self._idle.get_nowait()
        process = subprocess.Popen(
            _words(self._python, self._recipient),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._all.append(process)
        return process

    def give(self, process: subprocess.Popen[bytes], *, whole: bool) -> None:
        """Take a process back; one that was left in the middle of a file ends."""
        if whole:
            self._idle.put(process)
        else:
            process.kill()


class _Stream(io.RawIOBase):
    """One file on its way through a process: a thread feeds it, and this side reads."""

    def __init__(
        self,
        encryption: Encryption,
        blocks: Iterator[bytes],
        size: int,
        let_go: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self._encryption, self._process = encryption, encryption.take()
        self._let_go = let_go
        self._fault: Exception | None = None
        self._whole = False
        self._feeder = threading.Thread(
            target=self._feed, args=(blocks, size), name="encrypt", daemon=True
        )
        self._feeder.start()
        self._rest = b""
        self.size_bytes = self._measure(size)

    def _feed(self, blocks: Iterator[bytes], size: int) -> None:
        pipe = self._process.stdin
        assert pipe is not None  # noqa: S101 - Popen was given a pipe
        try:
            pipe.write(_LENGTH.pack(size))
            left = size
            for block in blocks:
                left -= len(block)
                pipe.write(block)
            if left:
                raise OSError("the file became shorter while it was read")
            pipe.flush()
        except Exception as error:  # noqa: BLE001 - told by the thread that reads
            self._fault = error
            self._process.kill()

    def _measure(self, plain_bytes: int) -> int:
        """Return the size of what will come: head, a nonce, and a tag on each chunk."""
        while (at := self._rest.find(b"\n--- ")) < 0 or b"\n" not in self._rest[at + 1 :]:
            if len(self._rest) > _HEAD_LIMIT or not (block := self._block()):
                raise self._broken()
            self._rest += block
        head = self._rest.index(b"\n", at + 1) + 1
        return head + _TAG + plain_bytes + _TAG * max(1, -(-plain_bytes // _CHUNK))

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes; nothing at the end. Raises: Unanswered, LeftOut."""
        if not self._rest:
            self._rest = self._block()
        taken = self._rest if size < 0 else self._rest[:size]
        self._rest = self._rest[len(taken) :]
        return taken

    def _block(self) -> bytes:
        if self._whole:
            return b""
        pipe = self._process.stdout
        assert pipe is not None  # noqa: S101 - Popen was given a pipe
        head = pipe.read(_BLOCK.size)
        if len(head) < _BLOCK.size:
            raise self._broken()
        length = int(_BLOCK.unpack(head)[0])
        if not length:
            self._whole = True
            return b""
        block = pipe.read(length)
        if len(block) < length:
            raise self._broken()
        return block

    def _broken(self) -> Exception:
        self._feeder.join(CHECK_LIMIT_S)
        return self._fault or Unanswered("encryption: its process has ended")

    def close(self) -> None:
        """Let go of process and file."""
        if not self.closed:
            if not self._whole and not self._rest and self._fault is None:
                with contextlib.suppress(Unanswered):
                    self._block()  # the end mark, where all else was read
            self._encryption.give(self._process, whole=self._whole)
            self._feeder.join(CHECK_LIMIT_S)
            self._let_go()
        super().close()


class _Encrypted(Measured):
    """The file that is sent, which is steady as long as the one that it is made of."""

    def __init__(self, plain: Measured, stream: _Stream) -> None:
        super().__init__(cast("BinaryIO", stream), stream.size_bytes, None, _only_once)
        self._plain = plain

    def check_steady(self) -> None:
        """Raise Changed when the file was written to since it was opened first."""
        self._plain.check_steady()


def _only_once() -> BinaryIO:
    raise Unanswered("upload: broke off, and what is encrypted cannot be read twice the same")


def _words(python: str, recipient: str) -> list[str]:
    """Return how to start the process: this file by itself, out of the zipapp too."""
    root = Path(__file__).parents[2]
    code = (
        "import runpy, sys; sys.path.insert(0, sys.argv.pop(1));"
        f" runpy.run_module({__name__!r}, run_name='__main__')"
    )
    return [python, "-P", "-c", code, os.fspath(root), recipient]


if __name__ == "__main__":
    sys.exit(main())
