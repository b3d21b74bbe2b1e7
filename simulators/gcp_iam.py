"""Service accounts at work: the IAM Credentials API, the OAuth token endpoint, keys.

https://cloud.google.com/iam/docs/reference/credentials/rest
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any
from urllib.parse import parse_qsl

import jwt

from simulators.gcp_accounts import (
    account,
    add_key,
    add_public_key,
    drop_key,
    make,
    public_keys,
    signed,
)
from simulators.gcp_auth import denied
from simulators.gcp_bodies import checked
from simulators.gcp_http import Answer, GoogleError, Request, Route
from simulators.gcp_identity import ISSUER, LIFE_S, bearer, issue_access, numeric_id, sign
from simulators.gcp_state import Doc
from simulators.gcp_world import World

# Longer needs an organisation policy: .../projects.serviceAccounts/generateAccessToken
LONGEST_LIFE_S = 3600
_JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_ACCOUNTS = "/v1/projects/-/serviceAccounts"


class Credentials:
    """The methods of `projects.serviceAccounts`: what one account does in the name of another."""

    def __init__(self, world: World) -> None:
        self._world = world

    def _account(self, request: Request) -> str:
        email = request.args["account"]
        account(self._world, email)
        caller = bearer(self._world, request)
        principal = caller["account"] if caller else ""
        if principal.startswith("principal://") and not self._may_act(principal, email):
            raise denied("iamcredentials", "iam.serviceAccounts.getAccessToken", principal)
        return email

    def _may_act(self, principal: str, email: str) -> bool:
        pool = principal.split("/workloadIdentityPools/")[1].partition("/")[0]
        pools = self._world.store.all("workload-provider").values()
        return any(p["pool"] == pool and email in p["impersonates"] for p in pools)

    def sign_blob(self, request: Request) -> Answer:
        """Sign any bytes with the account's key: `signBlob`."""
        email, text = self._account(request), request.json().get("payload")
        try:
            payload = base64.b64decode(text or "", validate=True)
        except (binascii.Error, TypeError, ValueError):
            payload = b""
        if not payload:
            raise _bad("payload must be non-empty base64.")
        key_id, signature = signed(self._world, email, payload)
        return Answer(json={"keyId": key_id, "signedBlob": base64.b64encode(signature).decode()})

    def sign_jwt(self, request: Request) -> Answer:
        """Sign a JWT with the account's key: `signJwt`."""
        email, text = self._account(request), request.json().get("payload", "")
        try:
            claims = json.loads(text)
        except ValueError:
            raise _bad("payload must be a JSON object.") from None
        key_id, _ = signed(self._world, email, b"-")
        pem = next(
            k["private_pem"] for k in account(self._world, email)["keys"] if k["id"] == key_id
        )
        token = jwt.encode(claims, pem, algorithm="RS256", headers={"kid": key_id})
        return Answer(json={"keyId": key_id, "signedJwt": token})

    def access_token(self, request: Request) -> Answer:
        """Issue an access token for the account: `generateAccessToken`."""
        email, wish = self._account(request), request.json()
        scopes = wish.get("scope") or []
        if not scopes:
            raise _bad("scope must not be empty.")
        found = re.fullmatch(r"(\d+)(?:\.\d+)?s", wish.get("lifetime", f"{LONGEST_LIFE_S}s"))
        life_s = int(found[1]) if found else 0
        if not 0 < life_s <= LONGEST_LIFE_S:
            raise _bad(f"lifetime must be more than 0s and at most {LONGEST_LIFE_S}s.")
        token = issue_access(self._world, email, scopes, life_s)
        # Whole seconds: google-auth reads no others.
        ends_at = self._world.zulu(self._world.now() + life_s)[:19] + "Z"
        return Answer(json={"accessToken": token["access_token"], "expireTime": ends_at})

    def id_token(self, request: Request) -> Answer:
        """Issue an identity token for the account: `generateIdToken`."""
        email, wish = self._account(request), request.json()
        if not wish.get("audience"):
            raise _bad("audience must not be empty.")
        return Answer(json={"token": _id_token(self._world, email, wish)})

    def routes(self) -> list[Route]:
        """Return the routes."""
        table = [
            ("signBlob", self.sign_blob),
            ("signJwt", self.sign_jwt),
            ("generateAccessToken", self.access_token),
            ("generateIdToken", self.id_token),
        ]
        return [
            Route(
                method="POST",
                pattern=f"{_ACCOUNTS}/{{account}}:{name}",
                handler=handler,
                verb=f"iamcredentials.projects.serviceAccounts.{name}",
            )
            for name, handler in table
        ]


