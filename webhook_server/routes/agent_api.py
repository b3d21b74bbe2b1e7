"""Let agents enrol, ask for upload addresses, or fetch their own program."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path

from fastapi import APIRouter, Depends, Request, Response

from cynthus.codec import encode
from cynthus.frozen import replace
from cynthus.packing import most_stored
from cynthus.wire import (
    Enrolled,
    Enrolment,
    EventKind,
    Facts,
    NextWork,
    UploadAsk,
    UploadGrant,
    Work,
)
from webhook_server.auth.blob_urls import PutTerms, put_url
from webhook_server.auth.tokens import agent_token, enrol_secret, same, sha256_hex
from webhook_server.routes.answers import HttpRefusal, read_words
from webhook_server.routes.bodies import json_answer, limited_body
from webhook_server.routes.checkpoint_api import checkpoint_router, may_restore
from webhook_server.routes.heartbeats import agent_digest
from webhook_server.routes.masking import Masking
from webhook_server.routes.parts import Parts
from webhook_server.runs import forks
from webhook_server.runs.checkpoints import checkpoint_work
from webhook_server.runs.model import Attempt
from webhook_server.runs.policy import policy_of
from webhook_server.runs.work import (
    Limits,
    find_member,
    path_fault,
    rank_fault,
    rank_path,
    work_for,
)
from webhook_server.stores.blob_protocol import Announced, blob_key
from webhook_server.stores.instance_store import Enrolling, InstanceRow
from webhook_server.stores.secret_protocol import SecretUnreadable

BODY_LIMIT_BYTES = 64 * 1024  # an enrolment with 64 GPUs has 10 kB
_NOTICES_READ = 100  # a run has a handful
UPLOAD_LIFE = timedelta(minutes=15)  # to begin: a transfer that has begun may take longer

BuildAgent = Callable[[Path], None]


def agent_router(parts: Parts, masking: Masking, pyz: AgentProgram) -> APIRouter:
    """Return the agents' doors, heartbeats aside."""
    router = APIRouter(tags=["agents"])
    body = Depends(limited_body(BODY_LIMIT_BYTES))

    @router.post("/agent/v1/enrol")
    def enrol(content: bytes = body) -> Response:
        return json_answer(200, encode(_enrol(parts, read_words(Enrolment, content))))

    def digest_of(request: Request) -> str:
        return agent_digest(request.scope)

    def open_attempt(request: Request) -> InstanceRow:
        return attempt_of(parts, agent_digest(request.scope))

    digest_first, attempt_first = Depends(digest_of), Depends(open_attempt)

    @router.post("/agent/v1/next")
    def next_work(digest: str = digest_first, content: bytes = body) -> Response:
        enrolled = _next(parts, digest, read_words(NextWork, content))
        return Response(status_code=204) if enrolled is None else json_answer(200, encode(enrolled))

    @router.post("/agent/v1/uploads")
    def uploads(
        digest: str = digest_first,
        row: InstanceRow = attempt_first,
        content: bytes = body,
    ) -> Response:
        ask = read_words(UploadAsk, content)
        _check_ask(row, ask, shows_secret=masking.shows_secret(digest, ask.path))
        return json_answer(200, encode(_grant(parts, row, ask)))

    router.include_router(checkpoint_router(parts, open_attempt))

    @router.get("/agent.pyz")
    async def program() -> Response:
        content = await asyncio.to_thread(pyz.content)
        if content is None:
            raise HttpRefusal(404, "agent.pyz: is not part of this installation.")
        return Response(content, media_type="application/zip")

    return router


def _enrol(parts: Parts, enrolment: Enrolment) -> Enrolled:
    _check_proof(parts, enrolment)
    _check_nonce(enrolment.nonce)
    return _enrolled(parts, enrolment.instance, enrolment.nonce, enrolment.facts)


def _enrolled(parts: Parts, instance: str, nonce: str, facts: Facts) -> Enrolled:
    """Bind the attempt's instance to this agent; the same agent gets the same answer again."""
    token = agent_token(parts.server_key, instance, nonce)
    answer = parts.instances.enrol(
        instance, nonce=nonce, token_sha256=sha256_hex(token), facts=facts, now=parts.now()
    )
    _check_enrolling(answer)
    parts.bell.ring("runs")
    work, provider = _work(parts, instance, tell=answer is Enrolling.OK)
    beat_s = policy_of(provider).heartbeat.total_seconds()
    return Enrolled(token=token, work=work, heartbeat_s=beat_s)


