"""What the GitHub App signs is good under its key; a key that is none is told when it is used."""

from __future__ import annotations

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from jwt.exceptions import PyJWTError

from webhook_server.auth.app_proof import signing


def test_every_signature_is_good_under_the_key() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = (Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    sign = signing(key.private_bytes(*form).decode())
    for claims in ({"iss": "7"}, {"iss": "7", "more": "of it"}):
        assert jwt.decode(sign(claims), key.public_key(), algorithms=["RS256"]) == claims


def test_what_is_no_key_is_told_when_it_is_to_sign() -> None:
    sign = signing("-----BEGIN RSA PRIVATE KEY-----\nbm90aGluZw==\n-----END RSA PRIVATE KEY-----\n")
    for _ in range(2):
        with pytest.raises(PyJWTError):
            sign({"iss": "7"})
