"""Workload identity federation: a token of somebody else's issuer for one of Google's.

https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token
"""

from __future__ import annotations

import json
import urllib.request
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import jwt

from simulators.gcp_conditions import ExpressionError, evaluate
from simulators.gcp_http import Answer, GoogleError, Request, Route
from simulators.gcp_iam import oauth_error
from simulators.gcp_identity import issue_access
from simulators.gcp_state import Doc
from simulators.gcp_world import World

_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
_ACCESS = "urn:ietf:params:oauth:token-type:access_token"
_SUBJECTS = {
    "urn:ietf:params:oauth:token-type:jwt",
    "urn:ietf:params:oauth:token-type:id_token",
}
LONGEST_SUBJECT = 127  # bytes of google.subject: discovery document of iam v1
LONGEST_CONDITION = 4096  # characters: the same
_MULTI_TENANT = ("https://token.actions.githubusercontent.com", "https://gitlab.com")
_FETCH_LIMIT_S = 10
_FORM = {
    "grant_type": "grantType",
    "audience": "audience",
    "scope": "scope",
    "requested_token_type": "requestedTokenType",
    "subject_token": "subjectToken",
    "subject_token_type": "subjectTokenType",
    "options": "options",
}


class Refused(Exception):  # noqa: N818 - the word of the protocol
    """The exchange is refused: an OAuth error and its description."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(description)
        self.error = error


class Exchange:
    """The one method of the Security Token Service."""

    def __init__(self, world: World) -> None:
        self._world = world

    def token(self, request: Request) -> Answer:
        """Return an access token for a subject token, or an OAuth error."""
        try:
            wish = _wish(request)
            provider = self._provider(wish.get("audience", ""))
            claims = _verified(wish["subjectToken"], provider, self._world.now())
            subject = _subject(claims, provider)
            with self._world.lock:
                principal = f"principal://{_pool(provider)}/subject/{subject}"
                issued = issue_access(self._world, principal, wish.get("scope", "").split())
        except Refused as refused:
            return oauth_error(refused.error, str(refused))
        return Answer(json={**issued, "issued_token_type": _ACCESS})

    def _provider(self, audience: str) -> Doc:
        with self._world.lock:
            found = self._world.store.get("workload-provider", audience)
        if found is None:
            raise Refused(
                "invalid_target",
                'The target service indicated by the "audience" parameters is invalid. This '
                "might either be because the pool or provider is disabled or deleted or because "
                "it doesn't exist.",
            )
        return found

    def add(self, request: Request) -> Answer:
        """Make a pool with a provider: `POST /_sim/workload-providers`."""
        wish = request.json()
        if not wish.get("issuer"):
            raise GoogleError(400, "issuer: should be the URL that tokens carry in `iss`")
        condition = wish.get("condition", "")
        if wish["issuer"] in _MULTI_TENANT and not condition:
            raise GoogleError(
                400,
                "The attribute condition must reference one of the provider's claims.",
                status="INVALID_ARGUMENT",
            )
        if len(condition) > LONGEST_CONDITION:
            raise GoogleError(
                400, "The attribute condition is too long.", status="INVALID_ARGUMENT"
            )
        provider = {
            "pool": wish.get("pool", "github"),
            "provider": wish.get("provider", "github"),
            "number": self._world.project_number,
            "issuer": wish["issuer"],
            "jwks": wish.get("jwks"),
            "audiences": wish.get("audiences", []),
            "mapping": {"google.subject": "assertion.sub", **wish.get("mapping", {})},
            "condition": condition,
            "impersonates": wish.get("impersonates", []),
        }
        audience = f"//{_pool(provider)}/providers/{provider['provider']}"
        self._world.store.put("workload-provider", audience, provider)
        return Answer(status=201, json={**provider, "audience": audience})


def _pool(provider: Doc) -> str:
    place = f"projects/{provider['number']}/locations/global"
    return f"iam.googleapis.com/{place}/workloadIdentityPools/{provider['pool']}"


def _wish(request: Request) -> dict[str, str]:
    """Return the request's fields by their JSON names, from a form (RFC 8693) or from JSON."""
    if "json" in request.headers.get("content-type", ""):
        wish = request.json()
    else:
        form = dict(parse_qsl(request.body().decode(errors="replace")))
        wish = request.note = {_FORM.get(name, name): value for name, value in form.items()}
    if wish.get("grantType") != _EXCHANGE:
        raise Refused("unsupported_grant_type", "Invalid grantType.")
    if wish.get("requestedTokenType") != _ACCESS:
        raise Refused("invalid_request", "Invalid requestedTokenType.")
    if wish.get("subjectTokenType") not in _SUBJECTS:
        raise Refused("invalid_request", "Invalid or unsupported subjectTokenType.")
    if not wish.get("subjectToken"):
        raise Refused("invalid_request", "subjectToken is required.")
    return wish


