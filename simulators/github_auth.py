"""Who is calling: app tokens, installation tokens, job tokens, user tokens."""

from __future__ import annotations

import base64
import binascii
import secrets
from datetime import timedelta
from typing import Any

import jwt

from simulators.github_http import NOBODY, ApiError, Call, Caller, not_found
from simulators.github_state import Doc, moment
from simulators.github_world import ACTIONS_APP_ID, World, later

TOKEN_LIFE_H = 1  # https://docs.github.com/apps (installation access tokens)
LEVELS = ("none", "read", "write", "admin")
_FORBIDDEN = "Resource not accessible by integration"


def caller_of(world: World, header: str | None) -> Caller:
    """Return who an `Authorization` header speaks for; raise GitHub's 401 when it is bad."""
    if not header:
        return NOBODY
    scheme, _, value = header.partition(" ")
    value = value.strip()
    if scheme.lower() == "basic":
        value = _basic_password(value)
    elif scheme.lower() not in {"bearer", "token"}:
        raise ApiError(401, "Bad credentials")
    if value.count(".") == 2 and not value.startswith("ghs_"):
        return _app_caller(world, value, scheme)
    return _token_caller(world, value)


def _basic_password(value: str) -> str:
    try:
        user, _, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise ApiError(401, "Bad credentials") from None
    return password if password not in {"", "x-oauth-basic"} else user


def _app_caller(world: World, value: str, scheme: str) -> Caller:
    if scheme.lower() != "bearer":
        raise ApiError(401, "Bad credentials")
    app = _app_named(world, value)
    try:
        claims = jwt.decode(
            value,
            app["public_key"],
            algorithms=["RS256"],
            options={"verify_exp": False, "verify_iat": False, "verify_nbf": False},
        )
    except jwt.InvalidTokenError:
        raise ApiError(401, "A JSON web token could not be decoded") from None
    _check_times(world, claims)
    return Caller(kind="app", app=app, user=world.bot(app))


def _app_named(world: World, value: str) -> Doc:
    try:
        issuer = str(jwt.decode(value, options={"verify_signature": False}).get("iss", ""))
    except jwt.InvalidTokenError:
        raise ApiError(401, "A JSON web token could not be decoded") from None
    app = world.store.first("app", client_id=issuer)
    if app is None and issuer.isascii() and issuer.isdigit() and len(issuer) < 19:
        app = world.store.get("app", int(issuer))
    if app is None or not app["public_key"]:
        raise ApiError(
            401, "Integration must generate a public key" if app else "Integration not found"
        )
    return app


def _check_times(world: World, claims: dict[str, Any]) -> None:
    now = world.store.identity_now().timestamp()
    issued, expires = claims.get("iat"), claims.get("exp")
    if not isinstance(expires, (int, float)):
        raise ApiError(401, "Missing 'expiration' claim ('exp') in assertion")
    if not isinstance(issued, (int, float)):
        raise ApiError(401, "Missing 'issued at' claim ('iat') in assertion")
    # Half a minute of leeway: clocks differ, and GitHub advises `iat` a minute in the past.
    if issued > now + 30:
        raise ApiError(
            401,
            "'Issued at' claim ('iat') must be an Integer representing the time that the "
            "assertion was issued",
        )
    if expires <= now:
        raise ApiError(
            401,
            "'Expiration time' claim ('exp') must be a numeric value representing the future "
            "time at which the assertion expires",
        )
    if expires > now + 600 + 30:
        raise ApiError(401, "'Expiration time' claim ('exp') is too far in the future")


def _token_caller(world: World, value: str) -> Caller:
    doc = world.store.first("token", token=value)
    if doc is None or (doc["expires_at"] and moment(doc["expires_at"]) <= world.store.now()):
        raise ApiError(401, "Bad credentials")
    if doc["kind"] == "user":
        user = world.store.get("account", doc["user_id"])
        return Caller(kind="user", user=user, token=value)
    app = world.store.must("app", doc["app_id"])
    installation = world.store.get("installation", doc["installation_id"])
    if doc["kind"] == "installation" and (installation is None or installation["suspended_at"]):
        raise ApiError(401, "Bad credentials")
    return Caller(
        kind=doc["kind"],
        user=world.bot(app),
        app=app,
        installation=installation,
        repo_ids=None if doc["repo_ids"] is None else frozenset(doc["repo_ids"]),
        permissions=doc["permissions"],
        token=value,
    )


def new_user_token(world: World, user: Doc) -> str:
    """Return a personal access token of a user."""
    token = f"ghp_{secrets.token_hex(18)}"
    world.store.put(
        "token", {"kind": "user", "token": token, "user_id": user["id"], "expires_at": None}
    )
    return token


