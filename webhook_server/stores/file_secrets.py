"""Keep secrets as encrypted files."""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path
from typing import Protocol

from cynthus.errors import UserError
from webhook_server.stores.secret_protocol import NAME, SecretUnreadable, SecretValue, check

_NONCE_BYTES = 12  # what AES-GCM is specified for: NIST SP 800-38D, section 5.2.1.1


class FileSecrets:
    """One encrypted file a secret; a file moved to another name or repository does not open."""

    def __init__(self, root: Path, server_key: bytes) -> None:
        self._root = root
        self._key = hmac.new(server_key, b"secrets at rest", hashlib.sha256).digest()

    def get(
        self,
        repository_id: int,
        name: str,
        version: str = "",  # noqa: ARG002 - a file keeps its newest value only
    ) -> SecretValue | None:
        """Return the value, or None when this repository has no such secret."""
        try:
            sealed = self._path(repository_id, name).read_bytes()
        except FileNotFoundError:
            return None
        return SecretValue(text=self._open(sealed, repository_id, name))

    def set(self, repository_id: int, name: str, value: str) -> None:
        """Store or replace a value. Raises: UserError; SecretUnreadable, the disk refuses."""
        check(name, value)
        path = self._path(repository_id, name)
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + _cipher(self._key).encrypt(
            nonce, value.encode(), _place(repository_id, name)
        )
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _replace(path, sealed)
        except OSError as error:
            raise SecretUnreadable(
                f"{self._root}: should be a folder that can be written, found: {error.strerror}."
                " Let the server write there, or name another with CYNTHUS_SECRETS_URL."
            ) from error

    def names(self, repository_id: int) -> list[str]:
        """Return the names, sorted."""
        folder = self._root / str(repository_id)
        if not folder.is_dir():
            return []
        return sorted(item.name for item in folder.iterdir() if NAME.match(item.name))

    def remove(self, repository_id: int, name: str) -> bool:
        """Forget a secret; returns whether there was one."""
        try:
            self._path(repository_id, name).unlink()
        except FileNotFoundError:
            return False
        return True

    def close(self) -> None:
        """Do nothing: nothing is kept open."""

    def _path(self, repository_id: int, name: str) -> Path:
        if not NAME.match(name):
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
