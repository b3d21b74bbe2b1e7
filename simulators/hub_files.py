"""A plain host of files: `/files/PATH`, with ranges, redirects and a password."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote

from simulators.hub_content import Content
from simulators.hub_http import Answer, Refusal, Request, plain_answer
from simulators.hub_ranges import Shown, stretch


@dataclass(frozen=True, kw_only=True)
class Offered:
    """One file, or where it is to be found."""

    content: Content
    modified_at: float
    media_type: str = "application/octet-stream"
    redirect: str = ""  # an address: absolute, or from here
    status: int = 302
    authorization: str = ""  # the header that must be shown; "": none


class PlainFiles:
    """What is offered, by path."""

    def __init__(self) -> None:
        self.offered: dict[str, Offered] = {}

    def answer(self, request: Request) -> Answer:
        """Give a file.

        Raises: Refusal.
        """
        found = self.offered.get(unquote(request.path).removeprefix("/files/"))
        if found is None:
            raise Refusal(404, "404 Not Found\n", media_type="text/plain")
        if request.method not in {"GET", "HEAD"}:
            raise Refusal(405, "405 Not Allowed\n", media_type="text/plain")
        if found.authorization and request.headers.get("authorization") != found.authorization:
            told = {"WWW-Authenticate": 'Basic realm="files"'}
            raise Refusal(401, "401 Authorization Required\n", told, "text/plain")
        if found.redirect:
            return plain_answer("", found.status, {"Location": found.redirect})
        shown = Shown(
            etag=f'"{found.content.sha256[:16]}-{found.content.size:x}"',
            modified_at=found.modified_at,
        )
        return stretch(request, found.content, shown, found.media_type)
