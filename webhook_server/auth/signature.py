"""Verify that GitHub signed a delivery: HMAC-SHA256 over the raw body."""

from __future__ import annotations

import hmac
import re

from cynthus.errors import UserError

SECRET_BYTES = 24  # design §9: shorter ones can be guessed
_SECRETS = 2  # the new one and, while it is being rotated, the old one
# https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries
_HEADER = re.compile(rb"sha256=([0-9a-f]{64})")


def secrets_of(setting: str) -> tuple[bytes, ...]:
    """Read `CYNTHUS_WEBHOOK_SECRET`: one secret, or two with a comma while it is being rotated.

    Raises: UserError for none, for a short one, or for more than two. Never echoes a secret.
    """
    found = tuple(part.strip().encode() for part in setting.split(",") if part.strip())
    if not 1 <= len(found) <= _SECRETS:
        raise UserError(
            f"CYNTHUS_WEBHOOK_SECRET: should be one secret, or two with a comma between them, "
            f"found {len(found)}. Make one with `openssl rand -hex 32`."
        )
    shortest = min(len(secret) for secret in found)
    if shortest < SECRET_BYTES:
        raise UserError(
            f"CYNTHUS_WEBHOOK_SECRET: should be at least {SECRET_BYTES} bytes long, found "
            f"{shortest}. Make one with `openssl rand -hex 32`."
        )
    return found


def well_formed(header: bytes) -> bool:
    """Say whether a header value can be a signature at all, before a body is read for it."""
    return _HEADER.fullmatch(header) is not None


def verified(secrets: tuple[bytes, ...], body: bytes, header: bytes) -> bool:
    """Say whether one of the secrets signed exactly these bytes; in constant time."""
    found = _HEADER.fullmatch(header)
    if found is None:
        return False
    claimed = found[1]
    # No early end: neither the time nor the answer tells which of the secrets is in use.
    matches = [hmac.compare_digest(_hex(secret, body), claimed) for secret in secrets]
    return any(matches)


def _hex(secret: bytes, body: bytes) -> bytes:
    return hmac.digest(secret, body, "sha256").hex().encode()