def _id_token(world: World, email: str, wish: Doc) -> str:
    subject, now = numeric_id(email), int(world.now())
    claims: Doc = {"aud": wish["audience"], "azp": subject, "sub": subject, "iss": ISSUER}
    claims |= {"iat": now, "exp": now + LIFE_S}
    if wish.get("includeEmail"):
        claims |= {"email": email, "email_verified": True}
    return sign(world, claims)


class TokenEndpoint:
    """`/token`: a key file's way to an access token (RFC 7523).

    https://developers.google.com/identity/protocols/oauth2/service-account
    """

    def __init__(self, world: World) -> None:
        self._world = world

    def exchange(self, request: Request) -> Answer:
        """Give a token for a JWT that the account's own key signed."""
        form = dict(parse_qsl(request.body().decode(errors="replace")))
        if form.get("grant_type") != _JWT_BEARER:
            return oauth_error("unsupported_grant_type", "Invalid grant_type.")
        with self._world.lock:
            claims = self._claims(form.get("assertion", ""))
            if isinstance(claims, str):
                return oauth_error("invalid_grant", claims)
            if "target_audience" in claims:
                wish = {"audience": claims["target_audience"], "includeEmail": True}
                return Answer(json={"id_token": _id_token(self._world, claims["iss"], wish)})
            scopes = str(claims.get("scope", "")).split()
            return Answer(json=issue_access(self._world, claims["iss"], scopes))

    def _claims(self, assertion: str) -> dict[str, Any] | str:
        try:
            email = jwt.decode(assertion, options={"verify_signature": False}).get("iss", "")
        except jwt.InvalidTokenError:
            return "Bad Request"
        for key in public_keys(self._world, email):
            try:
                claims: dict[str, Any] = jwt.decode(
                    assertion,
                    key,
                    algorithms=["RS256"],
                    audience=[f"{self._world.url}/token", "https://oauth2.googleapis.com/token"],
                    options={"verify_exp": False, "verify_iat": False},
                )
            except jwt.InvalidSignatureError:
                continue
            except jwt.InvalidTokenError as error:
                return f"Invalid JWT: {error}"
            now = self._world.now()
            if not claims.get("iat", 0) - 300 <= now < claims.get("exp", 0):
                return "Invalid JWT: Token must be a short-lived token in a reasonable timeframe."
            return claims
        return "Invalid JWT Signature." if public_keys(self._world, email) else "account not found"


def oauth_error(error: str, description: str, status: int = 400) -> Answer:
    """Return a refusal in OAuth's shape (RFC 6749 §5.2)."""
    return Answer(status=status, json={"error": error, "error_description": description})


def _bad(message: str) -> GoogleError:
    return GoogleError(400, message, status="INVALID_ARGUMENT")


def routes(world: World) -> list[Route]:
    """Return the API, the token endpoint, and the control of accounts and keys."""

    def add_account(request: Request) -> Answer:
        wish = request.json()
        usual = f"{wish.get('name', 'cynthus')}@{world.project}.iam.gserviceaccount.com"
        email = wish.get("email") or usual
        make(world, email)
        if not wish.get("key_file"):
            return Answer(status=201, json={"email": email})
        key_id, pem = add_key(world, email)
        return Answer(status=201, json=_key_file(world, email, key_id, pem))

    def register(request: Request) -> Answer:
        wish = request.json()
        id_ = add_public_key(world, str(wish.get("email")), str(wish.get("public_key")))
        return Answer(status=201, json={"email": wish["email"], "id": id_})

    def drop(request: Request) -> Answer:
        drop_key(world, request.json()["email"], request.json()["id"])
        return Answer(status=204)

    return [
        *(checked(route) for route in Credentials(world).routes()),
        Route(
            method="POST",
            pattern="/token",
            handler=TokenEndpoint(world).exchange,
            verb="oauth2.token",
            locked=False,
        ),
        Route(method="POST", pattern="/_sim/service-accounts", handler=add_account),
        Route(method="POST", pattern="/_sim/keys", handler=register),
        Route(method="DELETE", pattern="/_sim/keys", handler=drop),
    ]


def _key_file(world: World, email: str, key_id: str, pem: str) -> Doc:
    """Return what `GOOGLE_APPLICATION_CREDENTIALS` would point to."""
    return {
        "type": "service_account",
        "project_id": world.project,
        "private_key_id": key_id,
        "private_key": pem,
        "client_email": email,
        "client_id": numeric_id(email),
        "auth_uri": f"{world.url}/o/oauth2/auth",
        "token_uri": f"{world.url}/token",
        "universe_domain": "googleapis.com",
    }
