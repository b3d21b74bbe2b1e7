"""Stage one file from an `https://` address, whose SHA-256 the spec demands."""

from __future__ import annotations

import posixpath
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cynthus.wire_data import TreeFile
from runner_images.agent.door import TurnedAway, Unanswered
from runner_images.agent.public_http import opened
from runner_images.agent.ranged import Brought, Ways, bring
from runner_images.agent.staging_archive import unpacked
from runner_images.agent.staging_source import Errand, Fetched, Passing, safe_path
from runner_images.agent.workload import CannotStart


def fetch(errand: Errand) -> Fetched:
    """Fetch and verify, and unpack if the spec says so. Raises: CannotStart."""
    dataset = errand.work.dataset
    errand.check_room(dataset.size_bytes or 0)
    errand.progress.enter("fetching", total_bytes=dataset.size_bytes, files=1, origin="hub")
    path = safe_path(errand.what, file_name(dataset.source) or dataset.name)
    errand.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    at = errand.folder / posixpath.basename(path)
    brought = _brought(errand, at)
    errand.progress.moved_bytes = brought.size_bytes
    if brought.sha256 != dataset.revision:
        at.unlink()  # the next try begins anew
        text = (
            f"{errand.what}: its SHA-256 is {brought.sha256}, the spec demands {dataset.revision}"
        )
        raise CannotStart(text, infrastructure=False)
    if dataset.unpack:
        return replace(unpacked(errand, at), archive_sha256=brought.sha256)
    file = TreeFile(path=path, size_bytes=brought.size_bytes, sha256=brought.sha256)
    return Fetched(files=((at, file),))


def file_name(url: str) -> str:
    """Return the name that an address gives its file; empty when it gives none."""
    return posixpath.basename(unquote(urlsplit(url).path))


def _brought(errand: Errand, at: Path) -> Brought:
    url = errand.work.endpoint or errand.work.dataset.source
    if at.exists():
        errand.progress.add(at.stat().st_size)

    def told(size_bytes: int) -> None:
        errand.check_stop()
        errand.progress.add(size_bytes)
        if errand.progress.due:
            errand.check_floor()

    def sized(size_bytes: int) -> None:
        errand.check_room(max(0, size_bytes - (at.stat().st_size if at.exists() else 0)))

    ways = Ways(
        open=lambda headers: opened(url, headers, errand.trust),
        told=told,
        sized=sized,
        pause=errand.pause,
    )
    try:
        return bring(at, ways)
    except Unanswered as error:
        errand.check_stop()
        raise Passing(f"{errand.what}: {error}") from error
    except TurnedAway as error:
        raise CannotStart(f"{errand.what}: {error}", infrastructure=False) from error
