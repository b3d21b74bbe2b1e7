"""Stage from Hugging Face: its client fetches, we verify against the hub's tree."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cynthus.wire_data import Dataset, TreeFile
from runner_images.agent.locked_python import HUGGING_FACE, interpreter
from runner_images.agent.stager_process import ClientFault, Stager
from runner_images.agent.staging_source import Errand, Fetched, Passing, safe_path
from runner_images.agent.tree_hash import FOLLOWED_BYTES, Digest, Follower, digest
from runner_images.agent.workload import CannotStart

TOKEN = "HF_TOKEN"  # noqa: S105 - the name of a secret, not one
HASHERS = 2  # beside the client's own threads: one core's hash is as fast as 10 Gbit/s
FILES_LIMIT = 2_000_000  # as of an archive: a list without an end must not fill the memory
SKIPPED_BYTES = 16 << 20  # smaller files are fetched again rather than named one by one
CLIENT_FILES = Path(".cache") / "huggingface"


@dataclass(frozen=True, kw_only=True)
class _Expected:
    """One file of the hub's tree; small ones have git's hash, large ones SHA-256."""

    size_bytes: int
    sha256: str | None
    git_blob: str | None


def fetch(errand: Errand) -> Fetched:
    """Fetch and verify; what is there from an earlier try is kept. Raises: CannotStart."""
    python = interpreter(HUGGING_FACE, errand.cache_dir, errand.stopping)
    return errand.insist(lambda: _once(errand, python))


def _once(errand: Errand, python: str) -> Fetched:
    files: dict[str, _Expected] = {}
    skipped: list[str] = []

    def skip(tree: Iterator[Any]) -> list[str]:
        files.update(dict(_read(errand, tree)))  # all at once: `look` counts what is there
        skipped.extend(path for path, file in files.items() if _is_had(errand, path, file))
        _begin(errand, files, skipped)
        return skipped

    def look() -> None:
        if files and errand.progress.due:
            errand.check_floor()
            errand.progress.reach(_there(errand.folder) + sum(files[p].size_bytes for p in skipped))

    stager = Stager(
        python=python,
        scratch=errand.folder.with_name("client"),
        stopping=errand.stopping,
        look=look,
    )
    with Follower(lambda: _growing(errand.folder, files)) as follower:
        try:
            stager.run(_request(errand), skip)
        except ClientFault as fault:
            raise _placed(errand, fault) from fault
        follower.finish()
        return _verified(errand, files, frozenset(skipped), follower)


def _request(errand: Errand) -> dict[str, Any]:
    repo_type, repo = place_of(errand.work.dataset)
    return {
        "source": "hf",
        "repo_type": repo_type,
        "repo": repo,
        "revision": errand.work.dataset.revision,
        "endpoint": errand.work.endpoint,
        "allow": list(errand.work.allow),
        "ignore": list(errand.work.ignore),
        "folder": str(errand.folder),
        "token": errand.secrets.get(TOKEN),
    }


def place_of(dataset: Dataset) -> tuple[str, str]:
    """Return the client's word for the kind of repository, with its name."""
    kind, _, name = dataset.source.removeprefix("hf://").partition("/")
    return {"datasets": "dataset", "models": "model"}[kind], name.partition("@")[0]


def _placed(errand: Errand, fault: ClientFault) -> CannotStart:
    text = f"{errand.what}: {str(fault).removeprefix('data: ')}"
    return Passing(text) if fault.passes else CannotStart(text, infrastructure=fault.infrastructure)


def _read(errand: Errand, tree: Iterator[Any]) -> Iterator[tuple[str, _Expected]]:
    for count, (path, size, sha256, git_blob) in enumerate(tree):
        if count >= FILES_LIMIT:
            text = f"{errand.what}: has more than {FILES_LIMIT} files. Take less with `include`"
            raise CannotStart(text, infrastructure=False)
        if not isinstance(size, int) or size < 0:
            raise CannotStart(
                f"{errand.what}: the hub tells no size of a file", infrastructure=True
            )
        safe = safe_path(errand.what, path)
        yield safe, _Expected(size_bytes=size, sha256=sha256, git_blob=git_blob)


def _is_had(errand: Errand, path: str, file: _Expected) -> bool:
    if file.sha256 is None or file.size_bytes < SKIPPED_BYTES:
        return False
    return errand.had(TreeFile(path=path, size_bytes=file.size_bytes, sha256=file.sha256))


def _begin(errand: Errand, files: dict[str, _Expected], skipped: list[str]) -> None:
    if not files:
        text = (
            f"{errand.what}: no file is left of it. Look at its `include`, `exclude` and `subset`"
        )
        raise CannotStart(text, infrastructure=False)
    total = sum(file.size_bytes for file in files.values())
    here = sum(files[path].size_bytes for path in skipped) + _there(errand.folder)
    errand.check_room(max(0, total - here))
    errand.progress.enter("fetching", total_bytes=total, files=len(files), origin="hub")


def _there(folder: Path) -> int:
    """Count the bytes below a folder, without the client's own notes."""
    total, folders = 0, [folder]
    while folders:
        try:
            entries = os.scandir(folders.pop())
        except OSError:
            continue
        with entries:
            for entry in entries:
                try:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(Path(entry.path))
                    elif not entry.name.endswith((".metadata", ".lock")):
                        total += entry.stat(follow_symlinks=False).st_size
                except OSError:  # renamed meanwhile
                    continue
    return total


def _growing(folder: Path, files: dict[str, _Expected]) -> Iterator[Path]:
    """Yield what the client writes just now, if anything of it is worth to be followed."""
    if any(file.sha256 and file.size_bytes >= FOLLOWED_BYTES for file in list(files.values())):
        yield from (folder / CLIENT_FILES / "download").rglob("*.incomplete")


def _verified(
    errand: Errand, files: dict[str, _Expected], skipped: frozenset[str], follower: Follower
) -> Fetched:
    total = sum(file.size_bytes for file in files.values())
    errand.progress.moved_bytes = total - sum(files[path].size_bytes for path in skipped)
    errand.progress.enter("verifying", total_bytes=total)

    def one(path: str) -> tuple[Path | None, TreeFile]:
        errand.check_stop()
        file = files[path]
        errand.progress.add(file.size_bytes)
        if path in skipped and file.sha256 is not None:
            return None, TreeFile(path=path, size_bytes=file.size_bytes, sha256=file.sha256)
        at = errand.folder / path
        found = _checked(errand, path, file, follower)
        return at, TreeFile(path=path, size_bytes=found.size_bytes, sha256=found.sha256)

    with ThreadPoolExecutor(HASHERS) as hashers:
        return Fetched(files=tuple(hashers.map(one, sorted(files))))


def _checked(errand: Errand, path: str, file: _Expected, follower: Follower) -> Digest:
    """Return the hash of a file that is what the hub promised; one that is not goes."""
    at = errand.folder / path
    if at.is_symlink() or not at.is_file():
        raise Passing(f"{errand.what}: {path} is missing after the download")
    found = follower.digest(at)
    if found is not None and _fits(found, file):
        return found
    found = digest(at, git_blob=file.git_blob is not None)
    if not _fits(found, file):
        at.unlink()  # the next try fetches it again
        promised = file.sha256 or file.git_blob
        raise Passing(f"{errand.what}: {path} is not what the hub promised ({promised})")
    return found


def _fits(found: Digest, file: _Expected) -> bool:
    if found.size_bytes != file.size_bytes:
        return False
    if file.sha256 is not None:
        return found.sha256 == file.sha256
    return found.git_blob == file.git_blob
