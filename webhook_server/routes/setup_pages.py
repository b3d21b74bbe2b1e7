"""Set the server up: make its GitHub App with two clicks, then show where it is installed."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import RedirectResponse

from cynthus.codec import encode
from cynthus.errors import CynthusError, Refused, Transient, UserError
from webhook_server.acting import under
from webhook_server.app_needs import CALLBACK_PATH, LONGEST_NAME, NEEDS, manifest, web_url
from webhook_server.auth.allowed import Allowed
from webhook_server.auth.tokens import same
from webhook_server.doctor.installed import Installed, installed
from webhook_server.renewal import TOPIC
from webhook_server.routes.access import check_page_token, is_loopback
from webhook_server.routes.answers import HttpRefusal, header
from webhook_server.routes.asking import by_operator
from webhook_server.routes.authorities import of_operator
from webhook_server.routes.bodies import limited_body
from webhook_server.routes.parts import Parts
from webhook_server.routes.people import FORM_LIMIT_BYTES, FORM_TYPE, People, fields_of
from webhook_server.routes.rendering import CSP
from webhook_server.settings import Secret
from webhook_server.settings_faults import half_set
from webhook_server.stores.app_store import ASK_LIFE, AppAsk, AppKeys, StoredApp
from webhook_server.stores.secret_probe import probe
from webhook_server.stores.secret_protocol import SecretUnreadable

if TYPE_CHECKING:
    from webhook_server.github_api import AppReader, Converted

COOKIE = "cynthus_setup"
PATH = "/setup"
_STATE_BYTES = 32  # 256 bits: cannot be guessed
# https://docs.github.com/enterprise-cloud@latest/admin (username considerations): 39 characters.
_ACCOUNT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,38})", re.ASCII)
_AGAIN = f"Begin again at {PATH}."


def setup_router(parts: Parts, reader: AppReader | None) -> APIRouter:
    """Return the pages of set-up; `reader` is None while no App is served."""
    router = APIRouter(include_in_schema=False)
    desk = _Desk(parts, reader)
    form = Depends(limited_body(FORM_LIMIT_BYTES, media_type=FORM_TYPE))

    @router.get(PATH)
    def show(request: Request) -> Response:
        return desk.people.for_operator(request, lambda: desk.show(request))

    @router.post(PATH, dependencies=[by_operator(parts)])
    def review(request: Request, content: bytes = form) -> Response:
        fields = fields_of(content)
        check_page_token(parts, request.scope, fields.get("form_token", ""))
        return desk.review(request, fields)

    @router.get(CALLBACK_PATH)
    def callback(request: Request, code: str = "", state: str = "") -> Response:
        return desk.people.for_operator(request, lambda: desk.finish(request, code, state))

    return router


class _Desk:
    """Makes the pages."""

    def __init__(self, parts: Parts, reader: AppReader | None) -> None:
        self._parts, self._reader = parts, reader
        self.people = People(parts)
        self._web_url = web_url(parts.settings.github_api_url)

    def _is_set_up(self) -> bool:
        return self._parts.settings.github_configured or self._parts.app.get() is not None

    def show(self, request: Request) -> Response:
        """Return the form, or what became of it."""
        if self._is_set_up():
            return self._finished(request)
        return self._form(request, fault="")

    def _form(self, request: Request, *, fault: str) -> Response:
        parts = self._parts
        response = self.people.page(
            request,
            "setup.html",
            "setup",
            fault=fault,
            notices=list(self._hindrances()),
            here=header(request.scope, b"host").lower() == urlsplit(parts.base_url).netloc.lower(),
            base_url=parts.base_url,
            name=_app_name(parts.base_url),
            longest_name=LONGEST_NAME,
            allowed=", ".join(parts.settings.allowed),
        )
        response.status_code = 422 if fault else 200
        return response

    def _hindrances(self) -> Iterable[str]:
        settings, place = self._parts.settings, urlsplit(self._parts.base_url)
        if place.scheme != "https" or is_loopback(place.hostname or ""):
            yield (
                f"GitHub delivers to {self._parts.base_url}, which it can reach only if that is a"
                " public https address. Set CYNTHUS_PUBLIC_URL."
            )
        if not settings.api_token:
            yield (
                "Nobody but this machine's users can open this page: set CYNTHUS_API_TOKEN before"
                " you come here through a proxy, as GitHub's way back does."
            )
        yield from half_set(settings)

    # ── leaving for GitHub ──────────────────────────────────────────────────────────────────────

    def review(self, request: Request, fields: dict[str, str]) -> Response:
        """Remember what is wished for; return the page whose button leads to GitHub."""
        if self._is_set_up():
            return RedirectResponse(PATH, 303)
        organization = fields.get("organization", "").strip()
        if organization and not _ACCOUNT.fullmatch(organization):
            return self._form(
                request, fault="That is not an organisation's name. Write it as in its address."
            )
        try:
            allowed = _allowed(fields.get("allowed", ""))
            # GitHub gives the keys once: where they cannot be kept, nobody need set out.
            probe(self._parts.secrets)
        except (UserError, SecretUnreadable) as error:
            return self._form(request, fault=str(error))
        state = secrets.token_urlsafe(_STATE_BYTES)
        self._parts.app.begin(state, AppAsk(allowed=allowed), self._parts.now())
        response = self._leaving(request, fields.get("name", ""), organization, state)
        response.set_cookie(
            COOKIE,
            state,
            max_age=int(ASK_LIFE.total_seconds()),
            path=PATH,
            httponly=True,
            samesite="lax",  # it must come along when GitHub leads back, and with nothing else
            secure=self._parts.base_url.startswith("https://"),
        )
        return response

    def _leaving(self, request: Request, name: str, organization: str, state: str) -> Response:
        base_url = self._parts.base_url
        place = f"/organizations/{quote(organization, safe='')}" if organization else ""
        response = self.people.page(
            request,
            "setup_review.html",
            "setup",
            needs=NEEDS,
            owner=organization or "your own account",
            target=f"{self._web_url}{place}/settings/apps/new?state={quote(state, safe='')}",
            manifest=json.dumps(manifest(name.strip()[:LONGEST_NAME], base_url)),
            base_url=base_url,
        )
        policy = CSP.replace("form-action 'self'", f"form-action 'self' {self._origin()}")
        response.headers["Content-Security-Policy"] = policy
        return response

    def _origin(self) -> str:
        place = urlsplit(self._web_url)
        return f"{place.scheme}://{place.netloc}"

    # ── back from GitHub ────────────────────────────────────────────────────────────────────────

    def finish(self, request: Request, code: str, state: str) -> Response:
        """Take the App's keys and keep them; shows and logs none of them."""
        if self._is_set_up():
            return RedirectResponse(PATH, 303)
        if not code or not state or not same(_cookie(request), state):
            raise HttpRefusal(
                400, f"state: should come from this browser's own way to GitHub. {_AGAIN}"
            )
        ask = self._parts.app.end(state, self._parts.now())
        if ask is None:
            raise HttpRefusal(400, f"state: is used up, or older than an hour. {_AGAIN}")
        with under(of_operator(request.scope, self._parts.now())):
            self._keep(self._converted(code, state, ask), ask)
        self._parts.bell.ring(TOPIC)
        # The server begins anew now: the next request takes a new connection, which can wait.
        response = RedirectResponse(PATH, 303, headers={"Connection": "close"})
        response.delete_cookie(COOKIE, path=PATH)
        return response

    def _converted(self, code: str, state: str, ask: AppAsk) -> Converted:
        # Imported late: GitHub's library is large, and until now there was no GitHub.
        from webhook_server.github_api import convert

        parts = self._parts
        try:
            return convert(parts.settings.github_api_url, code, parts.now)
        except Transient as error:
            # GitHub may not have seen the code: the same way back may be tried again.
            parts.app.begin(state, ask, parts.now())
            raise HttpRefusal(503, f"{error} Reload this page.", retry_after_s=5) from error
        except Refused as error:
            raise HttpRefusal(400, f"{error} {PATH}") from error

    def _keep(self, made: Converted, ask: AppAsk) -> None:
        app = StoredApp(
            id=str(made.id),
            slug=made.slug,
            name=made.name,
            url=made.url,
            owner=made.owner,
            # The number, since a name may be given up and taken by somebody else.
            allowed=ask.allowed or (str(made.owner_id),),
            made_at=encode(self._parts.now()),
        )
        keys = AppKeys(
            private_key=Secret(made.private_key),
            webhook_secret=Secret(made.webhook_secret),
            client_secret=Secret(made.client_secret),
        )
        try:
            self._parts.app.put(app, keys)
        except CynthusError as error:
            raise HttpRefusal(
                503,
                f"the App {app.slug!r} was made and its keys could not be kept: {error}"
                f" Delete it at {app.url}. {_AGAIN}",
            ) from error

    # ── set up ──────────────────────────────────────────────────────────────────────────────────

    def _finished(self, request: Request) -> Response:
        stored = self._parts.app.get()
        found, trouble = self._installed()
        return self.people.page(
            request,
            "setup_done.html",
            "setup",
            app=found.app if found else None,
            name=(found.app.name if found else "") or (stored.name if stored else "the App"),
            rows=found.rows if found else (),
            install_url=f"{self._web_url}/apps/{found.app.slug}/installations/new" if found else "",
            allowed=", ".join(self._parts.settings.allowed),
            beginning=self._reader is None,
            notices=[*self._parts.app_remarks, *trouble],
        )

    def _installed(self) -> tuple[Installed | None, list[str]]:
        if self._reader is None:
            return None, []
        try:
            return installed(self._reader, self._web_url), []
        except CynthusError as error:
            return None, [f"GitHub could not be asked: {error}"]


def _allowed(text: str) -> tuple[str, ...]:
    """Read who may use the server. Raises: UserError."""
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    Allowed(found, state=lambda _: None, keep_state=lambda _, value: value)
    return found


def _app_name(base_url: str) -> str:
    """Return a name that nobody else on GitHub is likely to have."""
    host = urlsplit(base_url).hostname or ""
    return f"cynthus {host}"[:LONGEST_NAME].rstrip(" .-")


def _cookie(request: Request) -> str:
    try:
        jar = SimpleCookie(header(request.scope, b"cookie"))
    except CookieError:
        return ""
    return jar[COOKIE].value if COOKIE in jar else ""
