"""Checks V4 signatures of URLs as Cloud Storage does. Pure.

https://cloud.google.com/storage/docs/authentication/canonical-requests and
https://cloud.google.com/storage/docs/authentication/signatures
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, unquote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from simulators.gcp_storage_refusals import StorageError, Xml

ALGORITHM = "GOOG4-RSA-SHA256"
LONGEST_LIFE_S = (
    604800  # seven days: https://cloud.google.com/storage/docs/access-control/signed-urls
)
EARLY = timedelta(minutes=15)  # how far a clock may be ahead: the same page
# https://cloud.google.com/storage/docs/authentication/canonical-requests#about-query-strings
_UNRESERVED = "-_.~"
_PARTS = ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a signature is checked against: the request as it came over the wire."""

    method: str
    path: str  # percent-encoded
    query: str
    headers: Mapping[str, str]  # names in lower case


@dataclass(frozen=True, kw_only=True)
class _Claim:
    """What a signed URL says of itself."""

    account: str
    scope: str
    signed_at: datetime
    life: timedelta
    headers: tuple[str, ...]
    signature: bytes


def is_signed(query: str) -> bool:
    """Say whether a query carries a V4 signature, right or wrong."""
    return any(name.lower() == "x-goog-signature" for name, _ in _pairs(query))


def account_of(asked: Asked, now: datetime, keys: Callable[[str], Iterable[RSAPublicKey]]) -> str:
    """Return the account that signed a request, or raise StorageError in the service's words."""
    claim = _claim(asked)
    _check_time(claim, now)
    _check_headers(claim, asked.headers)
    # A signature for GET serves HEAD too, as Google's own client libraries document it.
    methods = ["HEAD", "GET"] if asked.method == "HEAD" else [asked.method]
    for method in methods:
        text = string_to_sign(claim, canonical_request(claim, asked, method))
        if any(_fits(key, claim.signature, text) for key in keys(claim.account)):
            return claim.account
    raise _refusal(
        403,
        "SignatureDoesNotMatch",
        "Access denied.",
        "The request signature we calculated does not match the signature you provided. Check your "
        "Google secret key and signing method.",
    )


def canonical_request(claim: _Claim, asked: Asked, method: str) -> str:
    """Return the request in the form that is signed."""
    pairs = [
        (quote(unquote(name), safe=_UNRESERVED), quote(unquote(value), safe=_UNRESERVED))
        for name, value in _pairs(asked.query)
        if name != "X-Goog-Signature"
    ]
    headers = [f"{name}:{' '.join(asked.headers[name].split())}\n" for name in claim.headers]
    payload = "UNSIGNED-PAYLOAD"
    if "x-goog-content-sha256" in claim.headers:
        payload = asked.headers["x-goog-content-sha256"].strip()
    parts = [
        method,
        quote(unquote(asked.path), safe="/~"),
        "&".join(f"{name}={value}" for name, value in sorted(pairs)),
        "".join(headers),
        ";".join(claim.headers),
        payload,
    ]
    return "\n".join(parts)


def string_to_sign(claim: _Claim, canonical: str) -> str:
    """Return what the key really signs."""
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    return "\n".join([ALGORITHM, f"{claim.signed_at:%Y%m%dT%H%M%SZ}", claim.scope, digest])


def _pairs(query: str) -> list[tuple[str, str]]:
    parts = (part.partition("=") for part in query.split("&") if part)
    return [(name, value.replace("+", " ")) for name, _, value in parts]


def _claim(asked: Asked) -> _Claim:
    found = {name: unquote(value) for name, value in _pairs(asked.query)}
    given = {part: found.get(f"X-Goog-{part}", "") for part in _PARTS}
    missing = [f"X-Goog-{part}" for part, value in given.items() if not value]
    if missing:
        raise _malformed(f"The query lacks {', '.join(missing)}.")
    if given["Algorithm"] != ALGORITHM:
        raise _malformed(f"X-Goog-Algorithm should be {ALGORITHM}, found {given['Algorithm']}.")
    account, _, scope = given["Credential"].partition("/")
    try:
        signed_at = datetime.strptime(given["Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        signature = bytes.fromhex(given["Signature"])
        life_s = int(given["Expires"])
    except ValueError as error:
        raise _malformed(f"A part of the signature cannot be read: {error}.") from None
    parts = scope.split("/")
    if (
        len(parts) != 4
        or parts[0] != given["Date"][:8]
        or parts[2:] != ["storage", "goog4_request"]
    ):
        raise _malformed(f"X-Goog-Credential has an unexpected scope: {scope}.")
    if not 1 <= life_s <= LONGEST_LIFE_S:
        raise _malformed(f"X-Goog-Expires must be from 1 to {LONGEST_LIFE_S} seconds.")
    return _Claim(
        account=account,
        scope=scope,
        signed_at=signed_at,
        life=timedelta(seconds=life_s),
        headers=tuple(given["SignedHeaders"].split(";")),
        signature=signature,
    )


def _check_time(claim: _Claim, now: datetime) -> None:
    ends_at = claim.signed_at + claim.life
    if now >= ends_at:
        raise _refusal(
            400,
            "ExpiredToken",
            "Invalid argument.",
            f"The provided token has expired. Request signature expired at: {ends_at.isoformat()}",
        )
    if claim.signed_at > now + EARLY:
        raise _refusal(
            403,
            "AccessDenied",
            "Access denied.",
            f"Request signature not valid before: {claim.signed_at.isoformat()}",
        )


def _check_headers(claim: _Claim, headers: Mapping[str, str]) -> None:
    if "host" not in claim.headers or list(claim.headers) != sorted(claim.headers):
        raise _malformed("X-Goog-SignedHeaders must be sorted, in lower case, and hold host.")
    for name in claim.headers:
        if name not in headers:
            raise _refusal(
                400,
                "MalformedSecurityHeader",
                "Your request has a malformed header.",
                f"Header was included in signedheaders, but not in the request: {name}.",
            )
    # Google's client libraries document that "requests made with the created URL must not contain
    # … any header starting with x-goog-" that was not signed.
    loose = [n for n in headers if n.startswith("x-goog-") and n not in claim.headers]
    if loose:
        raise _refusal(
            403,
            "AccessDenied",
            "Access denied.",
            f"There were headers present in the request which were not signed: {', '.join(loose)}",
        )


def _fits(key: RSAPublicKey, signature: bytes, text: str) -> bool:
    try:
        key.verify(signature, text.encode(), PKCS1v15(), SHA256())
    except InvalidSignature:
        return False
    return True


def _malformed(details: str) -> StorageError:
    return _refusal(400, "AuthorizationQueryParametersError", "Invalid argument.", details)


def _refusal(status: int, code: str, message: str, details: str) -> StorageError:
    return StorageError(
        status, details, "forbidden", Xml(code=code, message=message, details=details)
    )
