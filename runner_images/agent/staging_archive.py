"""Unpack what a source fetched, with progress, room and reasons."""

from __future__ import annotations

import threading
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path

from cynthus.wire_data import DatasetWork, TreeFile
from runner_images.agent.disk_cache import remove_tree
from runner_images.agent.staging_source import Errand, Fetched
from runner_images.agent.tree_hash import digest
from runner_images.agent.unpacking import BadArchive, Limits, kind_of, unpack
from runner_images.agent.workload import CannotStart


def unpacked(errand: Errand, archive: Path) -> Fetched:
    """Return the archive's wanted files; the archive itself is gone then. Raises: CannotStart.

    What is no archive is the one file of the data.
    """
    if kind_of(archive) is None:
        found = digest(archive)
        file = TreeFile(path=archive.name, size_bytes=found.size_bytes, sha256=found.sha256)
        return Fetched(files=((archive, file),), archive_sha256=found.sha256)
    hashing = _Hashing(archive)
    files = _files(errand, archive, errand.folder.with_name("unpacked"))
    if not files:
        raise CannotStart(f"{errand.what}: its archive holds no wanted file", infrastructure=False)
    sha256 = hashing.result()
    archive.unlink()
    return Fetched(files=files, archive_sha256=sha256)


def _files(errand: Errand, archive: Path, into: Path) -> tuple[tuple[Path, TreeFile], ...]:
    remove_tree(into)  # of an earlier try
    into.mkdir(mode=0o700)
    errand.progress.enter("unpacking", files=0)

    def told(size_bytes: int) -> None:
        errand.check_stop()
        errand.progress.add(size_bytes)
        if errand.progress.due:
            errand.check_floor()

    limits = Limits(total_bytes=max(0, errand.make_room(errand.floor_bytes) - errand.floor_bytes))
    try:
        return tuple(unpack(archive, into, limits, wanted=wanted(errand.work), told=told))
    except BadArchive as error:
        raise CannotStart(f"{errand.what}: {error}", infrastructure=False) from error


def wanted(work: DatasetWork) -> Callable[[str], bool]:
    """Return whether a path is wanted, by the rules of Hugging Face's client.

    https://huggingface.co/docs/huggingface_hub/guides/download#filter-files-to-download
    """
    allow, ignore = _patterns(work.allow), _patterns(work.ignore)

    def is_wanted(path: str) -> bool:
        if allow and not any(fnmatchcase(path, pattern) for pattern in allow):
            return False
        return not any(fnmatchcase(path, pattern) for pattern in ignore)

    return is_wanted


def _patterns(patterns: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(one + "*" if one.endswith("/") else one for one in patterns)


class _Hashing:
    """The archive's own hash, made beside its unpacking."""

    def __init__(self, archive: Path) -> None:
        self._archive = archive
        self._sha256 = ""
        self._fault: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="hash", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._sha256 = digest(self._archive).sha256
        except OSError as error:
            self._fault = error

    def result(self) -> str:
        """Wait for it. Raises: OSError."""
        self._thread.join()
        if self._fault is not None:
            raise self._fault
        return self._sha256
