"""Ask the Cynthus server as this job: GitHub says who we are, one token a call."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from action.inputs import Inputs, Secret, TokenDoor
from action.workflow import Console
from cynthus.errors import Refused, Transient

TIMEOUT_S = 30.0
ANSWER_LIMIT_BYTES = 8 << 20


@dataclass(frozen=True, kw_only=True)
class Server:
    """The Cynthus server and the proof of who asks it."""

    url: str
    audience: str
    door: TokenDoor

    @property
    def host(self) -> str:
        """Return its name, for sentences."""
        return host(self.url)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A server's answer, whatever its status."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    def json(self) -> Any:
        """Return the body as JSON, None when it is not."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follow nothing: a redirect would carry the token to a host that nobody named."""

    def redirect_request(self, *_: object, **__: object) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirect)


def call(url: str, *, token: str, body: bytes | None = None, timeout_s: float = TIMEOUT_S) -> Reply:
    """Make one HTTP call: GET, or POST when there is a body.

    Raises: Transient when no answer came.
    """
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
    if body is not None:
        headers["Content-Type"] = "application/json"
    request = urllib.request.Request(url, data=body, headers=headers)  # noqa: S310 - `inputs` allows https, http on loopback
    try:
        with _opener.open(request, timeout=timeout_s) as answer:
            return _reply(answer.status, answer, dict(answer.headers))
    except urllib.error.HTTPError as error:
        with error:
            return _reply(error.code, error, dict(error.headers))
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise Transient(f"{host(url)} does not answer: {reason}") from error


def _reply(status: int, answer: Any, headers: Mapping[str, str]) -> Reply:
    body = answer.read(ANSWER_LIMIT_BYTES)
    return Reply(status=status, body=body, headers={k.lower(): v for k, v in headers.items()})


def host(url: str) -> str:
    """Return a URL's host and port."""
    return urllib.parse.urlsplit(url).netloc


# ── the job's identity ──────────────────────────────────────────────────────────────────────────


def identity_token(door: TokenDoor, audience: str, console: Console) -> Secret:
    """Ask GitHub for a token that says which job this is.

    https://docs.github.com/actions/reference/security/oidc#methods-for-requesting-the-oidc-token
    """
    separator = "&" if "?" in door.url else "?"
    url = f"{door.url}{separator}audience={urllib.parse.quote(audience, safe='')}"
    reply = call(url, token=door.token)
    found = reply.json()
    value = found.get("value") if isinstance(found, dict) else None
    if reply.status >= 500 or reply.status == 429:  # noqa: PLR2004 - HTTP
        raise Transient(f"GitHub's token service answers {reply.status}")
    if not isinstance(value, str) or not value:
        raise Refused(f"GitHub's token service answers {reply.status} without a token.")
    console.mask(value)
    return Secret(value)


def ask(server: Server, path: str, console: Console, *, body: Any = None) -> Reply:
    """Call the server once, with a token of its own: a server may take each only once.

    Raises: Transient when no answer came, Refused when GitHub gives no token.
    """
    token = identity_token(server.door, server.audience, console)
    sent = None if body is None else json.dumps(body).encode()
    return call(f"{server.url}{path}", token=token, body=sent)


def missing_token_remedy(inputs: Inputs) -> str:
    """Say what to do when the job may not have an identity token."""
    return (
        "permissions/id-token: should be `write`, so that the job can prove to "
        f"{host(inputs.server_url)} which repository it belongs to; found no token service. "
        "Add to the job: `permissions: {contents: read, id-token: write}`."
    )
