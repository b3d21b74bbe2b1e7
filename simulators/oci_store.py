"""Keep a simulated registry's blobs, manifests, tags and uploads: files that survive kill -9."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from simulators.oci_http import Body, Refusal

_CHUNK = 1 << 18
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A manifest as it was pushed."""

    digest: str
    media_type: str
    body: bytes


class Store:
    """One registry's content below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.RLock()
        for name in ("blobs", "uploads", "repositories"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    # ── blobs ───────────────────────────────────────────────────────────────────────────────────

    def blob(self, repository: str, digest: str) -> Path | None:
        """Return the file of a blob that the repository has."""
        link = self._home(repository) / "blobs" / digest
        path = self.folder / "blobs" / digest
        return path if link.exists() and path.exists() else None

    def stored(self, digest: str) -> Path:
        """Return where a blob of whatever repository lies."""
        return self.folder / "blobs" / digest

    def link(self, repository: str, digest: str) -> None:
        """Give a blob to a repository."""
        home = self._home(repository) / "blobs"
        home.mkdir(parents=True, exist_ok=True)
        (home / digest).touch()

    def unlink(self, repository: str, digest: str) -> None:
        """Take a blob from a repository, as garbage collection would."""
        (self._home(repository) / "blobs" / digest).unlink(missing_ok=True)

    # ── uploads ─────────────────────────────────────────────────────────────────────────────────

    def begin(self, repository: str) -> str:
        """Open an upload and return its id."""
        name = str(uuid.uuid4())
        (self.folder / "uploads" / name).touch()
        (self.folder / "uploads" / f"{name}.of").write_text(repository)
        return name

    def size(self, repository: str, upload: str) -> int | None:
        """Return how many bytes an upload has; None: there is none."""
        if not re.fullmatch(r"[0-9a-f-]{36}", upload):
            return None
        path, owner = self._upload(upload)
        if not path.exists() or not owner.exists() or owner.read_text() != repository:
            return None
        return path.stat().st_size

    def append(self, upload: str, body: Body) -> int:
        """Take a body, byte by byte as it comes: what came before a cut stays."""
        path, _ = self._upload(upload)
        with path.open("ab") as target:
            while piece := body.read(_CHUNK):
                target.write(piece)
                target.flush()
        return path.stat().st_size

    def drop(self, upload: str) -> None:
        """Forget an upload. Safe to repeat."""
        for path in self._upload(upload):
            path.unlink(missing_ok=True)

    def commit(self, repository: str, upload: str, digest: str) -> None:
        """Make an upload a blob; one with another digest is refused and lost."""
        path, _ = self._upload(upload)
        with path.open("rb") as content:
            found = f"sha256:{hashlib.file_digest(content, 'sha256').hexdigest()}"
        if found != digest:
            self.drop(upload)
            message = "provided digest did not match uploaded content"
            raise Refusal(400, "DIGEST_INVALID", message)
        path.replace(self.stored(digest))
        self.drop(upload)
        self.link(repository, digest)

    def _upload(self, upload: str) -> tuple[Path, Path]:
        folder = self.folder / "uploads"
        return folder / upload, folder / f"{upload}.of"

    # ── manifests and tags ──────────────────────────────────────────────────────────────────────

    def exists(self, repository: str) -> bool:
        """Return whether anything was ever pushed there."""
        return self._home(repository).is_dir()

    def manifest(self, repository: str, reference: str) -> Kept | None:
        """Return a manifest by digest or tag."""
        digest = reference if DIGEST.fullmatch(reference) else self.tags(repository).get(reference)
        path = self._home(repository) / "manifests" / (digest or "-")
        if not path.is_file():
            return None
        media_type, _, body = path.read_bytes().partition(b"\n")
        return Kept(digest=digest or "", media_type=media_type.decode(), body=body)

    def put(self, repository: str, reference: str, kept: Kept) -> None:
        """Keep a manifest, and let a tag name it."""
        with self.lock:
            home = self._home(repository) / "manifests"
            home.mkdir(parents=True, exist_ok=True)
            (home / kept.digest).write_bytes(kept.media_type.encode() + b"\n" + kept.body)
            if reference != kept.digest:
                self._save_tags(repository, self.tags(repository) | {reference: kept.digest})

    def remove(self, repository: str, digest: str) -> None:
        """Delete a manifest and every tag that names it."""
        with self.lock:
            (self._home(repository) / "manifests" / digest).unlink(missing_ok=True)
            kept = {tag: named for tag, named in self.tags(repository).items() if named != digest}
            self._save_tags(repository, kept)

    def untag(self, repository: str, tag: str) -> None:
        """Delete a tag alone."""
        with self.lock:
            kept = {name: to for name, to in self.tags(repository).items() if name != tag}
            self._save_tags(repository, kept)

    def tags(self, repository: str) -> dict[str, str]:
        """Return the tags with the digests they name."""
        try:
            found: dict[str, str] = json.loads((self._home(repository) / "tags.json").read_bytes())
        except FileNotFoundError:
            return {}
        return found

    def clear(self) -> None:
        """Forget everything."""
        for path in self._everything():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _everything(self) -> Iterator[Path]:
        for name in ("blobs", "uploads", "repositories"):
            yield from (self.folder / name).iterdir()

    def _save_tags(self, repository: str, tags: dict[str, str]) -> None:
        path = self._home(repository) / "tags.json"
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(tags))
        partial.replace(path)

    def _home(self, repository: str) -> Path:
        return self.folder / "repositories" / quote(repository, safe="")
