"""Make or read the tokens that the server hands out; all are derived from its one secret key.

Derived tokens need no storage: a repeated request gets the same answer after any crash.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime

KEY_BYTES = 32  # the block of SHA-256's output: more adds nothing, less weakens it


def enrol_secret(server_key: bytes, instance: str) -> str:
    """Return the one-time secret with which the agent of `instance` enrols."""
    return "cye_" + _mac(server_key, "enrol", instance)


def agent_token(server_key: bytes, instance: str, nonce: str) -> str:
    """Return the bearer token of the one agent that enrolled with `nonce`."""
    return "cya_" + _mac(server_key, "agent", instance, nonce)


def run_token(server_key: bytes, run_id: str, expires_at: datetime) -> str:
    """Return a token that reads and cancels this run only, until `expires_at`."""
    expires = str(int(expires_at.timestamp()))
    return f"cyr_{run_id}.{expires}.{_mac(server_key, 'run', run_id, expires)}"


def read_run_token(server_key: bytes, token: str, now: datetime) -> str | None:
    """Return the run id that the token speaks for, or None for a token that is not good now."""
    run_id, _, rest = token.removeprefix("cyr_").partition(".")
    expires, _, mac = rest.partition(".")
    if not same(mac, _mac(server_key, "run", run_id, expires)):
        return None
    # What follows was signed by us: it is a number.
    expired = datetime.fromtimestamp(int(expires), UTC) <= now
    return None if expired else run_id


def blob_signature(server_key: bytes, method: str, key: str, terms: str) -> str:
    """Sign one use of one blob; `terms` spells out size, digest, file name and expiry."""
    return _mac(server_key, "blob", method, key, terms)


def form_token(server_key: bytes, session: str) -> str:
    """Return what a form on our own pages must carry: other sites cannot read it."""
    return _mac(server_key, "form", session)


def same(left: str, right: str) -> bool:
    """Compare in constant time; any text is welcome, also what is not ASCII."""
    return hmac.compare_digest(
        left.encode("utf-8", "surrogatepass"), right.encode("utf-8", "surrogatepass")
    )


def sha256_hex(text: str) -> str:
    """Return the digest under which a token is stored."""
    return hashlib.sha256(text.encode()).hexdigest()


def _mac(key: bytes, *parts: str) -> str:
    # NUL cannot occur in any part, so that two lists of parts never spell the same message.
    digest = hmac.new(key, "\0".join(parts).encode("utf-8", "surrogatepass"), "sha256").digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
