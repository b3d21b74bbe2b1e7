"""Hide secret values in text, in the spellings in which programs print them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

HIDDEN = "***"
# Shorter values are words of every log ("1", "on"): hiding them would hide the log. The server
# refuses secrets under 8 characters; this guards lines of a longer one and `::add-mask::`.
SHORTEST_LITERAL = 4
SHORTEST_ENCODED = 8  # of the value: a shorter one's encoding collides with ordinary words
WRAPS = (76, 64)  # where `base64` and `openssl base64` break their lines


class Masks:
    """The values to hide; grows while the run goes on."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._spellings: tuple[str, ...] = ()
        self._bytes: tuple[bytes, ...] = ()
        for value in values:
            self.add(value)

    def add(self, value: str) -> bool:
        """Hide `value` from now on; False: it is too short to be hidden."""
        found = spellings(value)
        # A replaced tuple is seen whole or not at all by the threads that read it meanwhile.
        self._spellings = tuple(dict.fromkeys((*self._spellings, *found)))
        literals = (value.encode("utf-8", "surrogatepass"),) if found else ()
        self._bytes = tuple(dict.fromkeys((*self._bytes, *literals)))
        return bool(found)

    def hide(self, text: str) -> str:
        """Return `text` with every spelling of every value hidden."""
        return _cover(text, self._spans(text))

    def hide_ready(self, text: str) -> tuple[str, str]:
        """Return what may be shown now, hidden, and the rest, which may begin a value.

        Joining the shown parts gives what hiding the whole text at once would give.
        """
        spans = self._spans(text)
        cut = len(text) - self._begun(text)
        for start, end in reversed(spans):
            if start < cut < end:
                cut = start
        return _cover(text[:cut], [span for span in spans if span[1] <= cut]), text[cut:]

    def in_bytes(self, block: bytes) -> bool:
        """Say whether a block of a file holds one of the values as it is."""
        return any(value in block for value in self._bytes)

    @property
    def overlap_bytes(self) -> int:
        """Return how much of a file's block must be looked at again with the next one."""
        return max((len(value) for value in self._bytes), default=1) - 1

    def _spans(self, text: str) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        for spelling in self._spellings:
            start = text.find(spelling)
            while start >= 0:
                found.append((start, start + len(spelling)))
                start = text.find(spelling, start + 1)
        return _merged(found)

    def _begun(self, text: str) -> int:
        """Return the length of the longest end of `text` that begins a spelling."""
        longest = 0
        for spelling in self._spellings:
            start = text.find(spelling[0], max(0, len(text) - len(spelling) + 1))
            while start >= 0 and len(text) - start > longest:
                if spelling.startswith(text[start:]):
                    longest = len(text) - start
                start = text.find(spelling[0], start + 1)
        return longest


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _cover(text: str, spans: list[tuple[int, int]]) -> str:
    if not spans:
        return text
    parts: list[str] = []
    shown = 0
    for start, end in spans:
        parts += [text[shown:start], HIDDEN]
        shown = end
    return "".join((*parts, text[shown:]))


def spellings(value: str) -> tuple[str, ...]:
    """Return the texts under which `value` may appear in one line; none when it is too short."""
    found: dict[str, None] = {}
    lines = [line.strip() for line in value.splitlines()]
    for part in dict.fromkeys((value.strip("\r\n"), value.strip(), *lines)):
        if len(part) < SHORTEST_LITERAL:
            continue
        if len(lines) <= 1 or part in lines:
            found[part] = None
        if len(part) >= SHORTEST_ENCODED:
            found.update(dict.fromkeys(_encodings(part)))
    if len(value) >= SHORTEST_ENCODED:
        found.update(dict.fromkeys(_encodings(value)))
    return tuple(text for text in found if len(text) >= SHORTEST_LITERAL and "\n" not in text)


def _encodings(value: str) -> Iterable[str]:
    raw = value.encode("utf-8", "surrogatepass")
    for aligned in _base64_spellings(raw):
        yield aligned
        yield aligned.replace("+", "-").replace("/", "_")
    yield raw.hex()
    yield raw.hex().upper()
    for quoted in (quote(raw, safe=""), quote(raw), quote_plus(raw)):
        yield quoted
        yield _lower_escapes(quoted)
    for ascii_only in (True, False):
        escaped = json.dumps(value, ensure_ascii=ascii_only)[1:-1]
        yield escaped
        yield escaped.replace("/", "\\/")
    yield repr(value)[1:-1]


def _base64_spellings(raw: bytes) -> Iterable[str]:
    """Yield what base64 shows of `raw` wherever it stands in the encoded bytes.

    The first and last characters also carry bits of the neighbours: they are left off.
    """
    for before, spoiled in ((0, 0), (1, 2), (2, 3)):
        text = base64.b64encode(b"\0" * before + raw).decode()
        tail = (0, 3, 2)[(before + len(raw)) % 3]
        yield text[spoiled : len(text) - tail]
    whole = base64.b64encode(raw).decode().rstrip("=")
    for width in WRAPS:
        if len(whole) > width:
            pieces = (whole[i : i + width] for i in range(0, len(whole), width))
            yield from (piece for piece in pieces if len(piece) >= 2 * SHORTEST_ENCODED)


def _lower_escapes(quoted: str) -> str:
    head, *rest = quoted.split("%")
    return "%".join((head, *(part[:2].lower() + part[2:] for part in rest)))
