"""Hand secrets to a user's Dockerfile as BuildKit's mounts: in no argument, layer or history.

https://docs.docker.com/build/building/secrets/
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from action.inputs import BuildSecret


@dataclass(frozen=True, kw_only=True)
class Mounted:
    """A secret in a file of its own."""

    id: str
    path: Path

    @property
    def words(self) -> str:
        """Return what follows `--secret`: where it is, never what it is."""
        return f"id={self.id},src={self.path}"


@contextmanager
def files(secrets: Sequence[BuildSecret]) -> Iterator[tuple[Mounted, ...]]:
    """Yield each secret as a file that only we can read and that is gone afterwards.

    The folder lies outside every build context, so that no COPY can take it.
    """
    if not secrets:
        yield ()
        return
    folder = Path(tempfile.mkdtemp(prefix="cynthus-secrets-"))
    try:
        yield tuple(_written(folder / str(n), one) for n, one in enumerate(secrets))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _written(path: Path, secret: BuildSecret) -> Mounted:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secret.value)
    return Mounted(id=secret.id, path=path)


def mismatch(wanted: Sequence[str], given: Sequence[BuildSecret], name: str) -> tuple[str, ...]:
    """Return what to tell of ids that only one side knows, each a sentence."""
    known = {secret.id for secret in given}
    missing = [
        f"{name} mounts the secret `{one}`, but the input `build-secrets` has no line `{one}=…`"
        for one in wanted
        if one not in known
    ]
    unused = [
        f"the input `build-secrets` has `{one}`, but {name} mounts no such secret"
        for one in sorted(known - set(wanted))
    ]
    return (*missing, *unused)