def _next(parts: Parts, digest: str, ask: NextWork) -> Enrolled | None:
    """Give an agent whose attempt is done the next one; None: there is none yet.

    Its old token says which instance it is; the attempt that took that instance over is the only
    one it can get, under a token of its own.
    """
    _check_nonce(ask.nonce)
    row = parts.instances.by_token(digest)
    if row is None:
        raise HttpRefusal(401, "token: is not one that this server gave out. Enrol again.")
    kept = parts.warm.of(row.name)
    if kept is None and row.closed_at is None:
        return None  # its end has not been looked at
    if kept is None or kept.machine != ask.instance or row.facts is None:
        raise HttpRefusal(410, "instance: is not kept. Stop everything.")
    if kept.taken_by is not None:
        facts = replace(row.facts, marks=())  # it booted for the attempt before
        return _enrolled(parts, kept.taken_by, ask.nonce, facts)
    if kept.ended_at is not None:
        raise HttpRefusal(410, "instance: has waited long enough. Stop everything.")
    parts.warm.hear(row.name, parts.now())
    return None


def _check_proof(parts: Parts, enrolment: Enrolment) -> None:
    """Check who asks: an instance of a cloud with identities by its token, any other by its secret.

    Each has one way and never the other: whoever may write the one must not guess the other.
    """
    gate, token = parts.machines, enrolment.identity_token
    if token is not None:
        if enrolment.secret:
            raise HttpRefusal(
                401, "enrolment: should bring a secret or an identity token, not both."
            )
        attempt = _identified_attempt(parts, enrolment.instance)
        if not gate or not attempt or attempt.offer.provider != gate.provider_name:
            raise HttpRefusal(401, "identity token: is not how this instance enrols.")
        gate.identify(
            token,
            instance=enrolment.instance,
            place=attempt.offer.place,
            ordered_at=attempt.ordered_at,
        )
        return
    wanted = enrol_secret(parts.server_key, enrolment.instance)
    if not same(enrolment.secret, wanted) or not enrolment.instance.isascii():
        raise HttpRefusal(401, "secret: should be this instance's own. Start a new instance.")
    attempt = _identified_attempt(parts, enrolment.instance) if gate else None
    if gate and attempt and attempt.offer.provider == gate.provider_name:
        raise HttpRefusal(401, "secret: is not how this instance enrols. Send its identity token.")


def _identified_attempt(parts: Parts, instance: str) -> Attempt | None:
    """Return the attempt that the instance was ordered for; None: it was never ordered."""
    try:
        row = parts.instances.observe(instance)
    except KeyError:
        return None
    run = parts.runs.get(row.run_id)
    found = find_member(run, instance) if run else None
    return found[0] if found else None


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
    found, missing = _secrets(parts, row, forks.secret_names(run))
    if missing and tell:
        text = f"secrets: {', '.join(missing)} not set for this repository; the run goes without."
        _notice(parts, row, text)
    # What a repository lacks of them is no fault: most data is open to all.
    for_hubs, _ = _secrets(parts, row, forks.hub_secret_names(run))
    settings = parts.settings
    limits = Limits(
        max_duration=settings.max_duration,
        log_bytes=settings.log_limit_bytes,
        output_bytes=settings.output_limit_bytes,
        output_files=settings.output_limit_files,
        hubs=settings.hubs,
    )
    attempt, rank = place
    work = work_for(run, attempt, rank, found, limits, parts.now(), hub_secrets=for_hubs)
    if run.spec.checkpoint is not None:
        restore = may_restore(parts, run, row)
        folder = checkpoint_work(run, settings.checkpoint_limit_bytes, restore=restore)
        work = replace(work, checkpoint=folder)
    return work, attempt.offer.provider


