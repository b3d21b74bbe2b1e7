"""Service accounts and their RSA keys: those the cloud holds, and those users brought."""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPrivateKey,
    RSAPublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509 import load_pem_x509_certificate

from simulators.gcp_http import GoogleError
from simulators.gcp_state import Doc
from simulators.gcp_world import World


def default_account(world: World) -> str:
    """Return the account that instances act as unless told: it is there from the beginning."""
    return f"{world.project_number}-compute@developer.gserviceaccount.com"


def account(world: World, email: str) -> Doc:
    """Return a service account, or refuse in the words of the IAM Credentials API."""
    if email == default_account(world):
        return make(world, email)
    found = world.store.get("service-account", email)
    if found is None:
        raise GoogleError(
            404,
            f"Not found; Gaia id not found for email {email}",
            status="NOT_FOUND",
        )
    return found


def make(world: World, email: str) -> Doc:
    """Return an account, made with a key that only the cloud knows; safe to repeat."""
    found = world.store.get("service-account", email)
    if found is not None:
        return found
    doc: Doc = {"email": email, "project": world.project, "keys": [_new_key()]}
    return world.store.put("service-account", email, doc)


def add_key(world: World, email: str) -> tuple[str, str]:
    """Return the id and the PEM of a new key of an account: what a key file holds."""
    doc, key = make(world, email), _new_key()
    pem = key["private_pem"]
    doc["keys"].append({"id": key["id"], "public_pem": key["public_pem"]})
    world.store.put("service-account", email, doc)
    return key["id"], pem


def add_public_key(world: World, email: str, pem: str) -> str:
    """Accept a key made elsewhere (public key, or a certificate with it) and return its id."""
    try:
        data = pem.encode()
        if "CERTIFICATE" in pem:
            key: object = load_pem_x509_certificate(data).public_key()
        else:
            key = serialization.load_pem_public_key(data)
    except ValueError as error:
        raise GoogleError(400, f"public_key: should be PEM of an RSA key: {error}") from None
    if not isinstance(key, RSAPublicKey):
        raise GoogleError(400, "public_key: should be an RSA key")
    doc, text = make(world, email), _public_pem(key)
    id_ = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    doc["keys"].append({"id": id_, "public_pem": text})
    world.store.put("service-account", email, doc)
    return id_


def drop_key(world: World, email: str, id_: str) -> None:
    """Take a key away: what it signed is no longer accepted. Safe to repeat."""
    doc = account(world, email)
    doc["keys"] = [key for key in doc["keys"] if key["id"] != id_]
    world.store.put("service-account", email, doc)


def public_keys(world: World, email: str) -> list[RSAPublicKey]:
    """Return what an account's signatures are checked with; nobody: no keys."""
    doc = world.store.get("service-account", email) or {"keys": []}
    return [_public(key["public_pem"]) for key in doc["keys"]]


def signed(world: World, email: str, data: bytes) -> tuple[str, bytes]:
    """Return the id of the cloud's own key of an account, and its signature (RSA, SHA-256)."""
    key = next(k for k in account(world, email)["keys"] if "private_pem" in k)
    private = serialization.load_pem_private_key(key["private_pem"].encode(), password=None)
    assert isinstance(private, RSAPrivateKey)
    return key["id"], private.sign(data, PKCS1v15(), SHA256())


def _new_key() -> Doc:
    key = generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    id_ = hashlib.sha1(pem.encode(), usedforsecurity=False).hexdigest()  # as long as Google's
    return {"id": id_, "private_pem": pem, "public_pem": _public_pem(key.public_key())}


def _public_pem(key: RSAPublicKey) -> str:
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()


def _public(pem: str) -> RSAPublicKey:
    key = serialization.load_pem_public_key(pem.encode())
    assert isinstance(key, RSAPublicKey)
    return key
