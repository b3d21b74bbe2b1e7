"""Put a large file into a resumable upload session; after a cut go on where it stopped.

The protocol: https://cloud.google.com/storage/docs/performing-resumable-uploads
"""

from __future__ import annotations

import io
import re
import threading
from dataclasses import replace
from typing import BinaryIO

from runner_images.agent.door import TRY_AGAIN, Answer, Unanswered, Upload, put_once

RESUME_TRIES = 8  # in a row without a byte taken, with pauses about half a minute in all
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 8.0
_GO_ON = 308  # "Resume Incomplete", as Cloud Storage uses it
_TAKEN = re.compile(r"\Abytes=0-([0-9]{1,18})\Z", re.ASCII)


def put_resumable(url: str, content: BinaryIO, upload: Upload, over: threading.Event) -> None:
    """Put all of `content` into the session at `url`.

    Raises: Unanswered when the session is lost or takes nothing more: ask for another.
    """
    at, failures = 0, 0
    sent = _sent(url, content, upload, at)
    while not sent:
        no_time = upload.left_s() <= 0
        if no_time or failures >= RESUME_TRIES or over.wait(_pause_s(failures)):
            raise Unanswered(f"upload: broke off at byte {at} of {upload.size_bytes}")
        failures += 1
        standing = _standing(url, upload)
        if standing is None:
            continue
        if _is_done(standing):
            return
        taken = _taken(standing)
        failures = 0 if taken > at else failures
        at = taken
        sent = _sent(url, content, upload, at)


def _pause_s(failures: int) -> float:
    return min(FIRST_PAUSE_S * 2.0**failures, LONGEST_PAUSE_S)


def _sent(url: str, content: BinaryIO, upload: Upload, at: int) -> bool:
    """Send the rest in one request; return whether the session took all of it."""
    content.seek(at)
    whole = upload.size_bytes
    span = {"content-range": f"bytes {at}-{whole - 1}/{whole}"}
    try:
        return _is_done(
            put_once(url, content, replace(upload, size_bytes=whole - at, headers=span))
        )
    except Unanswered:
        return False  # whatever arrived is kept: the session knows how much


def _standing(url: str, upload: Upload) -> Answer | None:
    """Ask how much the session has; None: it cannot say now. Raises: Unanswered when it is lost."""
    try:
        question = {"content-range": f"bytes */{upload.size_bytes}"}
        answer = put_once(url, io.BytesIO(), replace(upload, size_bytes=0, headers=question))
    except Unanswered:
        return None
    if _is_done(answer) or answer.status == _GO_ON:
        return answer
    if answer.status >= 500 or answer.status in TRY_AGAIN:  # noqa: PLR2004 - RFC 9110, 15.6
        return None
    raise Unanswered(f"upload: its session has ended ({answer.status})")


def _taken(standing: Answer) -> int:
    found = _TAKEN.match(standing.headers.get("range", ""))
    return int(found[1]) + 1 if found else 0


def _is_done(answer: Answer) -> bool:
    return answer.status in {200, 201}
