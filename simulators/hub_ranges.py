"""Which stretch of a content a request wants: ranges and conditions.

https://www.rfc-editor.org/rfc/rfc9110.html#name-range-requests
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime

from simulators.hub_content import Content
from simulators.hub_http import Answer, Refusal, Request

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What tells one version of a content from another."""

    etag: str  # with its quotation marks
    modified_at: float

    @property
    def headers(self) -> dict[str, str]:
        """Return them as headers."""
        moment = formatdate(self.modified_at, usegmt=True)
        return {"ETag": self.etag, "Last-Modified": moment, "Accept-Ranges": "bytes"}


def stretch(request: Request, content: Content, shown: Shown, media_type: str) -> Answer:
    """Answer with all of a content, or with the one range that was asked for.

    Several ranges at once get everything, as they do from S3 and Google's storage.

    Raises: Refusal (416).
    """
    answer = Answer(content=content, media_type=media_type, headers=shown.headers)
    if request.headers.get("if-none-match") in {shown.etag, "*"}:
        return Answer(status=304, headers=shown.headers)
    found = _RANGE.fullmatch(request.headers.get("range", "").replace(" ", ""))
    if found is None or found[0] == "bytes=-" or not _still_the_same(request, shown):
        return answer
    first, last = _bounds(found[1], found[2], content.size)
    if first >= content.size or last < first:
        told = {"Content-Range": f"bytes */{content.size}"}
        raise Refusal(416, "Requested Range Not Satisfiable", told, "text/plain")
    answer.status, answer.start, answer.stop = 206, first, last + 1
    answer.headers["Content-Range"] = f"bytes {first}-{last}/{content.size}"
    return answer


def _bounds(first: str, last: str, size: int) -> tuple[int, int]:
    if not first:
        return max(size - int(last), 0) if int(last) else size, size - 1
    return int(first), min(int(last) if last else size - 1, size - 1)


def _still_the_same(request: Request, shown: Shown) -> bool:
    condition = request.headers.get("if-range")
    if condition is None or condition == shown.etag:
        return True
    try:
        return int(parsedate_to_datetime(condition).timestamp()) >= int(shown.modified_at)
    except ValueError:
        return False
