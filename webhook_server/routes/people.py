"""Make pages for the operator, or lead people to where they sign in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, quote

from fastapi import Request, Response
from fastapi.responses import RedirectResponse

from webhook_server.routes.access import is_operator, page_token, require_operator, session_of
from webhook_server.routes.answers import HttpRefusal
from webhook_server.routes.parts import Parts
from webhook_server.routes.rendering import Renderer

FORM_LIMIT_BYTES = 16 * 1024
FORM_TYPE = "application/x-www-form-urlencoded"
_MOST_FIELDS = 10


class People:
    """Knows who asks, and what every page shows."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._renderer = Renderer()

    def for_operator(self, request: Request, make: Callable[[], Response]) -> Response:
        """Return the page, or the way to sign in."""
        if is_operator(self._parts, request.scope):
            return make()
        if not self._parts.settings.api_token:
            require_operator(self._parts, request.scope)  # says why not
        target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"/sign-in?next={quote(target, safe='')}", 303)

    def page(self, request: Request, template: str, nav: str | None, **values: Any) -> Response:
        """Return a page with its bar and what its forms must carry."""
        return self._renderer.page(
            template,
            200,
            nav=nav,
            signed_in=bool(session_of(request.scope) and self._parts.settings.api_token),
            form_token=page_token(self._parts, request.scope),
            **values,
        )


def fields_of(content: bytes) -> dict[str, str]:
    """Return a form's fields, of several with one name the first. Raises: HttpRefusal."""
    try:
        pairs = parse_qs(
            content.decode("ascii"), keep_blank_values=True, max_num_fields=_MOST_FIELDS
        )
    except ValueError:
        raise HttpRefusal(400, "form: should be a form of this server. Reload.") from None
    return {name: values[0] for name, values in pairs.items()}