def _verified(token: str, provider: Doc, now: float) -> dict[str, Any]:
    own = f"//{_pool(provider)}/providers/{provider['provider']}"
    audiences = provider["audiences"] or [f"https:{own}", own]
    try:
        key_id = jwt.get_unverified_header(token).get("kid")
        claims: dict[str, Any] = jwt.decode(
            token,
            _key(provider, key_id),
            algorithms=["RS256", "ES256"],
            audience=audiences,
            issuer=provider["issuer"],
            options={"require": ["exp", "iat", "sub"], "verify_exp": False, "verify_iat": False},
        )
    except jwt.InvalidAudienceError:
        raise Refused(
            "invalid_grant",
            f"The audience in ID Token does not match the expected audience {audiences[0]}.",
        ) from None
    except jwt.InvalidIssuerError:
        raise Refused(
            "invalid_grant",
            f"The issuer in ID Token does not match the expected ones: {provider['issuer']}.",
        ) from None
    except jwt.InvalidTokenError as error:
        raise Refused("invalid_grant", f"Error verifying the ID token: {error}") from None
    if claims["exp"] <= now:
        raise Refused("invalid_grant", "ID Token issued at is stale to sign-in.")
    return claims


def _key(provider: Doc, key_id: str | None) -> Any:
    keys = provider["jwks"] or _fetched_keys(provider["issuer"])
    for key in keys.get("keys", []):
        if key.get("kid") == key_id:
            return jwt.PyJWK(key).key
    raise Refused("invalid_grant", "No matching key was found to verify the signature.")


def _fetched_keys(issuer: str) -> Doc:
    """Return an issuer's key set by OpenID discovery; only of an issuer on this machine."""
    if urlsplit(issuer).hostname not in {"127.0.0.1", "localhost"}:
        raise Refused(
            "invalid_grant", f"Error connecting to the given credential's issuer: {issuer}"
        )
    try:
        about = _json(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        return _json(about["jwks_uri"])
    except (OSError, ValueError, KeyError):
        told = "Error connecting to the given credential's issuer."
        raise Refused("invalid_grant", told) from None


def _json(url: str) -> Doc:
    if urlsplit(url).hostname not in {"127.0.0.1", "localhost"}:
        raise ValueError(url)
    with urllib.request.urlopen(url, timeout=_FETCH_LIMIT_S) as answer:  # noqa: S310 - loopback
        value: Doc = json.load(answer)
    return value


def _subject(claims: dict[str, Any], provider: Doc) -> str:
    """Return google.subject, once the attribute condition holds."""
    values: dict[str, Any] = {"assertion": claims, "google": {}, "attribute": {}}
    try:
        for target, expression in provider["mapping"].items():
            place, _, name = target.partition(".")
            values[place][name] = evaluate(expression, values)
        admitted = not provider["condition"] or evaluate(provider["condition"], values)
    except (ExpressionError, KeyError) as error:
        raise Refused(
            "invalid_grant", f"The attribute mapping or condition failed: {error}"
        ) from None
    if admitted is not True:
        raise Refused(
            "unauthorized_client", "The given credential is rejected by the attribute condition."
        )
    subject = str(values["google"]["subject"])
    if not 0 < len(subject.encode()) <= LONGEST_SUBJECT:
        raise Refused(
            "invalid_grant",
            f"The size of mapped attribute google.subject exceeds {LONGEST_SUBJECT} bytes.",
        )
    return subject


def routes(world: World) -> list[Route]:
    """Return the method, and the control of providers."""
    exchange = Exchange(world)
    return [
        Route(
            method="POST",
            pattern="/v1/token",
            handler=exchange.token,
            verb="sts.token",
            locked=False,
        ),
        Route(method="POST", pattern="/_sim/workload-providers", handler=exchange.add),
    ]
