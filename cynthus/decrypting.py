"""Decrypt outputs with a key of the user (age, by pyrage)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cynthus.errors import Refused, UserError

_KEY_LIMIT_BYTES = 64 << 10  # a file of `age-keygen` has 189


class Identity:
    """The secret key of one person, from the file that `age-keygen -o` writes.

    Raises: UserError.
    """

    def __init__(self, file: Path) -> None:
        try:
            import pyrage  # type: ignore[import-untyped]  # it brings no types
        except ImportError as error:
            raise UserError(
                "--identity: needs the package pyrage. Install it with `pip install cynthus[age]`."
            ) from error
        try:
            with file.open("rb") as opened:
                lines = opened.read(_KEY_LIMIT_BYTES).decode("utf-8", "replace").splitlines()
        except OSError as error:
            raise UserError(
                f"--identity: should be a file with a key, found {file}: {error.strerror}."
            ) from error
        words = [line.strip() for line in lines if line.startswith("AGE-SECRET-KEY-1")]
        try:
            self._keys: list[Any] = [pyrage.x25519.Identity.from_str(word) for word in words]
        except pyrage.IdentityError:
            self._keys = []
        if not self._keys:  # never what was found: it may be a key
            raise UserError(
                f"--identity: should be a file with a line AGE-SECRET-KEY-1…, found none in {file}."
                " Name the file that `age-keygen -o` wrote."
            )

    def decrypt(self, source: Path, target: Path) -> None:
        """Write what `source` holds to `target`. Raises: Refused when it is for another key."""
        import pyrage

        try:
            with source.open("rb") as reader, target.open("wb") as writer:
                pyrage.decrypt_io(reader, writer, self._keys)
        except pyrage.DecryptError as error:
            raise Refused(
                "should be encrypted to the key of --identity, found otherwise. Name another."
            ) from error
