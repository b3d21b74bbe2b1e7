"""Let agents enrol, ask for upload addresses, or fetch their own program."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from fastapi import APIRouter, Depends, Request, Response

from cynthus.codec import decode, encode
from cynthus.errors import UserError
from cynthus.wire import Enrolled, Enrolment, EventKind, UploadAsk, UploadGrant, Work
from webhook_server.auth.blob_urls import PutTerms, put_url
from webhook_server.auth.tokens import agent_token, enrol_secret, same, sha256_hex
from webhook_server.routes.answers import HttpRefusal, parse_json
from webhook_server.routes.bodies import json_answer, limited_body
from webhook_server.routes.heartbeats import agent_digest
from webhook_server.routes.masking import Masking
from webhook_server.routes.parts import Parts
from webhook_server.runs.policy import policy_of
from webhook_server.runs.work import Limits, find_member, path_fault, rank_path, work_for
from webhook_server.stores.blob_store import blob_key
from webhook_server.stores.instance_store import Enrolling, InstanceRow
from webhook_server.stores.secret_store import values

BODY_LIMIT_BYTES = 64 * 1024  # an enrolment with 64 GPUs has 10 kB
UPLOAD_LIFE = timedelta(minutes=15)  # to begin: a transfer that has begun may take longer

BuildAgent = Callable[[Path], None]
T = TypeVar("T")


def agent_router(parts: Parts, masking: Masking, pyz: AgentProgram) -> APIRouter:
    """Return the agents' doors, heartbeats aside."""
    router = APIRouter(tags=["agents"])
    body = Depends(limited_body(BODY_LIMIT_BYTES))

    @router.post("/agent/v1/enrol")
    def enrol(content: bytes = body) -> Response:
        return json_answer(200, encode(_enrol(parts, _read(Enrolment, content))))

    @router.post("/agent/v1/uploads")
    def uploads(request: Request, content: bytes = body) -> Response:
        digest = agent_digest(request.scope)
        row = _open_attempt(parts, digest)
        ask = _read(UploadAsk, content)
        _check_ask(parts, row, ask, shows_secret=masking.shows_secret(digest, ask.path))
        return json_answer(200, encode(_grant(parts, row, ask)))

    @router.get("/agent.pyz")
    async def program() -> Response:
        content = await asyncio.to_thread(pyz.content)
        if content is None:
            raise HttpRefusal(404, "agent.pyz: is not part of this installation.")
        return Response(content, media_type="application/zip")

    return router


def _read(kind: type[T], content: bytes) -> T:
    try:
        return decode(kind, parse_json(content))
    except UserError as error:
        raise HttpRefusal(422, str(error)) from error


def _enrol(parts: Parts, enrolment: Enrolment) -> Enrolled:
    wanted = enrol_secret(parts.server_key, enrolment.instance)
    if not same(enrolment.secret, wanted) or not enrolment.instance.isascii():
        raise HttpRefusal(401, "secret: should be this instance's own. Start a new instance.")
    _check_nonce(enrolment.nonce)
    token = agent_token(parts.server_key, enrolment.instance, enrolment.nonce)
    answer = parts.instances.enrol(
        enrolment.instance,
        nonce=enrolment.nonce,
        token_sha256=sha256_hex(token),
        facts=enrolment.facts,
        now=parts.now(),
    )
    _check_enrolling(answer)
    parts.bell.ring("runs")
    work, provider = _work(parts, enrolment.instance, tell=answer is Enrolling.OK)
    beat_s = policy_of(provider).heartbeat.total_seconds()
    return Enrolled(token=token, work=work, heartbeat_s=beat_s)


def _check_nonce(nonce: str) -> None:
    if len(nonce) != 32 or not all(c in "0123456789abcdef" for c in nonce):  # noqa: PLR2004 - wire: 32 hex digits
        raise HttpRefusal(422, "nonce: should be 32 hex digits. Make it at random.")


def _check_enrolling(answer: Enrolling) -> None:
    if answer is Enrolling.TAKEN:
        raise HttpRefusal(409, "instance: another agent has enrolled. Stop this one.")
    if answer in {Enrolling.CLOSED, Enrolling.UNKNOWN}:
        raise HttpRefusal(410, "attempt: is over. Stop everything.")


