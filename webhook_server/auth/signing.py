"""Sign statements with the server's own key, so that others can tell who made a release."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from cynthus.envelope import Signature
from cynthus.errors import UserError

_REMEDY = (
    "Make one with `openssl genpkey -algorithm ed25519 -out signing.pem`, or leave it empty: then"
    " statements are not signed."
)
Key = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey


class Signer:
    """Holds the private key; gives away only signatures and the public half."""

    def __init__(self, key: Key) -> None:
        self._key = key
        public = key.public_key()
        der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.key_id = hashlib.sha256(der).hexdigest()
        self.public_pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def sign(self, data: bytes) -> Signature:
        """Return the signature over `data`: Ed25519, or ECDSA with SHA-256 in DER form."""
        if isinstance(self._key, ed25519.Ed25519PrivateKey):
            return Signature(key_id=self.key_id, value=self._key.sign(data))
        value = self._key.sign(data, ec.ECDSA(hashes.SHA256()))
        return Signature(key_id=self.key_id, value=value)


def signer(setting: str) -> Signer | None:
    """Return the signer of CYNTHUS_SIGNING_KEY: PEM text, or the path of a PEM file; empty: none.

    Raises: UserError; the value is never shown, since it may be the key itself, mistyped.
    """
    if not setting:
        return None
    try:
        key = load_pem_private_key(_pem(setting), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm, OSError):
        raise UserError(
            "CYNTHUS_SIGNING_KEY: should be a private key as PEM without password, or the path of"
            f" a file with one, found neither. {_REMEDY}"
        ) from None
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return Signer(key)
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return Signer(key)
    raise UserError(
        "CYNTHUS_SIGNING_KEY: should be an Ed25519 or ECDSA P-256 key, found another kind."
        f" {_REMEDY}"
    )


def _pem(setting: str) -> bytes:
    if "-----BEGIN" in setting:
        return setting.replace("\\n", "\n").encode()  # how a PEM travels in one line of .env
    return Path(setting).read_bytes()
