"""Google's own identity: the keys it signs with, identity tokens of instances, access tokens."""

from __future__ import annotations

import base64
import hashlib
import secrets
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from simulators.gcp_http import Answer, GoogleError, Request, Route
from simulators.gcp_state import Doc
from simulators.gcp_world import World

ISSUER = "https://accounts.google.com"
# https://cloud.google.com/compute/docs/instances/verifying-instance-identity: an hour.
LIFE_S = 3600
# Both kinds of token live an hour; the metadata server tells how much is left.
ACCESS_LIFE_S = 3599


def signing_key(world: World) -> tuple[str, RSAPrivateKey]:
    """Return the id and the key that identity tokens are signed with; made on first use."""
    keys = world.store.all("signing-key")
    if not keys:
        rotate(world)
        keys = world.store.all("signing-key")
    kid, doc = list(keys.items())[-1]
    key = serialization.load_pem_private_key(doc["pem"].encode(), password=None)
    assert isinstance(key, RSAPrivateKey)
    return kid, key


def rotate(world: World, *, forget: bool = False) -> str:
    """Make a new signing key and return its id; `forget` drops the old ones from the key set."""
    if forget:
        for kid in world.store.all("signing-key"):
            world.store.delete("signing-key", kid)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    kid = hashlib.sha1(pem.encode(), usedforsecurity=False).hexdigest()  # as long as Google's
    world.store.put("signing-key", kid, {"pem": pem})
    return kid


def identity_token(world: World, instance: Doc, audience: str, form: str) -> str:
    """Return an instance's identity token; `form` is `standard` or `full`.

    Claims: https://cloud.google.com/compute/docs/instances/verifying-instance-identity
    """
    account = instance["serviceAccounts"][0]["email"]
    subject = numeric_id(account)
    now = int(world.now())
    claims: Doc = {
        "aud": audience,
        "azp": subject,
        "exp": now + LIFE_S,
        "iat": now,
        "iss": ISSUER,
        "sub": subject,
    }
    if form == "full":
        claims |= {"email": account, "email_verified": True}
        claims["google"] = {"compute_engine": _about(world, instance)}
    return sign(world, claims)


def _about(world: World, instance: Doc) -> Doc:
    made = world.epoch(instance["creationTimestamp"])
    return {
        "instance_creation_timestamp": int(made),
        "instance_id": instance["id"],
        "instance_name": instance["name"],
        "license_id": instance.get("_licenses", []),
        "project_id": world.project,
        "project_number": int(world.project_number),
        "zone": instance["zone"].rpartition("/")[2],
    }


def sign(world: World, claims: Doc, header: Doc | None = None) -> str:
    """Return a token with any claims, rightly signed."""
    kid, key = signing_key(world)
    return jwt.encode(claims, key, algorithm="RS256", headers={"kid": kid, **(header or {})})


def numeric_id(text: str) -> str:
    """Return the 21 digits that a service account is known by in tokens."""
    digest = hashlib.sha256(text.encode()).digest()
    return str(10**20 + int.from_bytes(digest[:8], "big") % 10**20)


def issue_access(world: World, account: str, scopes: list[str], life_s: int = ACCESS_LIFE_S) -> Doc:
    """Return a new access token as the metadata server words it."""
    token = f"ya29.sim-{secrets.token_urlsafe(48)}"
    until = world.now() + life_s
    world.store.put("access-token", token, {"account": account, "scopes": scopes, "until": until})
    return {"access_token": token, "expires_in": life_s, "token_type": "Bearer"}


def bearer(world: World, request: Request) -> Doc | None:
    """Return what stands behind a request's access token (account, scopes); None: it has none.

    Raises GoogleError 401 for a token that is unknown or has ended.
    """
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not token:
        return None
    found = world.store.get("access-token", token)
    if found is None or found["until"] <= world.now():
        raise GoogleError(
            401,
            "Request had invalid authentication credentials. Expected OAuth 2 access token, login "
            "cookie or other valid authentication credential. See "
            "https://developers.google.com/identity/sign-in/web/devconsole-project.",
            reason="authError",
            status="UNAUTHENTICATED",
        )
    return found


def key_set(world: World) -> Doc:
    """Return the public keys as https://www.googleapis.com/oauth2/v3/certs does."""
    signing_key(world)
    keys = world.store.all("signing-key").items()
    return {"keys": [_jwk(kid, doc["pem"]) for kid, doc in keys]}


def _jwk(kid: str, pem: str) -> Doc:
    public = serialization.load_pem_private_key(pem.encode(), password=None).public_key()
    assert isinstance(public, RSAPublicKey)
    numbers = public.public_numbers()
    return {
        "alg": "RS256",
        "e": _base64(numbers.e),
        "kid": kid,
        "kty": "RSA",
        "n": _base64(numbers.n),
        "use": "sig",
    }


def _base64(number: int) -> str:
    data = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def routes(world: World) -> list[Route]:
    """Return the key set, and the endpoints that forge and rotate."""

    def certs(_: Request) -> Answer:
        headers = {"Cache-Control": "public, max-age=19824, must-revalidate, no-transform"}
        return Answer(json=key_set(world), headers=headers)

    def forge(request: Request) -> Answer:
        wish: dict[str, Any] = request.json()
        token = sign(world, wish.get("claims") or {}, wish.get("header"))
        return Answer(status=201, json={"value": token})

    def rotated(request: Request) -> Answer:
        return Answer(
            status=201, json={"kid": rotate(world, forget=bool(request.json().get("forget")))}
        )

    return [
        Route(method="GET", pattern="/oauth2/v3/certs", handler=certs, verb="oauth2.certs"),
        Route(method="POST", pattern="/_sim/identity", handler=forge),
        Route(method="POST", pattern="/_sim/identity/rotate", handler=rotated),
    ]
