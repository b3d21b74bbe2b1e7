"""Find the login for a registry: the Action's inputs, else what Docker's own configuration knows.

https://docs.docker.com/reference/cli/docker/login/#credential-stores
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from action.inputs import Login
from action.programs import Answer, capture
from action.registry.reference import HUB
from action.registry.tokens import Credentials

_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")  # it becomes the name of a program
_HELPER_S = 30.0  # `docker-credential-gcloud` starts a Python of its own and asks Google
# The user name that says "the secret is a refresh token":
# https://github.com/docker/docker-credential-helpers#development
_TOKEN_USER = "<token>"  # noqa: S105 - a mark, not a secret
_HUB_KEY = "https://index.docker.io/v1/"  # under which `docker login` keeps Docker Hub's login

Ask = Callable[[str, str], Answer]


def ask_helper(program: str, server: str) -> Answer:
    """Ask a credential helper for a server's login."""
    return capture((program, "get"), timeout_s=_HELPER_S, given=server)


def credentials_for(
    host: str, login: Login | None, config: Path, *, ask: Ask = ask_helper
) -> Credentials | None:
    """Return who we are for a host; None: nobody in particular.

    `login` is for this host: the caller knows which registry it was given for. `config` is Docker's
    configuration folder. What cannot be read there is as if it were not: the registry will say 401.
    """
    if login is not None:
        return Credentials(username=login.username, password=login.password)
    found = _read(config / "config.json")
    names = _names(host)
    for name in names:
        helper = _mapping(found, "credHelpers").get(name)
        if isinstance(helper, str) and (kept := _from_helper(helper, name, ask)):
            return kept
    for name in names:
        entry = _mapping(found, "auths").get(name)
        if isinstance(entry, dict) and (kept := _from_entry(entry)):
            return kept
    store = found.get("credsStore")
    kept_in_store = (_from_helper(store, name, ask) for name in names) if store else ()
    return next((kept for kept in kept_in_store if kept), None)


def _names(host: str) -> tuple[str, ...]:
    """Return the names under which logins for a host are kept, the usual one first."""
    plain = (host, f"https://{host}", f"https://{host}/v2/", f"https://{host}/v1/")
    return (_HUB_KEY, "docker.io", "index.docker.io", *plain) if host == HUB else plain


def _read(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _mapping(found: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = found.get(name)
    return value if isinstance(value, dict) else {}


def _from_helper(helper: object, server: str, ask: Ask) -> Credentials | None:
    if not isinstance(helper, str) or not _HELPER.fullmatch(helper):
        return None
    answer = ask(f"docker-credential-{helper}", server)
    if answer.code != 0:
        return None
    try:
        found = json.loads(answer.out)
        user, secret = found["Username"], found["Secret"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return _credentials(user, secret, secret if user == _TOKEN_USER else "")


def _from_entry(entry: Mapping[str, Any]) -> Credentials | None:
    token = entry.get("identitytoken", "")
    user, password = entry.get("username", ""), entry.get("password", "")
    if isinstance(entry.get("auth"), str) and entry["auth"]:
        try:
            pair = base64.b64decode(entry["auth"], validate=False).decode()
        except (binascii.Error, UnicodeDecodeError):
            return None
        user, _, password = pair.rstrip("\0").partition(":")
    return _credentials(user, password, token)


def _credentials(user: object, password: object, token: object) -> Credentials | None:
    if not (isinstance(user, str) and isinstance(password, str) and isinstance(token, str)):
        return None
    if not (token or (user and password)):
        return None
    return Credentials(username=user, password=password, identity_token=token)
