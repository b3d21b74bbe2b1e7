"""GitHub's OpenID Connect issuer: keys, discovery, tokens of workflow jobs."""

from __future__ import annotations

import base64
import secrets
import uuid
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from simulators.github_state import Doc
from simulators.github_world import World, private_pem

LIFE_S = 300  # the documented example lives five minutes
EARLY_S = 600  # and may be used from ten minutes before it was issued
CLAIMS = (
    "sub", "aud", "exp", "iat", "iss", "jti", "nbf", "ref", "repository", "repository_id",
    "repository_owner", "repository_owner_id", "run_id", "run_number", "run_attempt",
    "repository_visibility", "actor", "actor_id", "workflow", "workflow_ref", "workflow_sha",
    "head_ref", "base_ref", "event_name", "ref_type", "environment", "job_workflow_ref",
    "job_workflow_sha", "runner_environment", "enterprise", "enterprise_id", "check_run_id", "sha",
)  # fmt: skip


def issuer(world: World) -> str:
    """Return the issuer's exact name."""
    return f"{world.store.base_url}/oidc"


def discovery(world: World) -> Doc:
    """Return `.well-known/openid-configuration`."""
    name = issuer(world)
    return {
        "issuer": name,
        "jwks_uri": f"{name}/.well-known/jwks",
        "subject_types_supported": ["public", "pairwise"],
        "response_types_supported": ["id_token"],
        "claims_supported": list(CLAIMS),
        "id_token_signing_alg_values_supported": ["RS256"],
        "scopes_supported": ["openid"],
    }


def jwks(world: World) -> Doc:
    """Return the public keys, new and old."""
    return {"keys": [_jwk(key) for key in _keys(world)]}


def _keys(world: World) -> list[Doc]:
    return world.store.find("oidc_key") or [rotate(world)]


def rotate(world: World, *, forget: bool = False) -> Doc:
    """Make a new signing key; `forget` takes the old ones out of the key set."""
    if forget:
        for old in world.store.find("oidc_key"):
            world.store.delete("oidc_key", old["id"])
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return world.store.put("oidc_key", {"kid": str(uuid.uuid4()).upper(), "pem": private_pem(key)})


def _jwk(key: Doc) -> Doc:
    loaded = serialization.load_pem_private_key(key["pem"].encode(), None)
    assert isinstance(loaded, rsa.RSAPrivateKey)
    numbers = loaded.public_key().public_numbers()
    return {
        "kty": "RSA",
        "alg": "RS256",
        "use": "sig",
        "kid": key["kid"],
        "n": _base64url(numbers.n),
        "e": _base64url(numbers.e),
    }


def _base64url(number: int) -> str:
    data = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def sign(world: World, claims: Doc, header: Doc | None = None) -> str:
    """Sign any claims with the newest key."""
    key = _keys(world)[-1]
    return jwt.encode(
        claims,
        key["pem"],
        algorithm="RS256",
        headers={"kid": key["kid"], "x5t": key["kid"][:16], **(header or {})},
    )


def forged(world: World, claims: Doc, ttl_s: float, header: Doc | None) -> str:
    """Sign what a test asks for: times are filled in, a claim set to null is left out."""
    merged = times(world, ttl_s) | {"iss": issuer(world)} | claims
    return sign(world, {k: v for k, v in merged.items() if v is not None}, header)


def times(world: World, life_s: float = LIFE_S) -> dict[str, Any]:
    """Return `iat`, `nbf`, `exp` and a fresh `jti`."""
    now = int(world.store.identity_now().timestamp())
    return {
        "jti": str(uuid.uuid4()),
        "iat": now,
        "nbf": now - EARLY_S,
        "exp": now + int(life_s),
    }


def job_token(world: World, job: Doc, audience: str | None) -> str:
    """Return the token of a workflow job; every claim but the times is a string."""
    repo = world.store.must("repo", job["repo_id"])
    owner = world.owner(repo)
    default = f"{world.store.base_url}/{owner['login']}"  # GitHub's own default audience
    claims = times(world) | {"iss": issuer(world), "aud": audience or default}
    return sign(world, claims | job_claims(world, job, repo, owner))


def job_claims(world: World, job: Doc, repo: Doc, owner: Doc) -> Doc:
    """Return what GitHub says about a job: https://docs.github.com/actions (OIDC reference)."""
    full_name = world.full_name(repo)
    actor = world.store.must("account", job["actor_id"])
    workflow_ref = f"{full_name}/{job['workflow_path']}@{job['ref']}"
    claims = {
        "sub": subject(world, repo, job),
        "ref": job["ref"],
        "sha": job["sha"],
        "repository": full_name,
        "repository_id": str(repo["id"]),
        "repository_owner": owner["login"],
        "repository_owner_id": str(owner["id"]),
        "repository_visibility": "private" if repo["private"] else "public",
        "run_id": str(job["run_id"]),
        "run_number": str(job["run_number"]),
        "run_attempt": str(job["run_attempt"]),
        "actor": actor["login"],
        "actor_id": str(actor["id"]),
        "workflow": job["workflow"],
        "workflow_ref": workflow_ref,
        "workflow_sha": job["sha"],
        "job_workflow_ref": workflow_ref,
        "job_workflow_sha": job["sha"],
        "head_ref": job["head_ref"],
        "base_ref": job["base_ref"],
        "event_name": job["event"],
        "ref_type": "tag" if job["ref"].startswith("refs/tags/") else "branch",
        "ref_protected": "false",
        "runner_environment": job["runner_environment"],
        "check_run_id": str(job["check_run_id"]),
    }
    return claims | ({"environment": job["environment"]} if job["environment"] else {})


def subject(world: World, repo: Doc, job: Doc) -> str:
    """Return `sub`, with ids for repositories made, renamed or moved after 2026-07-15."""
    owner = world.owner(repo)
    name = f"{owner['login']}/{repo['name']}"
    if repo["immutable_sub"]:
        name = f"{owner['login']}@{owner['id']}/{repo['name']}@{repo['id']}"
    if job["environment"]:
        return f"repo:{name}:environment:{job['environment'].replace(':', '%3A')}"
    if job["event"] == "pull_request":
        return f"repo:{name}:pull_request"
    return f"repo:{name}:ref:{job['ref']}"


def new_request_token() -> str:
    """Return what a job shows to ask for its token."""
    return secrets.token_urlsafe(48)
