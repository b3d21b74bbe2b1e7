"""Let agents save a run's checkpoint folder, or get back what an earlier attempt saved."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice

from fastapi import APIRouter, Depends, Request, Response

from cynthus.codec import encode
from cynthus.frozen import replace
from cynthus.wire import UploadGrant
from cynthus.wire_checkpoint import (
    BLOBS_AT_ONCE,
    FILES_AT_ONCE,
    Checkpoint,
    CheckpointAsk,
    CheckpointBlob,
    CheckpointBlobs,
    CheckpointFile,
    CheckpointGrants,
    CheckpointKept,
    CheckpointPlace,
    CheckpointView,
)
from webhook_server.auth.blob_urls import GetTerms, PutTerms, get_url, put_url
from webhook_server.routes.answers import HttpRefusal, read_words
from webhook_server.routes.bodies import json_answer, limited_body
from webhook_server.routes.parts import Parts
from webhook_server.runs import checkpoints
from webhook_server.runs.model import Run
from webhook_server.stores.blob_protocol import Announced
from webhook_server.stores.checkpoint_shelf import Shelf
from webhook_server.stores.checkpoint_store import KEPT, CheckpointStore, KeptCheckpoint
from webhook_server.stores.instance_store import InstanceRow

ASK_LIMIT_BYTES = 64 * 1024
LIST_LIMIT_BYTES = 8 << 20  # CHECKPOINT_FILES entries of ordinary length
UPLOAD_LIFE = timedelta(minutes=15)  # to begin: a transfer that has begun may take longer
# A gigabyte a second for an hour: the addresses are all given out before the first is used.
DOWNLOAD_LIFE = timedelta(hours=1)


def checkpoint_router(parts: Parts, open_attempt: Callable[[Request], InstanceRow]) -> APIRouter:
    """Return the doors; `open_attempt` finds the asker's instance, or refuses it."""
    router = APIRouter(tags=["agents"])
    store = CheckpointStore(parts.database)
    attempt_first = Depends(open_attempt)
    ask_body, list_body = (
        Depends(limited_body(ASK_LIMIT_BYTES)),
        Depends(limited_body(LIST_LIMIT_BYTES)),
    )

    @router.post("/agent/v1/checkpoints/blobs")
    def blobs(row: InstanceRow = attempt_first, content: bytes = ask_body) -> Response:
        return json_answer(200, encode(_grants(parts, row, read_words(CheckpointBlobs, content))))

    @router.post("/agent/v1/checkpoints")
    def commit(row: InstanceRow = attempt_first, content: bytes = list_body) -> Response:
        kept = _keep(parts, store, row, read_words(Checkpoint, content))
        return json_answer(200, encode(kept))

    @router.post("/agent/v1/checkpoints/latest")
    def latest(row: InstanceRow = attempt_first, content: bytes = ask_body) -> Response:
        view = _view(parts, store, row, read_words(CheckpointAsk, content))
        return Response(status_code=204) if view is None else json_answer(200, encode(view))

    return router


def may_restore(parts: Parts, run: Run, row: InstanceRow) -> bool:
    """Say whether there is a checkpoint that this attempt may go on from."""
    return any(True for _ in _found(parts, CheckpointStore(parts.database), run, row))


def _run(parts: Parts, row: InstanceRow) -> Run:
    """Return the asker's run, which has a folder to save. Raises: HttpRefusal."""
    run = parts.runs.get(row.run_id)
    if run is None or run.spec is None:
        raise HttpRefusal(410, "attempt: is over. Stop everything.")
    if run.spec.checkpoint is None:
        raise HttpRefusal(422, "checkpoint: is not part of this run's spec. Save nothing.")
    return run


def _shelf(parts: Parts, row: InstanceRow) -> Shelf:
    return Shelf(
        blobs=parts.blobs,
        repository_id=row.repository_id,
        run_id=row.run_id,
        rank=row.rank or 0,
    )


# ── saving ──────────────────────────────────────────────────────────────────────────────────────


def _grants(parts: Parts, row: InstanceRow, ask: CheckpointBlobs) -> CheckpointGrants:
    _run(parts, row)
    if len(ask.blobs) > BLOBS_AT_ONCE:
        raise HttpRefusal(422, f"blobs: should be at most {BLOBS_AT_ONCE}. Ask more often.")
    for blob in ask.blobs:
        if not checkpoints.is_digest(blob.sha256, 64) or not checkpoints.is_digest(blob.md5, 32):
            raise HttpRefusal(422, "blobs: should have SHA-256 and MD5 in hex digits. Send both.")
    shelf = _shelf(parts, row)
    _check_room(parts, shelf, ask)
    return CheckpointGrants(grants=tuple(_grant(parts, shelf, blob) for blob in ask.blobs))


def _check_room(parts: Parts, shelf: Shelf, ask: CheckpointBlobs) -> None:
    limit = parts.settings.checkpoint_limit_bytes
    if min((blob.size_bytes for blob in ask.blobs), default=0) < 0:
        raise HttpRefusal(422, "size_bytes: should not be negative. Send the file's size.")
    coming = sum(blob.size_bytes for blob in ask.blobs)
    # Those that are kept, the one that comes, and as much again of what a broken one left behind.
    if coming > limit or shelf.usage()[1] + coming > (KEPT + 2) * limit:
        raise HttpRefusal(422, f"checkpoint: should have at most {limit} bytes. Save less.")


