"""Make or read the signed addresses under which one blob may be put or fetched."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote, urlencode

from webhook_server.auth.tokens import blob_signature, same

_LONGEST_QUERY = 4096  # a name of 255 bytes, percent-encoded, beside digest and signature


@dataclass(frozen=True, kw_only=True)
class PutTerms:
    """The one body that a signed PUT accepts.

    Without a digest it takes any of that size, in the place of exactly what lay there when it was
    signed: whoever finds the address later cannot change what was proven meanwhile.
    """

    size_bytes: int
    sha256: str  # empty: told after the bytes
    over: int | None = None  # the generation that it may replace, 0: none; always without a digest


@dataclass(frozen=True, kw_only=True)
class GetTerms:
    """How a signed GET hands the blob out."""

    file_name: str


def put_url(
    base_url: str, server_key: bytes, key: str, terms: PutTerms, expires_at: datetime
) -> str:
    """Return the address to which exactly these bytes may be put until `expires_at`."""
    over = {} if terms.over is None else {"over": str(terms.over)}
    query = _spell(expires_at, size=str(terms.size_bytes), sha256=terms.sha256, **over)
    return _url(base_url, server_key, "PUT", key, query)


def get_url(
    base_url: str, server_key: bytes, key: str, terms: GetTerms, expires_at: datetime
) -> str:
    """Return the address from which the blob may be fetched until `expires_at`."""
    query = _spell(expires_at, name=terms.file_name)
    return _url(base_url, server_key, "GET", key, query)


def _spell(expires_at: datetime, **members: str) -> str:
    pairs = {"expires": str(int(expires_at.timestamp())), **members}
    return urlencode(pairs, quote_via=quote, errors="replace")


def _url(base_url: str, server_key: bytes, method: str, key: str, query: str) -> str:
    signature = blob_signature(server_key, method, key, query)
    return f"{base_url}/blobs/{key}?{query}&signature={signature}"


def read_put(server_key: bytes, key: str, query: str, now: datetime) -> PutTerms | None:
    """Return what a signed PUT may bring, or None when the address is not good now."""
    members = _members(server_key, "PUT", key, query, now)
    if members is None or "size" not in members or "sha256" not in members:
        return None
    over = int(members["over"]) if "over" in members else None
    return PutTerms(size_bytes=int(members["size"]), sha256=members["sha256"], over=over)


def read_get(server_key: bytes, key: str, query: str, now: datetime) -> GetTerms | None:
    """Return how a signed GET is answered, or None when the address is not good now."""
    members = _members(server_key, "GET", key, query, now)
    if members is None or "name" not in members:
        return None
    return GetTerms(file_name=members["name"])


def _members(
    server_key: bytes, method: str, key: str, query: str, now: datetime
) -> dict[str, str] | None:
    terms, _, signature = query.rpartition("&signature=")
    if len(query) > _LONGEST_QUERY or not terms:
        return None
    # The exact text is signed, so nothing is read before it is known to be ours.
    if not same(signature, blob_signature(server_key, method, key, terms)):
        return None
    members = dict(parse_qsl(terms, keep_blank_values=True))
    expires_at = datetime.fromtimestamp(int(members["expires"]), UTC)
    return None if expires_at <= now else members
