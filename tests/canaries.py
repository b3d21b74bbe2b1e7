"""Secrets that sing: values planted in a run, looked for afterwards in everything that was written.

A value is found in each spelling in which a program would leave it: plain, base64 at all three
alignments (both alphabets), hex, percent-encoded, JSON-escaped, HTML-escaped, reversed, and any of
them within gzip or zlib data. Secrets that only a program knows are found by their shape.
"""

from __future__ import annotations

import base64
import contextlib
import html
import json
import os
import re
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import quote, quote_plus

import psutil
from sqlalchemy import MetaData, create_engine, select

_GZIP_OR_ZLIB = (
    32 + zlib.MAX_WBITS
)  # https://docs.python.org/3/library/zlib.html#zlib.decompressobj
_UNPACKED_LIMIT = 64 << 20
_MAGICS = (b"\x1f\x8b\x08", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
Source = tuple[str, bytes]

# What programs make themselves, so that no test can know the value.
SHAPES = {
    "a signed token": re.compile(rb"eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{16,}"),
    "an agent's token": re.compile(rb"cya_[\w-]{43}"),
    "an enrolment's secret": re.compile(rb"cye_[\w-]{43}"),
    "a run's token": re.compile(rb"cyr_[a-z][a-z0-9]{0,31}\.\d{9,}\.[\w-]{43}"),
    "GitHub's token": re.compile(rb"gh[a-z]_[A-Za-z0-9]{20,}"),
    "a private key": re.compile(rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----\s*[A-Za-z0-9+/]"),
}


@dataclass(frozen=True, order=True)
class Hit:
    """Where a secret was found, which, and how it was spelled."""

    source: str
    secret: str
    spelling: str


def spellings(value: str) -> dict[bytes, str]:
    """Return each spelling with its name."""
    raw = value.encode()
    forms: dict[bytes, str] = {}
    for form, name in _simple(value):
        forms.setdefault(form, name)
    for before in range(3):
        # Only the characters between those that share bits with neighbours are always the same.
        whole = base64.b64encode(b"\0" * before + raw)
        core = whole[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6]
        forms.setdefault(core, f"base64 at {before}")
        forms.setdefault(core.translate(bytes.maketrans(b"+/", b"-_")), f"base64url at {before}")
    return forms


def _simple(value: str) -> Iterator[tuple[bytes, str]]:
    raw = value.encode()
    yield raw, "plain"
    yield raw.hex().encode(), "hex"
    yield raw.hex().upper().encode(), "HEX"
    yield quote(value, safe="").encode(), "URL"
    yield quote_plus(value).encode(), "form"
    yield json.dumps(value)[1:-1].encode(), "JSON"
    yield json.dumps(value, ensure_ascii=False)[1:-1].encode(), "JSON, not ASCII"
    yield html.escape(value).encode(), "HTML"
    yield value[::-1].encode(), "reversed"


def found(canaries: Mapping[str, str], sources: Iterable[Source]) -> list[Hit]:
    """Return where the named values, and what has the shape of a secret, were found."""
    wanted = [
        (form, name, spelling)
        for name, value in canaries.items()
        for form, spelling in spellings(value).items()
    ]
    known: dict[bytes, set[tuple[str, str]]] = {}  # the same text lies in many places
    hits: set[Hit] = set()
    for source, data in sources:
        if data not in known:
            known[data] = {told for text in (data, *_unpacked(data)) for told in _in(text, wanted)}
        hits |= {Hit(source, name, how) for name, how in known[data]}
    return sorted(hits)


def _in(text: bytes, wanted: list[tuple[bytes, str, str]]) -> Iterator[tuple[str, str]]:
    yield from ((name, how) for form, name, how in wanted if form in text)
    yield from ((name, "shape") for name, shape in SHAPES.items() if shape.search(text))


def hits(values: Iterable[str], sources: Iterable[Source]) -> list[str]:
    """Return where a value was found, by source and spelling."""
    wanted = {form: name for value in values for form, name in spellings(value).items()}
    found = []
    for source, data in sources:
        for text in (data, *_unpacked(data)):
            found += [f"{source}: {name}" for form, name in wanted.items() if form in text]
    return found


def _unpacked(data: bytes) -> Iterator[bytes]:
    """Yield what is packed in `data`, also in the middle of it."""
    for magic in _MAGICS:
        at = data.find(magic)
        while at >= 0:
            with contextlib.suppress(zlib.error):
                text = zlib.decompressobj(_GZIP_OR_ZLIB).decompress(data[at:], _UNPACKED_LIMIT)
                if len(text) > 8:
                    yield text
            at = data.find(magic, at + 1)


def files(folder: Path, *without: str, largest: int = 1 << 30) -> Iterator[Source]:
    """Yield every file of a folder, the names included."""
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if any(name.startswith(prefix) for prefix in without):
            continue
        yield f"the name {name}", name.encode("utf-8", "surrogateescape")
        with contextlib.suppress(FileNotFoundError):  # gone meanwhile: it was a temporary one
            if path.is_file() and not path.is_symlink() and path.stat().st_size <= largest:
                yield name, path.read_bytes()


def database(url: str) -> Iterator[Source]:
    """Yield every value of every column of every table, whatever its type."""
    engine = create_engine(url)
    tables = MetaData()
    try:
        tables.reflect(engine)
        with engine.connect() as connection:
            for table in tables.sorted_tables:
                for row in connection.execute(select(table)).mappings():
                    for column, value in row.items():
                        if value is not None:
                            yield f"column {table.name}.{column}", _bytes(value)
    finally:
        engine.dispose()


def _bytes(value: object) -> bytes:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    return (value if isinstance(value, str) else json.dumps(value, default=str)).encode()


@dataclass
class ArgumentWatch:
    """Collects the arguments of every process of this machine while the block runs."""

    seen: set[str] = field(default_factory=set)
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.05):
            for process in psutil.process_iter(["cmdline"]):
                self.seen.add("\0".join(process.info["cmdline"] or ()))

    def sources(self) -> list[Source]:
        """Return what was seen."""
        return [(f"arguments of {words[:60]!r}", words.encode()) for words in sorted(self.seen)]


@dataclass
class ProcessWatch:
    """Collects arguments and environments of all that this process starts while the block runs."""

    seen: set[tuple[bytes, bytes]] = field(default_factory=set)
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.25):  # a look costs tens of milliseconds on a busy machine
            for pid in _descendants(os.getpid()):
                self._note(Path(f"/proc/{pid}"))

    def _note(self, process: Path) -> None:
        with contextlib.suppress(OSError):  # it has ended
            words = (process / "cmdline").read_bytes()
            told = (process / "environ").read_bytes()
            self.seen.add((words, told))

    def sources(self, named: Callable[[bytes, bytes], str]) -> Iterator[Source]:
        """Yield what was seen; `named` says of arguments and environment what program it is."""
        for words, told in sorted(self.seen):
            yield f"arguments of {named(words, told)}", words
            yield f"environment of {named(words, told)}", told


def first_words(words: bytes, _: bytes) -> str:
    """Name a program by how its command begins."""
    return b" ".join(words.split(b"\0")[:4]).decode("utf-8", "replace")


def _descendants(root: int) -> Iterator[int]:
    """Yield the processes below one, as far as each still lives with whoever started it."""
    below: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            text = stat.read_text("utf-8", "replace")
            parent = int(text.rpartition(")")[2].split()[1])
            below.setdefault(parent, []).append(int(stat.parent.name))
    waiting = [root]
    while waiting:
        found = below.get(waiting.pop(), [])
        waiting += found
        yield from found
