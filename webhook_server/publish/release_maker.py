"""Bring one run's release to its end: draft, every asset with its digest, published last."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, cast

from cynthus.codec import encode
from cynthus.envelope import Signature, seal
from cynthus.errors import Refused, Transient
from cynthus.packing import PackedFile, read_index
from cynthus.wire import EventKind
from webhook_server.github_api import Asset, GithubApi, Invalid, NotFound, Release, Releases
from webhook_server.intents import Place
from webhook_server.publish.assets import AssetFile, Blobs, digest_of, output_key
from webhook_server.runs import provenance, release_texts
from webhook_server.runs import release as shape
from webhook_server.runs.feed_facts import Feed
from webhook_server.runs.model import Run
from webhook_server.runs.provenance import Builder, Subject
from webhook_server.runs.release import AssetPlan, OwnFile
from webhook_server.stores.environment_store import Texts
from webhook_server.stores.event_store import EventStore

_PAGE = 500
_NAMES = 9  # of one release; more were deleted by somebody who wants none
_CHUNK = 1 << 20
_NOBODY = Builder(url="http://localhost", version="0", github_url="https://github.com")


@dataclass(frozen=True, kw_only=True)
class ReleaseSources:
    """Where a release's content comes from."""

    events: EventStore
    blobs: Blobs
    blob_key: Callable[[int, str, int, str], str]
    spec_text: Callable[[str], str | None]
    environment: Callable[[str], Texts]
    builder: Builder = _NOBODY
    sign: Callable[[bytes], Signature] | None = None  # None: statements stay bare


