"""Keep the issuer's public keys: fetched rarely, kept through its outages."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import RSAAlgorithm
from jwt.exceptions import PyJWTError

from cynthus.errors import Transient

MAX_AGE = timedelta(hours=1)  # a withdrawn key is trusted this long at most while GitHub answers
COOL_DOWN = timedelta(minutes=2)  # between two fetches, whatever unknown key ids arrive
_MIN_BITS, _MAX_BITS = 2048, 8192  # below: breakable; above: each verification costs too much
_MAX_KEYS = 64  # GitHub publishes fewer than ten


class IssuerKeys:
    """The RSA keys of one issuer, by key id.

    `fetch` returns the body behind a URL or raises; it bounds time and size itself.
    """

    def __init__(
        self, url: str, *, fetch: Callable[[str], bytes], now: Callable[[], datetime]
    ) -> None:
        self._url, self._fetch, self._now = url, fetch, now
        self._keys: Mapping[str, RSAPublicKey] = {}
        self._fetched_at: datetime | None = None
        self._tried_at: datetime | None = None
        self._fetching = threading.Lock()

    def find(self, key_id: str) -> RSAPublicKey | None:
        """Return the key, or None when the issuer publishes no such key.

        Raises: Transient when the key is not known here and the issuer could not be asked.
        """
        known = self._keys.get(key_id)
        if known is not None and not self._old():
            return known
        # Whoever holds a known key goes on; who needs a new one waits for the one fetch.
        if self._fetching.acquire(blocking=known is None):
            try:
                self._refresh(key_id)
            finally:
                self._fetching.release()
        found = self._keys.get(key_id)
        if found is None and self._stale():
            raise Transient("the keys of the token issuer cannot be read at present. Try again.")
        return found

    def _old(self) -> bool:
        return self._fetched_at is None or self._now() - self._fetched_at > MAX_AGE

    def _stale(self) -> bool:
        # The newest try failed, so "no such key" would be a guess.
        return self._fetched_at is None or self._fetched_at != self._tried_at

    def _refresh(self, key_id: str) -> None:
        now = self._now()
        if key_id in self._keys and not self._old():
            return  # another thread fetched it while this one waited
        if self._tried_at is not None and now - self._tried_at < COOL_DOWN:
            return
        self._tried_at = now
        try:
            self._keys = _usable(self._fetch(self._url))
        except (OSError, ValueError, RecursionError, Transient):
            return  # the old keys stay good through an outage of the issuer
        self._fetched_at = now


def key_ids(body: bytes) -> tuple[str, ...]:
    """Return the ids of the keys that a key set has for us. Raises: ValueError for none."""
    return tuple(_usable(body))


def _usable(body: bytes) -> dict[str, RSAPublicKey]:
    document = json.loads(body)
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not entries or len(entries) > _MAX_KEYS:
        raise ValueError("not a key set")
    ids = [entry.get("kid") for entry in entries if isinstance(entry, dict)]
    found: dict[str, RSAPublicKey] = {}
    for entry in entries:
        # Two keys under one id: nobody can say which is meant, so neither is used.
        if isinstance(entry, dict) and ids.count(entry.get("kid")) == 1:
            key = _rsa(entry)
            if key is not None:
                found[entry["kid"]] = key
    if not found:
        raise ValueError("a key set without one usable key")
    return found


def _rsa(entry: dict[str, Any]) -> RSAPublicKey | None:
    if not isinstance(entry.get("kid"), str) or entry.get("kty") != "RSA":
        return None
    if entry.get("use", "sig") != "sig" or entry.get("alg", "RS256") != "RS256" or "d" in entry:
        return None
    try:
        key = RSAAlgorithm.from_jwk({name: entry.get(name) for name in ("kty", "n", "e")})
    except (PyJWTError, ValueError, TypeError):
        return None
    if not isinstance(key, RSAPublicKey) or not _MIN_BITS <= key.key_size <= _MAX_BITS:
        return None
    return key