def _grant(parts: Parts, shelf: Shelf, blob: CheckpointBlob) -> UploadGrant:
    key, expires_at = shelf.key(blob.sha256), parts.now() + UPLOAD_LIFE
    announced = Announced(size_bytes=blob.size_bytes, sha256=blob.sha256, md5=blob.md5)
    if parts.blobs.proven(key, announced):
        return UploadGrant(url=None, expires_at=expires_at)
    direct = parts.blobs.direct_put(key, announced, UPLOAD_LIFE)
    if direct is not None:
        return UploadGrant(
            url=direct.url,
            expires_at=expires_at,
            headers=direct.headers,
            resumable=direct.resumable,
            confirm=True,
        )
    terms = PutTerms(size_bytes=blob.size_bytes, sha256=blob.sha256)
    url = put_url(parts.base_url, parts.server_key, key, terms, expires_at)
    return UploadGrant(url=url, expires_at=expires_at)


def _keep(
    parts: Parts, store: CheckpointStore, row: InstanceRow, told: Checkpoint
) -> CheckpointKept:
    _run(parts, row)
    fault = checkpoints.fault(told, parts.settings.checkpoint_limit_bytes)
    if fault is not None:
        raise HttpRefusal(422, fault)
    shelf = _shelf(parts, row)
    missing = shelf.missing(told)
    if missing is not None:
        raise HttpRefusal(409, "files: should all be stored first. Bring what is missing.")
    number = store.keep(row.name, _kept(row, told, shelf.put_manifest(told)))
    if number is None:
        raise HttpRefusal(410, "attempt: is over. Stop everything.")
    shelf.tidy(kept.manifest_sha256 for kept in store.of(row.run_id, shelf.rank))
    return CheckpointKept(number=number)


def _kept(row: InstanceRow, told: Checkpoint, manifest_sha256: str) -> KeptCheckpoint:
    return KeptCheckpoint(
        run_id=row.run_id,
        rank=row.rank or 0,
        number=0,  # the store counts
        repository_id=row.repository_id,
        attempt=row.attempt,
        manifest_sha256=manifest_sha256,
        size_bytes=sum(file.size_bytes for file in told.files),
        files=len(told.files),
        saved_at=told.saved_at,
        step=told.step,
        progress=told.progress,
    )


# ── going on ────────────────────────────────────────────────────────────────────────────────────


def _found(
    parts: Parts, store: CheckpointStore, run: Run, row: InstanceRow
) -> Iterator[KeptCheckpoint]:
    """Yield what this attempt may go on from, the best first: its run's own, then the repeated."""
    rank = row.rank or 0
    yield from (kept for kept in store.of(run.id, rank) if kept.attempt < row.attempt)
    source: Run | None = run
    for _ in range(checkpoints.LINEAGE):
        before = checkpoints.repeated(source) if source else None
        source = parts.runs.get(before) if before else None
        if source is None or not checkpoints.may_continue(run, source):
            return
        yield from store.of(source.id, rank)


@dataclass(frozen=True, kw_only=True)
class _Opened:
    kept: KeptCheckpoint
    shelf: Shelf
    files: tuple[CheckpointFile, ...]


def _view(
    parts: Parts, store: CheckpointStore, row: InstanceRow, ask: CheckpointAsk
) -> CheckpointView | None:
    run = _run(parts, row)
    if ask.place < 0 or ask.first < 0:
        raise HttpRefusal(422, "place: should not be negative. Begin with 0.")
    kept = next(islice(_found(parts, store, run, row), ask.place, None), None)
    if kept is None:
        return None
    opened = _opened(parts, row, kept)
    # The steps of its own run were told by the attempts before, those of another by all of them.
    earlier = row.attempt if kept.run_id == run.id else None
    told = store.last_step(kept.run_id, before_attempt=earlier)
    last = ask.first + FILES_AT_ONCE
    return CheckpointView(
        run_id=kept.run_id,
        attempt=kept.attempt,
        number=kept.number,
        saved_at=kept.saved_at,
        size_bytes=kept.size_bytes,
        files=kept.files,
        page=tuple(_place(parts, opened.shelf, f) for f in opened.files[ask.first : last]),
        step=kept.step,
        progress=kept.progress,
        lost_steps=checkpoints.lost_steps(told, kept.step),
    )


def _opened(parts: Parts, row: InstanceRow, kept: KeptCheckpoint) -> _Opened:
    shelf = replace(_shelf(parts, row), run_id=kept.run_id)  # the repository stays the asker's
    manifest = shelf.manifest(kept.manifest_sha256)
    # Without its list it has files, and tells none of them: the agent takes it for damaged.
    return _Opened(kept=kept, shelf=shelf, files=manifest.files if manifest else ())


def _place(parts: Parts, shelf: Shelf, file: CheckpointFile) -> CheckpointPlace:
    if file.link is not None:
        return CheckpointPlace(file=file, url="")
    key, terms = shelf.key(file.sha256), GetTerms(file_name="checkpoint")
    until = parts.now() + DOWNLOAD_LIFE
    url = get_url(parts.base_url, parts.server_key, key, terms, until)
    return CheckpointPlace(file=file, url=url)