def _work(parts: Parts, instance: str, *, tell: bool) -> tuple[Work, str]:
    """Return the work, with the provider that lends the instance."""
    row = parts.instances.observe(instance)
    run = parts.runs.get(row.run_id)
    place = find_member(run, instance) if run else None
    if run is None or run.spec is None or place is None:
        raise HttpRefusal(410, "attempt: is over. Stop everything.")
    found, missing = values(parts.secrets, row.repository_id, run.spec.secrets)
    if missing and tell:
        text = f"secrets: {', '.join(missing)} not set for this repository; the run goes without."
        parts.events.append(run.id, row.attempt, EventKind.NOTICE, {"text": text}, parts.now())
    settings = parts.settings
    limits = Limits(
        max_duration=settings.max_duration,
        log_bytes=settings.log_limit_bytes,
        output_bytes=settings.output_limit_bytes,
        output_files=settings.output_limit_files,
    )
    attempt, rank = place
    return work_for(run, attempt, rank, found, limits, parts.now()), attempt.offer.provider


def _open_attempt(parts: Parts, digest: str) -> InstanceRow:
    row = parts.instances.by_token(digest)
    if row is None:
        raise HttpRefusal(401, "token: is not one that this server gave out. Enrol again.")
    if row.closed_at is not None:
        raise HttpRefusal(410, "attempt: is over. Stop everything.")
    return row


def _check_ask(parts: Parts, row: InstanceRow, ask: UploadAsk, *, shows_secret: bool) -> None:
    fault = path_fault(ask.path)
    if fault is not None:
        raise HttpRefusal(422, fault)
    if shows_secret:
        raise HttpRefusal(422, "path: shows a secret. Rename the file.")
    if len(ask.sha256) != 64 or not all(c in "0123456789abcdef" for c in ask.sha256):  # noqa: PLR2004 - SHA-256 in hex
        raise HttpRefusal(422, "sha256: should be 64 hex digits. Send the file's SHA-256.")
    if ask.size_bytes < 0:
        raise HttpRefusal(422, "size_bytes: should not be negative. Send the file's size.")
    _check_room(parts, row, ask)


def _check_room(parts: Parts, row: InstanceRow, ask: UploadAsk) -> None:
    key = _key(row, ask)
    files, used_bytes = parts.blobs.usage(key.rpartition("/")[0])
    held = parts.blobs.size(key)  # a file that replaces itself takes its own room
    others, others_bytes = (
        (files - 1, used_bytes - held) if held is not None else (files, used_bytes)
    )
    if others + 1 > parts.settings.output_limit_files:
        most = parts.settings.output_limit_files
        raise HttpRefusal(413, f"outputs: should be at most {most} files. Leave the others out.")
    if others_bytes + ask.size_bytes > parts.settings.output_limit_bytes:
        most = parts.settings.output_limit_bytes
        raise HttpRefusal(413, f"outputs: should have at most {most} bytes. Leave some out.")


def _key(row: InstanceRow, ask: UploadAsk) -> str:
    path = rank_path(row.rank, ask.path)
    return blob_key(row.repository_id, row.run_id, row.attempt, path)


def _grant(parts: Parts, row: InstanceRow, ask: UploadAsk) -> UploadGrant:
    key, expires_at = _key(row, ask), parts.now() + UPLOAD_LIFE
    if parts.blobs.has(key, ask.size_bytes, ask.sha256):
        return UploadGrant(url=None, expires_at=expires_at)
    terms = PutTerms(size_bytes=ask.size_bytes, sha256=ask.sha256)
    url = put_url(parts.base_url, parts.server_key, key, terms, expires_at)
    return UploadGrant(url=url, expires_at=expires_at)


class AgentProgram:
    """The agent as one file, built when it is first asked for."""

    def __init__(self, build: BuildAgent | None, folder: Path) -> None:
        self._build, self._folder = build, folder
        self._lock = threading.Lock()
        self._content: bytes | None = None

    def content(self) -> bytes | None:
        """Return the zipapp, or None where this installation has no agent."""
        with self._lock:
            if self._content is None and self._build is not None:
                target = self._folder / "agent.pyz"
                self._build(target)
                self._content = target.read_bytes()
            return self._content
