"""The server's public key, for whoever checks a release."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cynthus.errors import UserError
from tests.doors.conftest import Site, open_site
from webhook_server.auth.signing import signer
from webhook_server.settings import Secret, Settings


def test_a_server_without_a_key_says_so(site: Site) -> None:
    answer = site.ask("GET", "/api/v1/signing-key")
    assert answer.status == 404
    assert "signs nothing" in answer.body.decode()


def test_the_public_half_is_for_everybody(settings: Settings) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    wanted = signer(pem)
    assert wanted is not None
    with open_site(replace(settings, signing_key=Secret(pem), api_token=Secret("t" * 24))) as site:
        answer = site.ask("GET", "/api/v1/signing-key")
    assert answer.status == 200
    assert answer.body == wanted.public_pem
    assert b"PRIVATE" not in answer.body


def test_a_key_that_cannot_be_used_ends_the_start(settings: Settings) -> None:
    wrong = replace(settings, signing_key=Secret("no/such/file.pem"))
    with pytest.raises(UserError, match="CYNTHUS_SIGNING_KEY"), open_site(wrong):
        pass
