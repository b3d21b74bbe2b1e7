"""The storage on another host, to which a hub sends its clients with a signed address."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlencode

from simulators.hub_content import Content
from simulators.hub_http import Answer, Refusal, Request
from simulators.hub_ranges import Shown, stretch


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A content at the storage, with what its headers say of it."""

    content: Content
    etag: str
    media_type: str
    modified_at: float


class Storage:
    """Gives out addresses and what lies there."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.url = ""
        self._now = now
        self._key = secrets.token_bytes(32)
        self._kept: dict[str, Kept] = {}

    def address(self, path: str, kept: Kept, *, life_s: int) -> str:
        """Return an address that gives this content for so long."""
        self._kept[path] = kept
        until = int(self._now()) + life_s
        query = {"Expires": until, "Signature": self._signature(path, until)}
        return f"{self.url}/{quote(path)}?{urlencode(query)}"

    def answer(self, request: Request) -> Answer:
        """Give what a signed address names.

        Raises: Refusal, in the XML of such storages.
        """
        path = unquote(request.path.lstrip("/"))
        if request.headers.get("authorization"):
            # https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html: a hub's token
            # has no business here, and a client that shows it has leaked it.
            raise _refusal(400, "InvalidArgument", "Only one auth mechanism allowed")
        until = request.params.get("Expires", "")
        signature = request.params.get("Signature", "")
        if not until.isdecimal() or not hmac.compare_digest(
            signature, self._signature(path, int(until))
        ):
            raise _refusal(403, "SignatureDoesNotMatch", "The request signature does not match.")
        if int(until) < self._now():
            raise _refusal(403, "AccessDenied", "Request has expired")
        if request.method not in {"GET", "HEAD"}:
            raise _refusal(405, "MethodNotAllowed", "The specified method is not allowed.")
        kept = self._kept[path]
        shown = Shown(etag=f'"{kept.etag}"', modified_at=kept.modified_at)
        return stretch(request, kept.content, shown, kept.media_type)

    def _signature(self, path: str, until: int) -> str:
        return hmac.new(self._key, f"{path}\n{until}".encode(), hashlib.sha256).hexdigest()


def _refusal(status: int, code: str, message: str) -> Refusal:
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    )
    return Refusal(status, text, media_type="application/xml")