def _secrets(
    parts: Parts, row: InstanceRow, names: Iterable[str]
) -> tuple[dict[str, str], tuple[str, ...]]:
    try:
        return parts.run_secrets.values(row.run_id, row.repository_id, names)
    except SecretUnreadable as error:
        # The agent asks again until the boot limit: an operator may have put it right by then.
        _notice(parts, row, str(error))
        raise HttpRefusal(503, str(error), retry_after_s=5) from error


def _notice(parts: Parts, row: InstanceRow, text: str) -> None:
    """Tell the run's people, once."""
    kinds = (EventKind.NOTICE,)
    told = parts.events.after(row.run_id, 0, limit=_NOTICES_READ, kinds=kinds)
    if not any(event.body.get("text") == text for event in told):
        parts.events.append(row.run_id, row.attempt, EventKind.NOTICE, {"text": text}, parts.now())


def attempt_of(parts: Parts, digest: str) -> InstanceRow:
    """Return the open attempt's instance that a token belongs to. Raises: HttpRefusal."""
    row = parts.instances.by_token(digest)
    if row is None:
        raise HttpRefusal(401, "token: is not one that this server gave out. Enrol again.")
    if row.closed_at is not None:
        raise HttpRefusal(410, "attempt: is over. Stop everything.")
    return row


def _check_ask(row: InstanceRow, ask: UploadAsk, *, shows_secret: bool) -> None:
    fault = path_fault(ask.path) or rank_fault(row.rank, ask.path)
    if fault is not None:
        raise HttpRefusal(422, fault)
    if shows_secret:
        raise HttpRefusal(422, "path: shows a secret. Rename the file.")
    if ask.sha256 and not _is_hex(ask.sha256, 64):
        raise HttpRefusal(422, "sha256: should be 64 hex digits. Send the file's SHA-256.")
    if ask.size_bytes < 0:
        raise HttpRefusal(422, "size_bytes: should not be negative. Send the file's size.")
    if ask.md5 is not None and not _is_hex(ask.md5, 32):
        raise HttpRefusal(422, "md5: should be 32 hex digits. Send the file's MD5.")


def _is_hex(text: str, digits: int) -> bool:
    return len(text) == digits and all(c in "0123456789abcdef" for c in text)


def _check_room(parts: Parts, row: InstanceRow, ask: UploadAsk) -> None:
    key = _key(row, ask)
    files, used_bytes = parts.blobs.usage(key.rpartition("/")[0])
    held = parts.blobs.size(key)  # a file that replaces itself takes its own room
    others, others_bytes = (
        (files - 1, used_bytes - held) if held is not None else (files, used_bytes)
    )
    most = most_stored(parts.settings.output_limit_files, parts.settings.output_limit_bytes)
    if others + 1 > most:
        raise HttpRefusal(413, f"outputs: should be at most {most} files. Leave the others out.")
    if others_bytes + ask.size_bytes > parts.settings.output_limit_bytes:
        most = parts.settings.output_limit_bytes
        raise HttpRefusal(413, f"outputs: should have at most {most} bytes. Leave some out.")


def _key(row: InstanceRow, ask: UploadAsk) -> str:
    path = rank_path(row.rank or 0, ask.path)
    return blob_key(row.repository_id, row.run_id, row.attempt, path)


def _grant(parts: Parts, row: InstanceRow, ask: UploadAsk) -> UploadGrant:
    key, expires_at = _key(row, ask), parts.now() + UPLOAD_LIFE
    blob = Announced(size_bytes=ask.size_bytes, sha256=ask.sha256, md5=ask.md5)
    if parts.blobs.has(key, blob):
        return UploadGrant(url=None, expires_at=expires_at)
    _check_room(parts, row, ask)
    direct = parts.blobs.direct_put(key, blob, UPLOAD_LIFE)
    if direct is not None:
        return UploadGrant(
            url=direct.url,
            expires_at=expires_at,
            headers=direct.headers,
            resumable=direct.resumable,
            confirm=True,
        )
    over = None if ask.sha256 else parts.blobs.generation(key)
    terms = PutTerms(size_bytes=ask.size_bytes, sha256=ask.sha256, over=over)
    url = put_url(parts.base_url, parts.server_key, key, terms, expires_at)
    return UploadGrant(url=url, expires_at=expires_at, confirm=not ask.sha256)


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
