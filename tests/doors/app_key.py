"""A GitHub App as tests of the doors configure it: its own keys, and nobody behind its address."""

from __future__ import annotations

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.unit.test_oidc import key

WEBHOOK_SECRET = "a secret of more than 24 bytes"


def app_settings() -> dict[str, str]:
    """Return what names an App in a server's environment."""
    form = (Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    return {
        "CYNTHUS_WEBHOOK_SECRET": WEBHOOK_SECRET,
        "CYNTHUS_GITHUB_APP_ID": "7",
        "CYNTHUS_GITHUB_PRIVATE_KEY": key().private_bytes(*form).decode(),
        "CYNTHUS_GITHUB_API_URL": "http://127.0.0.1:9/",  # nobody listens on "discard"
        "CYNTHUS_OIDC_ISSUER": "http://127.0.0.1:9",
    }
