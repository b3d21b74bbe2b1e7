"""Keep what the server has not been told yet, in bounded memory with a bounded file behind it."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from cynthus.codec import encode
from cynthus.wire import AgentEvent, EventKind

MEMORY_LIMIT_BYTES = 1 << 20  # four full heartbeats: what does not fit waits on disk
SPOOL_LIMIT_BYTES = 64 << 20  # the server's own default log limit: more would be cut there
EVENT_TEXT_BYTES = 32 * 1024  # one log event; eight fill a heartbeat
EVENT_FRAME_BYTES = 120  # moment, kind and braces around a body


@dataclass(frozen=True)
class _Kept:
    event: dict[str, Any]
    size: int


class Outbox:
    """Events in the order in which they happened, until the uplink takes them."""

    def __init__(self, spool: Path, *, log_limit_bytes: int, now: Callable[[], datetime]) -> None:
        self._now = now
        self._log_left = log_limit_bytes
        self._log_limit = log_limit_bytes
        self._left_out_bytes = 0
        self._lost_events = 0
        self._text: list[str] = []
        self._text_bytes = 0
        self._memory: deque[_Kept] = deque()
        self._memory_bytes = 0
        self._spool = _Spool(spool)
        self._lock = threading.Lock()
        self.news = threading.Event()  # something waits to be taken
        self.full = threading.Event()  # a whole heartbeat's worth waits

    @property
    def log_is_full(self) -> bool:
        """Say whether the log limit is reached."""
        return self._log_left <= 0

    def log(self, text: str) -> None:
        """Add masked log text; over the limit it is counted and left out."""
        size = len(text.encode("utf-8", "replace"))
        with self._lock:
            if self._log_left <= 0:
                self._left_out_bytes += size
                return
            self._log_left -= size
            self._text.append(text)
            self._text_bytes += size
            if self._text_bytes >= EVENT_TEXT_BYTES:
                self._close_text()
            if self._log_left <= 0:
                self._say_limit()
        self.news.set()

    def leave_out(self, size: int) -> None:
        """Count log that was not even looked at, since the limit is reached."""
        with self._lock:
            self._left_out_bytes += size

    def add(self, kind: EventKind, body: dict[str, Any]) -> None:
        """Add one event; a newer progress replaces one that was not taken yet."""
        with self._lock:
            self._close_text()
            last = self._memory[-1].event if self._memory and self._spool.is_empty else None
            if kind is EventKind.PROGRESS and last is not None and last["kind"] == kind.value:
                last["body"] = body
            else:
                self._append(kind, body)
        self.news.set()

    def notice(self, text: str) -> None:
        """Tell the user something in a sentence."""
        self.add(EventKind.NOTICE, {"text": text})

    def finish_log(self) -> None:
        """Say at the end of the output how much of it was left out."""
        with self._lock:
            self._close_text()
            if self._left_out_bytes:
                text = f"[cynthus] {self._left_out_bytes} more bytes of log were left out\n"
                self._append(EventKind.LOG, {"text": text})
        self.news.set()

    def take(self, limit_bytes: int) -> list[dict[str, Any]]:
        """Remove and return the oldest events, together at most about `limit_bytes`."""
        with self._lock:
            self._close_text()
            self._refill()
            taken: list[dict[str, Any]] = []
            room = limit_bytes
            while self._memory and (not taken or self._memory[0].size <= room):
                kept = self._memory.popleft()
                self._memory_bytes -= kept.size
                room -= kept.size
                taken.append(kept.event)
            if self.is_empty:
                self.news.clear()
            if self._memory_bytes < limit_bytes and self._spool.is_empty:
                self.full.clear()
        return taken

    @property
    def is_empty(self) -> bool:
        """Say whether everything was taken."""
        return not self._memory and not self._text and self._spool.is_empty

    def close(self) -> None:
        """Remove the file."""
        self._spool.close()

    def _close_text(self) -> None:
        if not self._text:
            return
        text, self._text, self._text_bytes = "".join(self._text), [], 0
        for start in range(0, len(text), EVENT_TEXT_BYTES):
            self._append(EventKind.LOG, {"text": text[start : start + EVENT_TEXT_BYTES]})

    def _say_limit(self) -> None:
        self._close_text()
        text = f"log limit of {self._log_limit} bytes reached: what follows is counted and left out"
        self._append(EventKind.LOG, {"text": f"[cynthus] {text}\n"})
        self._append(EventKind.NOTICE, {"text": text})

    def _append(self, kind: EventKind, body: dict[str, Any]) -> None:
        event: dict[str, Any] = encode(AgentEvent(at=self._now(), kind=kind, body=body))
        size = _size_of(body)
        if self._spool.is_empty and self._memory_bytes + size <= MEMORY_LIMIT_BYTES:
            self._memory.append(_Kept(event, size))
            self._memory_bytes += size
            if self._memory_bytes >= MEMORY_LIMIT_BYTES // 4:
                self.full.set()
        elif not self._spool.write(event):
            self._lost_events += 1

    def _refill(self) -> None:
        while self._memory_bytes < MEMORY_LIMIT_BYTES and not self._spool.is_empty:
            event = self._spool.read()
            size = _size_of(event["body"])
            self._memory.append(_Kept(event, size))
            self._memory_bytes += size
        if self._lost_events and self._spool.is_empty:
            text = f"{self._lost_events} events were left out while the server was away"
            self._lost_events = 0
            self._append(EventKind.NOTICE, {"text": text})


def _size_of(body: dict[str, Any]) -> int:
    texts = (len(v.encode("utf-8", "replace")) for v in body.values() if isinstance(v, str))
    return EVENT_FRAME_BYTES + sum(texts)


class _Spool:
    """Events as JSON lines in a file that is written at its end and read from its beginning."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIO | None = None
        self._read_at = 0
        self._write_at = 0

    @property
    def is_empty(self) -> bool:
        return self._read_at == self._write_at

    def write(self, event: dict[str, Any]) -> bool:
        """Append; False: the file is full, or the disk is."""
        if self._write_at >= SPOOL_LIMIT_BYTES:
            return False
        try:
            if self._file is None:
                self._file = self._path.open("w+", encoding="utf-8", errors="replace")
            self._file.seek(self._write_at)
            self._file.write(json.dumps(event) + "\n")
            self._file.flush()
            self._write_at = self._file.tell()
        except OSError:  # a full disk: the event is counted as lost, the run goes on
            return False
        return True

    def read(self) -> dict[str, Any]:
        if self._file is None:
            raise EOFError("the spool is empty")
        self._file.seek(self._read_at)
        event: dict[str, Any] = json.loads(self._file.readline())
        self._read_at = self._file.tell()
        if self.is_empty:
            self._read_at = self._write_at = 0
            self._file.truncate(0)
        return event

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._path.unlink(missing_ok=True)
