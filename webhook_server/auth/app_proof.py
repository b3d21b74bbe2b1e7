"""Sign as our GitHub App: its key is read once, which takes as long as a hundred signatures."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, cast

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from jwt.algorithms import RSAAlgorithm


def signing(pem: str) -> Callable[[dict[str, Any]], str]:
    """Return what makes a JSON Web Token of claims; it raises PyJWTError when `pem` is no key."""
    # From https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/generating-a-json-web-token-jwt-for-a-github-app
    key = cache(lambda: cast("RSAPrivateKey", RSAAlgorithm(RSAAlgorithm.SHA256).prepare_key(pem)))
    return lambda claims: jwt.encode(claims, key(), algorithm="RS256")