def new_installation_token(
    world: World, installation: Doc, *, grant: Doc, stateless: bool
) -> tuple[str, str]:
    """Return a token and its end; `grant` holds `permissions` and `repo_ids`."""
    expires_at = later(world.store, hours=TOKEN_LIFE_H)
    token = _stateless(world, installation["app_id"]) if stateless else _opaque()
    world.store.put(
        "token",
        {
            "kind": "installation",
            "token": token,
            "app_id": installation["app_id"],
            "installation_id": installation["id"],
            "expires_at": expires_at,
            **grant,
        },
    )
    return token, expires_at


def new_job_token(world: World, repo: Doc, permissions: Doc) -> str:
    """Return the `GITHUB_TOKEN` of one workflow job, good for its repository only."""
    token = _opaque()
    world.store.put(
        "token",
        {
            "kind": "job",
            "token": token,
            "app_id": ACTIONS_APP_ID,
            "installation_id": None,
            "permissions": {"metadata": "read", **permissions},
            "repo_ids": [repo["id"]],
            "expires_at": later(world.store, hours=24),
        },
    )
    return token


def _opaque() -> str:
    return f"ghs_{secrets.token_hex(18)}"


def _stateless(world: World, app_id: int) -> str:
    # The format of 2026: `ghs_<app id>_<JWT>`, about 520 characters, to be taken as opaque.
    # https://github.blog/changelog/2026-05-15-github-app-installation-tokens-per-request-override-header
    end = world.store.now() + timedelta(hours=TOKEN_LIFE_H)
    claims = {
        "exp": int(end.timestamp()),
        "jti": secrets.token_hex(8),
        "pad": secrets.token_hex(120),
    }
    signed = jwt.encode(claims, secrets.token_hex(32), algorithm="HS256")
    return f"ghs_{app_id}_{signed}"


def repo_of(call: Call) -> Doc:
    """Return the repository in the path, or 404 where the caller may not know of it."""
    repo = call.world.find_repo(call.args["owner"], call.args["repo"])
    if repo is None or not _sees(call, repo):
        raise not_found()
    return repo


def _sees(call: Call, repo: Doc) -> bool:
    caller = call.caller
    if not repo["private"] or caller.kind == "app":
        return True
    if caller.is_integration:
        return reaches(call.world, caller, repo)
    return call.world.may(repo, caller.user, "read")


def reaches(world: World, caller: Caller, repo: Doc) -> bool:
    """Say whether an integration's token covers a repository."""
    if caller.repo_ids is not None and repo["id"] not in caller.repo_ids:
        return False
    return caller.installation is None or world.covers(caller.installation, repo)


def allowed(call: Call, repo: Doc, need: str, *others: str) -> None:
    """Raise unless the caller has one of these rights, each written `permission:level`."""
    caller = call.caller
    if caller.kind == "app":
        raise ApiError(401, "A JSON web token could not be decoded")
    if caller.is_integration:
        _integration_allowed(call, repo, (need, *others))
    else:
        _person_allowed(call, repo, need)


def _integration_allowed(call: Call, repo: Doc, needs: tuple[str, ...]) -> None:
    reading = needs[0].endswith(":read")
    if not reaches(call.world, call.caller, repo):
        if reading and not repo["private"]:
            return  # what is public may be read with any token
        raise ApiError(403, _FORBIDDEN)
    if reading and not repo["private"]:
        return
    if not any(_has(call.caller, need) for need in needs):
        raise ApiError(403, _FORBIDDEN)


def _has(caller: Caller, need: str) -> bool:
    name, _, level = need.partition(":")
    return LEVELS.index(caller.permissions.get(name, "none")) >= LEVELS.index(level)


def _person_allowed(call: Call, repo: Doc, need: str) -> None:
    name, _, level = need.partition(":")
    if name == "checks" and level == "write":
        if call.caller.kind == "anonymous":
            raise ApiError(401, "Requires authentication")
        raise ApiError(403, "You must authenticate via a GitHub App.")
    if level == "read" and name != "administration":
        return  # seeing the repository is enough
    if call.caller.kind == "anonymous":
        raise ApiError(401, "Requires authentication")
    if name in {"issues", "pull_requests"}:
        return  # anybody who sees a repository may comment and react
    role = "admin" if name == "administration" else "write"
    if not call.world.may(repo, call.caller.user, role):
        raise (
            not_found()
            if name == "contents"
            else ApiError(403, "Must have admin rights to Repository.")
        )
