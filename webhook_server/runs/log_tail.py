"""Keep the end of a log that streams by, whatever its size: pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

_LINE_LIMIT = 2_000  # characters of one line: a base64 image in a log is no line for people


def tail(
    chunks: Iterable[str], *, last: int, grep: str | None = None, limit_bytes: int
) -> tuple[str, ...]:
    """Return the last lines, those that hold `grep` if it is given, of at most `limit_bytes`.

    Memory stays at what is returned. `grep` is plain text: a stranger's pattern could take for
    ever.
    """
    kept: deque[str] = deque()
    size = 0
    for line in _lines(chunks):
        if grep is not None and grep not in line:
            continue
        kept.append(line[:_LINE_LIMIT])
        size += _size(kept[-1])
        while len(kept) > max(last, 1) or size > limit_bytes:
            size -= _size(kept.popleft())
    return tuple(kept)


def _size(line: str) -> int:
    return len(line.encode("utf-8", "replace")) + 1


def _lines(chunks: Iterable[str]) -> Iterator[str]:
    """Yield whole lines; a chunk may end within one."""
    rest = ""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split("\n")
        yield from whole
        rest = rest[-(_LINE_LIMIT * 8) :]  # one that never ends must not fill the memory
    if rest:
        yield rest
