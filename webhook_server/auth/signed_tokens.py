"""Check a signed token (JWT) of an issuer whose keys are known, before anything in it is believed.

RS256 alone: https://www.rfc-editor.org/rfc/rfc8725
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
from jwt.exceptions import PyJWTError

from cynthus.errors import CynthusError
from webhook_server.auth.jwks import IssuerKeys

MAX_BYTES = 16 * 1024  # the issuers' tokens have about 2 kB; a header line ends near 16 kB anyway
LEEWAY = timedelta(seconds=30)  # two clocks kept by NTP differ by far less
_KEY_ID = re.compile(r"[A-Za-z0-9._:=+/-]{1,255}")
_PART = re.compile(r"[A-Za-z0-9_-]+")
# The token's own way to bring a key, or to change what its signature covers: never ours.
_FORBIDDEN_HEADERS = frozenset({"jwk", "jku", "x5u", "x5c", "crit", "b64", "zip"})


class Unauthorised(CynthusError):  # noqa: N818 - reads as what it is
    """No good token: 401."""


def proven(token: str, keys: IssuerKeys) -> Mapping[str, Any]:
    """Return the claims of a token that is signed by one of the keys; they are not looked at.

    Raises: Unauthorised; Transient when the issuer's keys cannot be read.
    """
    header = _header(token)
    key = keys.find(header["kid"])
    if key is None:
        raise Unauthorised("token: is signed with a key that its issuer does not publish.")
    try:
        payload = jwt.PyJWS().decode(token, key, algorithms=["RS256"])
    except (PyJWTError, ValueError) as error:
        raise Unauthorised("token: the signature is not good.") from error
    return _object(payload, "claims")


def moment(claims: Mapping[str, Any], name: str) -> datetime:
    """Return a claim that is a moment (seconds since 1970). Raises: Unauthorised."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Unauthorised(f"token: the claim `{name}` should be a moment.")
    try:
        return datetime.fromtimestamp(value, UTC)
    except (OverflowError, ValueError, OSError) as error:
        raise Unauthorised(f"token: the claim `{name}` should be a moment.") from error


def text(claims: Mapping[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    """Return a claim that is text of this form. Raises: Unauthorised."""
    value = claims.get(name)
    if not isinstance(value, str) or pattern.fullmatch(value) is None:
        raise Unauthorised(f"token: the claim `{name}` is missing or misshapen.")
    return value


def _header(token: str) -> Mapping[str, Any]:
    """Check the token's size and shape, then return its header; nothing is trusted yet."""
    if len(token) > MAX_BYTES or not token.isascii() or token.count(".") != 2:  # noqa: PLR2004
        raise Unauthorised("token: should be one signed token (three parts, at most 16 kB).")
    parts = token.split(".")
    if not all(_PART.fullmatch(part) for part in parts):
        raise Unauthorised("token: should be written in base64url.")
    header = _object(_decoded(parts[0]), "header")
    _object(_decoded(parts[1]), "claims")  # strictly, before the library reads it its own way
    if header.get("alg") != "RS256" or header.get("typ", "JWT") != "JWT":
        raise Unauthorised("token: should be signed with RS256.")
    if _FORBIDDEN_HEADERS & header.keys():
        raise Unauthorised("token: its header asks for something that is not supported.")
    key_id = header.get("kid")
    if not isinstance(key_id, str) or _KEY_ID.fullmatch(key_id) is None:
        raise Unauthorised("token: should name its key.")
    return header


def _decoded(part: str) -> bytes:
    try:
        return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise Unauthorised("token: should be written in base64url.") from error


def _object(data: bytes, what: str) -> Mapping[str, Any]:
    try:
        found = json.loads(
            data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as error:
        raise Unauthorised(f"token: its {what} cannot be read.") from error
    if not isinstance(found, dict):
        raise Unauthorised(f"token: its {what} should be an object.")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
