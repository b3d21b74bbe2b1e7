"""Keep the secrets that repositories may use in their runs, encrypted at rest."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from cynthus.errors import CynthusError, UserError

SHORTEST = 8  # shorter text occurs in logs by chance and could not be masked without harm
LONGEST_BYTES = 64 * 1024  # as GitHub's limit of 48 KB, rounded up: keys and service accounts fit
_NAME = re.compile(r"\A[A-Za-z_][A-Za-z0-9_]{0,127}\Z", re.ASCII)
_RESERVED = ("CYNTHUS_", "GITHUB_", "LD_")
_NONCE_BYTES = 12  # what AES-GCM is specified for: NIST SP 800-38D, section 5.2.1.1


class SecretUnreadable(CynthusError):  # noqa: N818 - reads as what it is
    """A stored secret cannot be decrypted: the server key has changed, or the file was damaged."""


class SecretStore(Protocol):
    """Secrets by repository id and name."""

    def get(self, repository_id: int, name: str) -> str | None:
        """Return the value, or None when this repository has no such secret."""

    def set(self, repository_id: int, name: str, value: str) -> None:
        """Store or replace a value; raises UserError for a name or value that cannot be used."""

    def names(self, repository_id: int) -> list[str]:
        """Return the names, sorted."""

    def remove(self, repository_id: int, name: str) -> bool:
        """Forget a secret; returns whether there was one."""


def open_secret_store(url: str, state_dir: Path, server_key: bytes) -> SecretStore:
    """Return the store that the setting names.

    Raises: UserError for an address that this version cannot use.
    """
    if not url:
        return FileSecrets(state_dir / "secrets", server_key)
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.path:
        return FileSecrets(Path(unquote(parts.path)), server_key)
    raise UserError(
        f"CYNTHUS_SECRETS_URL: should be file:///PATH, found {url!r}. Other stores are not"
        " supported yet: keep secrets in a folder, where they are encrypted."
    )


def values(
    store: SecretStore, repository_id: int, names: Iterable[str]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the values of `names`, with the names that this repository lacks."""
    found = {name: store.get(repository_id, name) for name in names}
    missing = tuple(name for name, value in found.items() if value is None)
    return {name: value for name, value in found.items() if value is not None}, missing


def check(name: str, value: str) -> None:
    """Refuse a name or a value that could not be used or masked.

    Raises: UserError, which never shows the value.
    """
    if not _NAME.match(name) or name == "PATH" or name.startswith(_RESERVED):
        raise UserError(
            f"{name!r}: should be letters, digits and underscores, and not PATH, CYNTHUS_*,"
            " GITHUB_* or LD_*. Choose another name."
        )
    # A value of several lines is masked line by line: one of them at least must be long enough.
    longest = max((len(line.strip()) for line in value.splitlines()), default=0)
    if longest < SHORTEST:
        raise UserError(
            f"{name}: should have at least {SHORTEST} characters on a line, found {longest}."
            " Shorter values cannot be masked in logs."
        )
    if len(value.encode("utf-8", "surrogatepass")) > LONGEST_BYTES or "\0" in value:
        raise UserError(
            f"{name}: should have at most {LONGEST_BYTES} bytes and no NUL. Store a shorter value."
        )


class FileSecrets:
    """One encrypted file a secret; a file moved to another name or repository does not open."""

    def __init__(self, root: Path, server_key: bytes) -> None:
        self._root = root
        self._key = hmac.new(server_key, b"secrets at rest", hashlib.sha256).digest()

    def get(self, repository_id: int, name: str) -> str | None:
        """Return the value, or None when this repository has no such secret."""
        try:
            sealed = self._path(repository_id, name).read_bytes()
        except FileNotFoundError:
            return None
        return self._open(sealed, repository_id, name)

    def set(self, repository_id: int, name: str, value: str) -> None:
        """Store or replace a value."""
        check(name, value)
        path = self._path(repository_id, name)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + _cipher(self._key).encrypt(
            nonce, value.encode(), _place(repository_id, name)
        )
        _replace(path, sealed)

    def names(self, repository_id: int) -> list[str]:
        """Return the names, sorted."""
        folder = self._root / str(repository_id)
        if not folder.is_dir():
            return []
        return sorted(item.name for item in folder.iterdir() if _NAME.match(item.name))

    def remove(self, repository_id: int, name: str) -> bool:
        """Forget a secret; returns whether there was one."""
        try:
            self._path(repository_id, name).unlink()
        except FileNotFoundError:
            return False
        return True

    def _path(self, repository_id: int, name: str) -> Path:
        if not _NAME.match(name):
            raise UserError(f"{name!r}: should be the name of a secret. Check its spelling.")
        return self._root / str(int(repository_id)) / name

    def _open(self, sealed: bytes, repository_id: int, name: str) -> str:
        from cryptography.exceptions import InvalidTag

        nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            return _cipher(self._key).decrypt(nonce, rest, _place(repository_id, name)).decode()
        except (InvalidTag, ValueError):
            raise SecretUnreadable(
                f"secret {name}: should open with this server's key, found that it does not."
                " Set it again, or give the server its old key."
            ) from None


class _Cipher(Protocol):
    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes, /) -> bytes: ...

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes, /) -> bytes: ...


def _cipher(key: bytes) -> _Cipher:
    # Imported late: a server that holds no secret never loads the library.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)


def _place(repository_id: int, name: str) -> bytes:
    return f"{repository_id}/{name}".encode()


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
