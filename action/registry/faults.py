"""Say in plain words what a registry's refusal means, and whether it passes. Pure.

Codes: https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#error-codes
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import Any

from action.failures import BlobsMissing, BuildFailed, RegistryAway, RegistryRefused
from action.registry.registries import Kind

_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})  # RFC 9110, RFC 8470, RFC 6585
_LONGEST_WORDS = 300  # of a registry's own message: a proxy's page shall not fill the log
LONGEST_RETRY_AFTER_S = 120.0  # a job that waits longer costs more than one that is run again
_MISSING = frozenset({"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"})
_LOGIN = frozenset({401, 403})
_TOO_LARGE, _FULL = 413, 507


@dataclass(frozen=True, kw_only=True)
class Fault:
    """An answer that was not hoped for."""

    error: BuildFailed
    passes: bool  # asking again may help
    status: int = 0  # 0: there was no answer
    codes: tuple[str, ...] = ()
    retry_after_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What was asked of whom, for the sentence."""

    host: str
    repository: str
    wish: str  # "give the manifest sha256:…"
    kind: Kind
    with_login: bool
    reads: bool = False  # and changes nothing

    @property
    def place(self) -> str:
        """Return whom the sentence is about."""
        return f"{self.host}/{self.repository}" if self.repository else self.host


def no_answer(asked: Asked, reason: str, *, passes: bool = True) -> Fault:
    """Return the fault of a registry that cannot be talked to."""
    message = (
        f"{asked.place}: should {asked.wish}, but no answer came ({reason}). Check the registry's "
        f"name and whether it is up."
    )
    return Fault(error=RegistryAway(message), passes=passes)


def broken(asked: Asked, found: str) -> Fault:
    """Return the fault of an answer that cannot be right: asked again, it may be."""
    message = f"{asked.place}: should {asked.wish}, found {found}. Run the job again."
    return Fault(error=RegistryAway(message), passes=True)


def refusal(asked: Asked, status: int, headers: Message, body: bytes) -> Fault:
    """Return the fault that an answer tells of."""
    errors = _errors(body)
    codes = tuple(str(error.get("code", "")) for error in errors)
    words = _words(status, errors, body)
    passes = status in _PASSING
    wait = retry_after_s(headers) if passes else None
    return Fault(
        error=_error(asked, status, words, errors, wait),
        passes=passes and (wait is None or wait <= LONGEST_RETRY_AFTER_S),
        status=status,
        codes=codes,
        retry_after_s=wait,
    )


def _error(
    asked: Asked,
    status: int,
    words: str,
    errors: tuple[Mapping[str, Any], ...],
    wait: float | None,
) -> BuildFailed:
    sentence = f"{asked.place}: should {asked.wish}, found {words}."
    missing = any(error.get("code") in _MISSING for error in errors)
    if missing and not asked.reads and status not in _LOGIN:
        return BlobsMissing(
            f"{sentence} It must be sent again: run the job again.", _missing(errors)
        )
    if status in {*_PASSING, _FULL}:
        return RegistryAway(f"{sentence} {_later_remedy(status, wait)}")
    if missing and status not in _LOGIN:
        return RegistryRefused(f"{sentence} The image is not whole there: push it anew.")
    if status in {*_LOGIN, 404}:  # 404: Artifact Registry hides what one may not see
        return RegistryRefused(f"{sentence} {_login_remedy(asked)}")
    if status == _TOO_LARGE or "too large" in words.lower():
        return RegistryRefused(f"{sentence} Make it smaller, or name another registry.")
    invalid = any(error.get("code") == "DIGEST_INVALID" for error in errors)
    return RegistryRefused(f"{sentence} {_other_remedy(status, invalid=invalid)}")


def _other_remedy(status: int, *, invalid: bool) -> str:
    if invalid:
        return "Did a file change meanwhile? Run the job again."
    if status == 405:  # noqa: PLR2004 - RFC 9110
        return "It does this in another way, or not at all."
    return "Check the name of the image and the registry."


def _login_remedy(asked: Asked) -> str:
    if not asked.with_login:
        return "Give `username` and `password`, or log in before this step."
    return asked.kind.push_remedy


def _later_remedy(status: int, wait: float | None) -> str:
    if status == 429:  # noqa: PLR2004 - RFC 6585
        when = f"in {math.ceil(wait / 60)} min, as it says" if wait else "later"
        return f"It counts requests: log in for a higher limit, or run the job again {when}."
    if status == _FULL:
        return "Its storage is full: make room there."
    return "Run the job again when the registry is well."


def _errors(body: bytes) -> tuple[Mapping[str, Any], ...]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return ()
    errors = found.get("errors") if isinstance(found, dict) else None
    if not isinstance(errors, list):
        return ()
    return tuple(error for error in errors if isinstance(error, dict))


def _words(status: int, errors: tuple[Mapping[str, Any], ...], body: bytes) -> str:
    said = "; ".join(_one(error) for error in errors[:3])
    if not said and not body.lstrip().startswith(b"<"):
        said = _token_words(body)
    return f"{status}" + (f" ({_printable(said)})" if said else "")


def _one(error: Mapping[str, Any]) -> str:
    parts = [str(error[name]) for name in ("code", "message") if error.get(name)]
    detail = error.get("detail")
    if isinstance(detail, str) and detail:
        parts.append(detail)
    elif (
        isinstance(detail, dict) and "Err" in detail
    ):  # Distribution's own: no space left on device
        parts.append(str(detail["Err"]))
    return ": ".join(parts)


def _token_words(body: bytes) -> str:
    """Return what a token service says, which has another shape (RFC 6749 section 5.2) or none."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return body.decode("utf-8", "replace")
    if not isinstance(found, dict):
        return ""
    names = ("error_description", "details", "message", "error")
    return next((str(found[name]) for name in names if isinstance(found.get(name), str)), "")


def _printable(text: str) -> str:
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split()).rstrip(".")
    return line if len(line) <= _LONGEST_WORDS else line[:_LONGEST_WORDS] + "…"


_ANY_DIGEST = re.compile(r"sha(?:256:[0-9a-f]{64}|512:[0-9a-f]{128})")


def _missing(errors: tuple[Mapping[str, Any], ...]) -> tuple[str, ...]:
    """Return the digests named anywhere in the errors: vendors put them in various places."""
    texts = [json.dumps(error) for error in errors if error.get("code") in _MISSING]
    return tuple(dict.fromkeys(found for text in texts for found in _ANY_DIGEST.findall(text)))


def retry_after_s(headers: Message) -> float | None:
    """Return how long to wait in seconds, given as a number or as a date (RFC 9110 section 10.2.3).

    A date is compared with the answer's own: the two clocks need not agree.
    """
    text = headers.get("Retry-After")
    if text is None:
        return None
    if text.strip().isascii() and text.strip().isdigit():
        return float(text.strip()[:9])
    try:
        gap = parsedate_to_datetime(text) - parsedate_to_datetime(headers.get("Date", ""))
    except (ValueError, TypeError, OverflowError):
        return None
    return max(gap, timedelta()).total_seconds()