class ReleaseMaker:
    """Makes one release. GitHub's own list of assets says how far an earlier try came."""

    def __init__(self, api: GithubApi, place: Place, run: Run, sources: ReleaseSources) -> None:
        self._place, self._run, self._sources = place, shape.as_told(run), sources
        self._releases = Releases(api, place)
        self._plan = shape.plan(self._run)
        self._subjects: list[Subject] = []  # what the release holds by now

    def make(self, feed: Feed, *, url: str, release_id: int | None, in_doubt: bool) -> Release:
        """Return the published release; safe to repeat with `in_doubt`.

        Raises: Transient, Refused.
        """
        self._plan = shape.plan(self._run, self._indexes())
        release = self._draft(feed, url=url, release_id=release_id, in_doubt=in_doubt)
        if not release.draft:
            return release  # published by an earlier try whose answer was lost
        there = {asset.name: asset for asset in self._releases.assets(release.id)}
        for planned in self._plan.assets:
            self._put_planned(release, planned, there)
        files = self._own_files(feed)
        own = [self._put_own(release, name, file, there) for name, file in files]
        text = release_texts.manifest(self._run, self._plan, own)
        self._put_text(release, shape.MANIFEST, text, there)
        self._put_text(release, provenance.PROVENANCE, self._provenance(), there)
        return self._published(release)

    # ── the draft ───────────────────────────────────────────────────────────────────────────────

    def _draft(self, feed: Feed, *, url: str, release_id: int | None, in_doubt: bool) -> Release:
        if release_id is not None:
            return self._releases.get(release_id)
        found = self._find() if in_doubt else None
        if found is not None:
            return found
        try:
            return self._create(feed, url, base=False)
        except NotFound:
            # GitHub hides that the commit changes workflow files, for which this app may put no
            # tag: https://docs.github.com/rest/releases/releases#create-a-release
            return self._create_on_base(feed, url)

    def _find(self) -> Release | None:
        marker = shape.marker_of(self._run)
        return self._releases.find(tag=shape.tag_of(self._run), marker=marker)

    def _create_on_base(self, feed: Feed, url: str) -> Release:
        try:
            return self._create(feed, url, base=True)
        except NotFound as error:
            raise Refused(
                "GitHub lets the app make no release here. Give it the permission "
                "`contents: write`, and accept it for this installation."
            ) from error

    def _create(self, feed: Feed, url: str, *, base: bool) -> Release:
        commit = self._place.default_branch if base else self._run.key.commit_sha
        text = release_texts.notes(self._run, self._plan, feed.metrics, url=url, base=base)
        return self._releases.create_draft(
            tag=shape.tag_of(self._run), commit=commit, title=shape.title_of(self._run), notes=text
        )

    def _published(self, release: Release) -> Release:
        """Publish the draft, under the next name that GitHub gives where its own is taken."""
        for again in range(1, _NAMES + 1):
            tag = shape.tag_of(self._run, again)
            try:
                published = self._publish(release, tag)
            except Invalid as error:
                # The name is another release's, or was a deleted immutable one's: "you cannot
                # reuse the same tag name",
                # https://docs.github.com/code-security/concepts/supply-chain-security/immutable-releases
                if again == _NAMES or not _is_taken(error):
                    raise
                continue
            if published.draft:
                raise Transient("GitHub still shows the release as a draft.")
            return published
        raise AssertionError("the last name is published or refused")

    def _publish(self, release: Release, tag: str) -> Release:
        if tag != shape.tag_of(self._run):
            text = release_texts.renamed(self._run, tag, release.body)
            self._releases.rename(release.id, tag=tag, notes=text)
        return self._releases.publish(release.id)

    # ── assets ──────────────────────────────────────────────────────────────────────────────────

    def _put_planned(self, release: Release, plan: AssetPlan, there: dict[str, Asset]) -> None:
        if plan.name in there:
            digest = digest_of(plan, self._open_output)
            if self._is_there(there[plan.name], plan.size_bytes, digest):
                self._subjects.append(Subject(name=plan.name, sha256=digest))
                return
        file = AssetFile(plan, self._open_output)
        asset = self._send(release, plan.name, cast("BinaryIO", file), plan.size_bytes)
        digest = file.digest.hexdigest()
        if plan.sha256 not in (None, digest):
            self._releases.delete_asset(asset.id)
            raise Refused(
                f"output for {plan.name!r} is not what was collected: its digest differs."
            )
        self._check(asset, plan.name, plan.size_bytes, digest)
        self._subjects.append(Subject(name=plan.name, sha256=digest))

    def _put_text(self, release: Release, name: str, text: bytes, there: dict[str, Asset]) -> None:
        with _file_of([text]) as file:
            self._put_own(release, name, file, there)

    def _put_own(
        self, release: Release, name: str, file: BinaryIO, there: dict[str, Asset]
    ) -> OwnFile:
        size_bytes, digest = _measured(file)
        own = OwnFile(name=name, size_bytes=size_bytes, sha256=digest)
        self._subjects.append(Subject(name=name, sha256=digest))
        if name in there and self._is_there(there[name], size_bytes, digest):
            return own
        asset = self._send(release, name, file, size_bytes)
        self._check(asset, name, size_bytes, digest)
        return own

    def _is_there(self, asset: Asset, size_bytes: int, digest: str) -> bool:
        """Say whether an earlier try left it whole; remove what it left broken."""
        same = asset.sha256 in (None, digest) and asset.size_bytes == size_bytes
        if asset.uploaded and same:
            return True
        self._releases.delete_asset(asset.id)
        return False

    def _send(self, release: Release, name: str, file: BinaryIO, size_bytes: int) -> Asset:
        return self._releases.upload(release, name, file, size_bytes)

    def _check(self, asset: Asset, name: str, size_bytes: int, digest: str) -> None:
        good = asset.uploaded and asset.name == name and asset.size_bytes == size_bytes
        if good and asset.sha256 in (None, digest):
            return
        self._releases.delete_asset(asset.id)
        raise Transient(f"GitHub has not kept {name!r} as it was sent.")

    def _indexes(self) -> dict[str, tuple[PackedFile, ...]]:
        """Read what lies in the archives of small files. Raises: Refused when one is none."""
        found = {}
        for output in self._run.outputs or ():
            if not shape.is_readable_pack(output):
                continue
            with self._open_output(output.path) as file:
                index = read_index(file)
            if len(index) != output.packed:
                raise Refused(f"output {output.path!r} does not hold what its index says.")
            found[output.path] = index
        return found

    def _open_output(self, path: str) -> BinaryIO:
        key = output_key(self._run, path, self._sources.blob_key)
        file = self._sources.blobs.open(key)
        if file is None:
            raise Refused(f"output {path!r} is not in the blob store any more.")
        return file

    # ── our own files ───────────────────────────────────────────────────────────────────────────

    def _provenance(self) -> bytes:
        """Return the statement about all that was put there, signed where there is a key."""
        text = provenance.statement(self._run, self._subjects, self._sources.builder)
        sign = self._sources.sign
        return text if sign is None else seal(text.rstrip(b"\n"), sign)

    def _own_files(self, feed: Feed) -> Iterator[tuple[str, BinaryIO]]:
        card = release_texts.model_card(self._run, feed.metrics)
        texts: list[tuple[str, Iterator[bytes]]] = [
            (shape.CARD, iter((card,))),
            (shape.spec_name(self._run), self._spec()),
            (shape.METRICS, self._metrics()),
            (shape.LOG, self._log()),
            *self._environment(),
        ]
        for name, chunks in texts:
            with _file_of(chunks) as file:
                if file.seek(0, 2):  # GitHub takes no empty asset
                    file.seek(0)
                    yield name, file

    def _spec(self) -> Iterator[bytes]:
        yield (self._sources.spec_text(self._run.id) or "").encode()

    def _environment(self) -> Iterator[tuple[str, Iterator[bytes]]]:
        """Yield lock and SBOM as they were sent: nothing of them is read here."""
        if self._run.environment is None:
            return
        texts = self._sources.environment(self._run.environment.id)
        for name, text in ((shape.LOCK, texts.lock), (shape.SBOM, texts.sbom)):
            if text is not None:
                yield name, iter((text.encode(),))

    def _metrics(self) -> Iterator[bytes]:
        seq = 0
        found: dict[str, list[object]] = {}
        kinds = (EventKind.METRIC,)
        while page := self._sources.events.after(self._run.id, seq, limit=_PAGE, kinds=kinds):
            for event in page:
                point = {name: event.body.get(name) for name in ("step", "value")}
                more = encode({"at": event.at, "attempt": event.attempt})
                found.setdefault(str(event.body.get("name", "")), []).append({**point, **more})
            seq = page[-1].seq
        yield json.dumps(found, indent=1, ensure_ascii=False).encode() + b"\n"

    def _log(self) -> Iterator[bytes]:
        for attempt in self._run.attempts:
            if len(self._run.attempts) > 1:
                yield f"=== attempt {attempt.number} ===\n".encode()
            for text in self._sources.events.log_text(self._run.id, attempt.number):
                yield text.encode("utf-8", "replace")


def _is_taken(error: Invalid) -> bool:
    # GitHub's own words; the last one is what its rule for names of immutable releases says.
    words = ("already_exists", "used by an immutable release", "creations being restricted")
    return any(word in str(error) for word in words)


@contextmanager
def _file_of(chunks: Iterator[bytes] | Sequence[bytes]) -> Iterator[BinaryIO]:
    with tempfile.TemporaryFile() as file:  # a log can be larger than the server's memory
        for chunk in chunks:
            file.write(chunk)
        file.seek(0)
        yield cast("BinaryIO", file)


def _measured(file: BinaryIO) -> tuple[int, str]:
    digest, size_bytes = hashlib.sha256(), 0
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
        size_bytes += len(chunk)
    file.seek(0)
    return size_bytes, digest.hexdigest()
