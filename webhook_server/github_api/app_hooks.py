"""List the deliveries that failed, or ask GitHub to deliver one again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import parse_qs, urlsplit

from cynthus.errors import Transient
from webhook_server.github_api.door import Answer, Door

_NEXT = re.compile(r'<([^>]+)>;\s*rel="next"')
_PAGES = 1000  # 100,000 failures in three days: a list that goes on after that has no end


@dataclass(frozen=True, kw_only=True)
class FailedDelivery:
    """One delivery as the app's log has it."""

    id: int
    guid: str
    delivered_at: datetime


class AppHooks:
    """The app's delivery log: https://docs.github.com/rest/apps/webhooks."""

    def __init__(self, app: Door) -> None:
        self._app = app

    def failed(self, *, since: datetime) -> Iterator[FailedDelivery]:
        """Yield failed deliveries, newest first, back to `since`.

        Raises: Transient, also between two yields: what came before is good.
        """
        cursor: str | None = None
        for _ in range(_PAGES):
            parameters = {"cursor": cursor} if cursor else {}
            answer = self._app.get(
                "/app/hook/deliveries", status="failure", per_page=100, **parameters
            )
            page = _page(answer)
            yield from (item for item in page if item.delivered_at >= since)
            cursor = _next_cursor(answer)
            if cursor is None or not page or page[-1].delivered_at < since:
                return

    def redeliver(self, delivery_id: int) -> None:
        """Ask for one delivery again; it comes under the same guid."""
        self._app.write("POST", f"/app/hook/deliveries/{delivery_id}/attempts")


def _page(answer: Answer) -> list[FailedDelivery]:
    if not isinstance(answer.value, list):
        raise Transient("GitHub answered the list of deliveries with something unreadable.")
    found = []
    for item in answer.value:
        try:
            delivered_at = datetime.fromisoformat(item["delivered_at"])
            delivery = FailedDelivery(
                id=int(item["id"]), guid=str(item["guid"]), delivered_at=delivered_at
            )
        except (KeyError, TypeError, ValueError):
            continue  # an odd line hides no other
        # `status=failure` is a wish that older servers do not know.
        if not 200 <= int(item.get("status_code") or 0) < 300:  # noqa: PLR2004
            found.append(delivery)
    return found


def _next_cursor(answer: Answer) -> str | None:
    found = _NEXT.search(answer.headers.get("link", ""))
    cursors = parse_qs(urlsplit(found[1]).query).get("cursor", []) if found else []
    return cursors[0] if cursors else None
