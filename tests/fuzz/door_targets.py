"""Fuzz targets for what arrives at the server: deliveries, agents' messages, tokens."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import typing
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from cynthus import wire, wire_image, wire_money
from cynthus.codec import decode, encode
from cynthus.errors import Transient, UserError
from webhook_server import delivery_reader
from webhook_server.auth.jwks import IssuerKeys, key_ids
from webhook_server.auth.oidc import Caller, Forbidden, OidcVerifier
from webhook_server.auth.signed_tokens import Unauthorised
from webhook_server.routes.answers import HttpRefusal, parse_json
from webhook_server.routes.github_events import GithubEvents

# ── deliveries ──────────────────────────────────────────────────────────────────────────────────

EVENTS = tuple(delivery_reader._READERS)
_MAX_ID = 2**63 - 1


def intent(data: bytes) -> None:
    """Whatever a payload holds, each event has an intent, and all of it fits into the database."""
    try:
        payload = parse_json(data)
    except HttpRefusal:
        return
    for event in (*EVENTS, "star"):
        found = delivery_reader.intent_of(event, payload)
        assert found == delivery_reader.intent_of(event, json.loads(json.dumps(payload)))
        _check_fits(encode(found))


def _check_fits(value: Any) -> None:
    """Check what PostgreSQL takes: no id beyond BIGINT, no NUL or half a character in a name."""
    if isinstance(value, dict):
        for name, item in value.items():
            if name not in {"body", "changed", "reason"}:  # read further, and kept by the inbox
                _check_fits(item)
    elif isinstance(value, list):
        for item in value:
            _check_fits(item)
    elif isinstance(value, str):
        assert "\x00" not in value
        value.encode("utf-8")
    elif isinstance(value, int):
        assert -1 <= value <= _MAX_ID


SECRET = b"a secret of at least 24 bytes"


@dataclass
class _Inbox:
    kept: list[tuple[str, str, bytes]] = field(default_factory=list)

    def store(self, guid: str, event: str, body: bytes) -> Future[bool]:
        self.kept.append((guid, event, body))
        done: Future[bool] = Future()
        done.set_result(True)
        return done


def delivery(data: bytes) -> None:
    """A request is stored exactly when its body is signed, and answered once, never by a 5xx.

    Header lines, an empty line, a body whose pieces end at `|`; `SIGN` stands for a signature.
    """
    head, _, tail = data.partition(b"\n\n")
    pieces = tail.split(b"|")
    body = b"".join(pieces)
    good = b"sha256=" + hmac.new(SECRET, body, hashlib.sha256).hexdigest().encode()
    lines = (line.partition(b":") for line in head.split(b"\n"))
    headers = [(name.strip(), value.strip().replace(b"SIGN", good)) for name, _, value in lines]
    inbox = _Inbox()
    door = GithubEvents(secrets=(SECRET,), store=inbox.store, ring=lambda: None)
    status = asyncio.run(_sent(door, headers, pieces))
    signed = [value for name, value in headers if name.lower() == b"x-hub-signature-256"]
    assert status in {202, 400, 401, 413, 415}
    assert door._held_bytes == 0
    assert len(inbox.kept) <= 1
    if inbox.kept:
        assert status == 202
        assert signed == [good]
        assert inbox.kept[0][2] == body
        assert inbox.kept[0][0].isascii()
    if signed != [good]:
        assert status >= 400


async def _sent(door: GithubEvents, headers: list[tuple[bytes, bytes]], pieces: list[bytes]) -> int:
    waiting = [
        {"type": "http.request", "body": piece, "more_body": n < len(pieces)}
        for n, piece in enumerate(pieces, 1)
    ]
    answers: list[Any] = []

    async def receive() -> Any:
        return waiting.pop(0)

    async def send(message: Any) -> None:
        answers.append(message)

    await door({"type": "http", "method": "POST", "headers": headers}, receive, send)
    assert [answer["type"] for answer in answers] == ["http.response.start", "http.response.body"]
    json.loads(answers[1]["body"])
    return int(answers[0]["status"])


# ── messages ────────────────────────────────────────────────────────────────────────────────────

MESSAGES: tuple[type, ...] = (
    *(wire.RunRequest, wire.RunView, wire.RunEvent, wire.Enrolment, wire.Enrolled, wire.Heartbeat),
    *(wire.HeartbeatAnswer, wire.NextWork, wire.UploadAsk, wire.UploadGrant, wire.Facts),
    *(wire_image.Environment, wire_image.BuildLeaseAsk, wire_image.ImagesInUse),
    *(wire_money.PlanAsk, wire_money.PlanView, wire_money.SweepAsk, wire_money.AuditView),
)


def message(data: bytes) -> None:
    """A JSON value is a message that survives being written and read again, or a UserError."""
    try:
        value = parse_json(data)
    except HttpRefusal:
        return
    for kind in MESSAGES:
        try:
            found = decode(kind, value)
        except UserError:
            continue
        text = json.dumps(encode(found))
        assert decode(typing.cast("type[Any]", kind), json.loads(text)) == found


# ── tokens ──────────────────────────────────────────────────────────────────────────────────────

ISSUER = "https://token.actions.githubusercontent.com"
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@cache
def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@cache
def _keys() -> bytes:
    public = RSAAlgorithm.to_jwk(_key().public_key(), as_dict=True)
    return json.dumps({"keys": [{**public, "kid": "k1", "use": "sig", "alg": "RS256"}]}).encode()


def token(data: bytes) -> None:
    """Only what our key signed as RS256 is believed, and then all that is known comes from it.

    One line is a token as it is; two lines are a header and claims that the issuer's key signs.
    """
    head, line, tail = data.partition(b"\n")
    verifier = OidcVerifier(
        issuer=ISSUER, audience="cynthus", fetch=lambda _: _keys(), now=lambda: NOON
    )
    if not line:
        assert _caller(verifier, head.decode("latin-1")) is None
        return
    covered = _base64(head) + b"." + _base64(tail)
    algorithm = jwt.get_algorithm_by_name("RS256")
    signature = algorithm.sign(covered, _key())
    found = _caller(verifier, (covered + b"." + _base64(signature)).decode())
    assert _caller(verifier, (covered + b"." + _base64(signature[::-1])).decode()) is None
    if found is not None:
        header, claims = json.loads(head), json.loads(tail)
        assert (header["alg"], header["kid"]) == ("RS256", "k1")
        assert (claims["iss"], claims["aud"]) == (ISSUER, "cynthus")
        assert claims["repository_id"] == str(found.repository_id)
        assert claims["sha"] == found.sha


def _caller(verifier: OidcVerifier, text: str) -> Caller | None:
    try:
        return verifier.caller(text)
    except (Unauthorised, Forbidden):
        return None


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def key_set(data: bytes) -> None:
    """Whatever an issuer answers, it has usable keys or none, and a known key goes on."""
    with suppress(ValueError, RecursionError):
        assert all(isinstance(name, str) for name in key_ids(data))
    with suppress(Transient):
        IssuerKeys("https://issuer", fetch=lambda _: data, now=lambda: NOON).find("k1")
