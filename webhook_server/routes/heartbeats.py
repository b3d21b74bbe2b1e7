"""Take the agents' heartbeats: plain ASGI, one grouped commit, answered once it is durable."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from cynthus.codec import encode
from cynthus.errors import Transient
from cynthus.wire import Heartbeat, HeartbeatAnswer
from webhook_server.auth.tokens import sha256_hex
from webhook_server.routes.answers import (
    Door,
    HttpRefusal,
    Receive,
    Scope,
    Send,
    answer_json,
    bearer,
    check_length,
    is_whole,
    read_body,
    read_words,
)
from webhook_server.routes.landing import Landing
from webhook_server.routes.masking import Masking
from webhook_server.routes.parts import Parts
from webhook_server.stores.heartbeats import BeatResult
from webhook_server.stores.instance_store import InstanceStore
from webhook_server.stores.secret_protocol import SecretUnreadable

# 256 KiB of log (cynthus.wire) may grow sixfold as JSON escapes; the rest is metrics and samples.
BODY_LIMIT_BYTES = 4 << 20
_GUESTS = 20_000  # twice what one server carries; the rest is looked up again


def heartbeat_door(parts: Parts, masking: Masking) -> Door:
    """Return the door POST /agent/v1/heartbeat."""
    landing, guests = Landing(), _Guests(parts.instances)

    async def door(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            raise HttpRefusal(405, "method: should be POST. Send the heartbeat with POST.")
        digest = agent_digest(scope)
        check_length(scope, BODY_LIMIT_BYTES)
        await guests.check(digest)
        body = await read_body(receive, BODY_LIMIT_BYTES, whole=is_whole(scope))
        beat = await _clean(masking, digest, read_words(Heartbeat, body))
        result = await _store(parts, landing, digest, beat)
        if result.unknown:
            raise _unknown()
        if result.closed:
            guests.forget(digest)
            masking.forget(digest)
            raise HttpRefusal(410, "attempt: is over. Stop everything.")
        _ring(parts, result)
        told = HeartbeatAnswer(
            accepted_seq=result.accepted_seq,
            stop=result.stop,
            rendezvous=result.rendezvous,
            deadline_s=result.deadline_s,
        )
        await answer_json(send, 200, encode(told))

    return door


class _Guests:
    """Knows whose messages are worth reading: an unknown agent's body is not.

    A hint that saves a look at the database for each beat: a token is never another's, and whether
    its attempt is over is decided with the beat itself, in its transaction.
    """

    def __init__(self, instances: InstanceStore) -> None:
        self._instances = instances
        self._known: OrderedDict[str, None] = OrderedDict()  # oldest first

    async def check(self, digest: str) -> None:
        """Refuse a token that nobody has. Raises: HttpRefusal (401; 503 without a database)."""
        if digest in self._known:
            self._known.move_to_end(digest)
            return
        try:
            found = await asyncio.to_thread(self._instances.by_token, digest)
        except Transient as error:
            raise HttpRefusal(503, str(error), retry_after_s=1) from error
        if found is None:
            raise _unknown()
        self._known[digest] = None
        if len(self._known) > _GUESTS:
            self._known.popitem(last=False)

    def forget(self, digest: str) -> None:
        """Let go of an agent whose attempt is over."""
        self._known.pop(digest, None)


def _unknown() -> HttpRefusal:
    return HttpRefusal(401, "token: is not one that this server gave out. Enrol again.")


def agent_digest(scope: Scope) -> str:
    """Return the digest of the agent's token. Raises: HttpRefusal."""
    token = bearer(scope)
    if not token.startswith("cya_"):
        raise HttpRefusal(401, "token: should be the one that enrolment answered. Enrol first.")
    return sha256_hex(token)


async def _clean(masking: Masking, digest: str, beat: Heartbeat) -> Heartbeat:
    if not beat.events and beat.exit is None and beat.outputs is None:
        return beat
    try:
        if masking.knows(digest):
            return masking.clean(digest, beat)
        return await asyncio.to_thread(masking.clean, digest, beat)
    except (SecretUnreadable, Transient) as error:
        raise HttpRefusal(503, str(error), retry_after_s=30) from error


async def _store(parts: Parts, landing: Landing, digest: str, beat: Heartbeat) -> BeatResult:
    try:
        future = parts.instances.heartbeat_async(
            digest, beat, log_limit_bytes=parts.settings.log_limit_bytes, now=parts.now()
        )
        return await landing.wait_for(future)
    except Transient as error:
        raise HttpRefusal(503, str(error), retry_after_s=1) from error


def _ring(parts: Parts, result: BeatResult) -> None:
    parts.counters.count("heartbeats_total")
    if result.news:
        parts.bell.ring("runs")
    if result.news or result.fed:
        parts.bell.ring(f"events/{result.run_id}")
