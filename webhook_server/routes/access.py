"""Say who stands at a door: the operator, the holder of a run's token, or a stranger."""

from __future__ import annotations

import functools
import ipaddress
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from webhook_server.auth.tokens import form_token, read_run_token, same
from webhook_server.routes.answers import HttpRefusal, Scope, bearer, header
from webhook_server.routes.parts import Job, Parts

SESSION_COOKIE = "cynthus_session"
_FORWARDED = (
    b"forwarded",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-proto",
    b"x-real-ip",
    b"via",
)
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@functools.lru_cache(256)  # programs name one host a thousand times a second: 6 us each time
def host_of(text: str) -> str:
    """Return the name in a Host header or URL authority, lower case, without port."""
    try:
        return (urlsplit(f"//{text}").hostname or "").rstrip(".").lower()
    except ValueError:
        return ""


@functools.lru_cache(256)
def is_loopback(host: str) -> bool:
    """Return whether a name or address can only mean this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_host(parts: Parts, scope: Scope) -> None:
    """Refuse a request that a foreign name led here (DNS rebinding). Raises: HttpRefusal."""
    host = host_of(header(scope, b"host"))
    if not (host in parts.own_hosts or is_loopback(host)):
        raise HttpRefusal(421, "Host: should be this server's address. See CYNTHUS_PUBLIC_URL.")


def require_operator(parts: Parts, scope: Scope) -> None:
    """Let in only who may see and do everything. Raises: HttpRefusal."""
    if not is_operator(parts, scope):
        raise HttpRefusal(401, _how_to_sign_in(parts))
    check_origin(scope)


def is_operator(parts: Parts, scope: Scope) -> bool:
    """Return whether this is the operator: by token, by session, or on this machine alone."""
    wanted = parts.settings.api_token
    if not wanted:
        return not bearer(scope) and _is_neighbour(scope)
    token = bearer(scope)
    return same(token, wanted) if token else parts.sessions.good(session_of(scope), wanted)


def job_or_operator(parts: Parts, scope: Scope) -> Job | None:
    """Return the workflow job that asks, or None for the operator.

    Raises: HttpRefusal; Transient when the keys of jobs' tokens cannot be read.
    """
    token = bearer(scope)
    if parts.jobs is not None and _is_job_token(token):
        return parts.jobs.identify(token)
    require_operator(parts, scope)
    return None


def _is_job_token(text: str) -> bool:
    """Say whether this may be a workflow job's token: header.claims.signature."""
    # A run's token has two dots as well.
    return text.count(".") == 2 and not text.startswith("cyr_")  # noqa: PLR2004 - RFC 7519


def _is_neighbour(scope: Scope) -> bool:
    """Return whether the request was made on this machine, for this machine, without a proxy."""
    client = scope.get("client")
    if not client or not is_loopback(client[0]):
        return False
    if any(name in _FORWARDED for name, _ in scope["headers"]):
        return False
    return is_loopback(host_of(header(scope, b"host")))


def check_origin(scope: Scope) -> None:
    """Refuse what another site makes a browser do; programs send no such headers.

    Raises: HttpRefusal (403).
    """
    if scope["method"] in _SAFE_METHODS or bearer(scope):
        return
    origin = header(scope, b"origin")
    site = header(scope, b"sec-fetch-site")
    same_origin = urlsplit(origin).netloc == header(scope, b"host") if origin else True
    if not same_origin or site not in {"", "same-origin", "none"}:
        raise HttpRefusal(403, "Origin: should be this server. Use its own pages.")


def _how_to_sign_in(parts: Parts) -> str:
    if parts.settings.api_token:
        return "token: should be this server's CYNTHUS_API_TOKEN. Send it as a bearer token."
    return (
        "this door answers only on the server's own machine, and only without a proxy."
        " Set CYNTHUS_API_TOKEN to open it to others."
    )


def require_reader(parts: Parts, scope: Scope, run_id: str) -> None:
    """Let in the operator, or who holds the run's own token. Raises: HttpRefusal."""
    token = bearer(scope)
    if token.startswith("cyr_"):
        if read_run_token(parts.server_key, token, parts.now()) != run_id:
            # One answer for "another run's" and "expired": ids cannot be guessed at this door.
            raise HttpRefusal(401, "token: should be this run's own, still good. Ask again.")
        return
    require_operator(parts, scope)


def session_of(scope: Scope) -> str:
    """Return the session's id from the cookie, or empty text."""
    try:
        jar = SimpleCookie(header(scope, b"cookie"))
    except CookieError:
        return ""
    return jar[SESSION_COOKIE].value if SESSION_COOKIE in jar else ""


def page_token(parts: Parts, scope: Scope) -> str:
    """Return what forms of this visitor's pages carry."""
    return form_token(parts.server_key, session_of(scope) or "this machine")


def check_page_token(parts: Parts, scope: Scope, found: str) -> None:
    """Refuse a form that is not from our own page. Raises: HttpRefusal."""
    if not same(found, page_token(parts, scope)):
        raise HttpRefusal(403, "form: should come from this server's page. Reload, try again.")
