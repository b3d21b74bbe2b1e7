"""Keep the one secret key from which every token is derived."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from cynthus.errors import UserError
from webhook_server.auth.tokens import KEY_BYTES

FILE_NAME = "server.key"


def server_key(setting_hex: str, state_dir: Path) -> bytes:
    """Return the key from the setting, or the one in the state folder, made when absent.

    Raises: UserError when the file cannot be what this server wrote.
    """
    if setting_hex:
        return bytes.fromhex(setting_hex)
    path = state_dir / FILE_NAME
    with suppress(FileExistsError):
        _make(path)
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise UserError(
            f"{path}: should have {KEY_BYTES} bytes, found {len(key)}."
            " Restore it from a backup, or set CYNTHUS_SERVER_KEY."
        )
    return key


def _make(path: Path) -> None:
    """Write a new key whole or not at all; FileExistsError when there is one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)  # unlike a rename, it never replaces a key that is there
    finally:
        temporary.unlink()
