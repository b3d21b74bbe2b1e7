"""Stage objects of a bucket by the addresses that the server signs."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cynthus.tree_form import crossing
from cynthus.wire_cache import ListedFile
from cynthus.wire_data import TreeFile
from runner_images.agent.crc32c import crc32c
from runner_images.agent.door import TurnedAway, Unanswered
from runner_images.agent.public_http import TIMEOUT_S, Opened
from runner_images.agent.ranged import Brought, Ways, bring
from runner_images.agent.staging_archive import wanted
from runner_images.agent.staging_source import Errand, Fetched, Passing, safe_path
from runner_images.agent.workload import CannotStart

# One connection to Cloud Storage brings about 100 MB/s:
# https://cloud.google.com/storage/docs/request-rate
WORKERS = 8
EXPIRED = frozenset({401, 403, 410})  # a signature that is too old: the listing has a fresh one
# Composite objects have no MD5, and without a compiled library CRC32C takes a second for 10 MB:
# above this their size alone is checked, as TLS guards the way.
# https://cloud.google.com/storage/docs/composite-objects
CRC_BYTES = 64 << 20


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    path: str
    listed: ListedFile


def fetch(errand: Errand) -> Fetched:
    """Fetch all wanted objects, several at once. Raises: CannotStart."""
    return errand.insist(lambda: _once(errand))


def _once(errand: Errand) -> Fetched:
    is_wanted = wanted(errand.work)
    try:
        objects = [
            _Wanted(path=safe_path(errand.what, one.path), listed=one)
            for one in errand.listing()
            if is_wanted(one.path) and not one.path.endswith("/")  # consoles' stand-ins for folders
        ]
    except (Unanswered, TurnedAway) as error:
        raise Passing(f"{errand.what}: its listing did not come: {error}") from error
    if not objects:
        raise CannotStart(f"{errand.what}: no object is wanted of it", infrastructure=False)
    twice = crossing(one.path for one in objects)
    if twice is not None:
        text = (
            f"{errand.what}: {twice[:200]!r} is an object and a folder at once, which no disk can"
            " have. Leave one of them out with `exclude`"
        )
        raise CannotStart(text, infrastructure=False)
    total = sum(one.listed.size_bytes for one in objects)
    here = sum(_there(errand.folder / one.path) for one in objects)
    errand.check_room(max(0, total - here))
    errand.progress.enter("fetching", total_bytes=total, files=len(objects), origin="hub")
    errand.progress.moved_bytes = total
    with ThreadPoolExecutor(WORKERS) as workers:
        return Fetched(files=tuple(workers.map(lambda one: _one(errand, one), objects)))


def _there(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _one(errand: Errand, one: _Wanted) -> tuple[Path, TreeFile]:
    errand.check_stop()
    at = errand.folder / one.path
    at.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    brought = _brought(errand, one, at)
    if not _fits(one.listed, brought, at):
        at.unlink()
        raise Passing(f"{errand.what}: {one.path} is not what its bucket promised")
    file = TreeFile(path=one.path, size_bytes=brought.size_bytes, sha256=brought.sha256)
    return at, file


def _brought(errand: Errand, one: _Wanted, at: Path) -> Brought:
    def told(size_bytes: int) -> None:
        errand.check_stop()
        errand.progress.add(size_bytes)
        if errand.progress.due:
            errand.check_floor()

    ways = Ways(
        open=lambda headers: _opened(one.listed.url, headers),
        told=told,
        sized=lambda _: None,
        pause=errand.pause,
    )
    told(_there(at))
    try:
        return bring(at, ways, one.listed.size_bytes)
    except Unanswered as error:
        errand.check_stop()
        raise Passing(f"{errand.what}: {one.path}: {error}") from error
    except TurnedAway as error:
        text = f"{errand.what}: {one.path}: {error}"
        if error.status in EXPIRED:
            raise Passing(text) from error
        raise CannotStart(text, infrastructure=False) from error


@contextlib.contextmanager
def _opened(url: str, headers: Mapping[str, str]) -> Iterator[Opened]:
    """GET an address that our own server signed: it is trusted as the server is."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
    try:
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", target, headers=dict(headers))
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        yield Opened(status=answer.status, headers=found, body=answer)
    finally:
        connection.close()


def _fits(listed: ListedFile, brought: Brought, at: Path) -> bool:
    if brought.size_bytes != listed.size_bytes:
        return False
    if listed.md5 is not None:
        return brought.md5 == listed.md5
    if listed.crc32c is not None and brought.size_bytes <= CRC_BYTES:
        return f"{crc32c(at.read_bytes()):08x}" == listed.crc32c
    return True
