"""Read the spec of the checked-out repository, or the paths that a push changed."""

from __future__ import annotations

import re
from pathlib import Path

from action.programs import capture
from action.source import own_file
from cynthus import specfile
from cynthus.errors import UserError
from cynthus.spec import Spec

LIMIT_BYTES = 64 * 1024  # spec.md: files over 64 KiB are errors; one byte more shows it
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


def load(root: Path, path: str, shown: str) -> tuple[Spec, bytes]:
    """Return the spec with its exact bytes.

    Raises: UserError with every fault and its place.
    """
    text = read(root, path, shown)
    return specfile.parse(text, shown), text


def read(root: Path, path: str, shown: str) -> bytes:
    """Return a spec's exact bytes."""
    try:
        return own_file.read(root, path, LIMIT_BYTES + 1)
    except OSError as error:
        raise UserError(
            f"{shown}: should be a readable file, found: {error.strerror}. Commit it (`cynthus "
            f"init` writes one), check it out with actions/checkout, or name another with `spec`."
        ) from None


def changed_paths(root: Path, before: str | None, after: str) -> tuple[str, ...] | None:
    """Return the paths a push changed, None where the checkout is too shallow to know."""
    if not before or not _COMMIT.fullmatch(before) or not before.strip("0"):
        return None  # a new branch has no commit before
    words = ("git", "-C", str(root), "diff", "--name-only", "--no-renames", "-z", before, after)
    answer = capture(words)
    return tuple(path for path in answer.out.split("\0") if path) if answer.code == 0 else None


def head(root: Path) -> str | None:
    """Return the commit that is checked out; None where git knows none."""
    answer = capture(("git", "-C", str(root), "rev-parse", "HEAD"))
    text = answer.out.strip()
    return text if answer.code == 0 and _COMMIT.fullmatch(text) else None


def committed_s(root: Path, commit: str) -> int:
    """Return when a commit was made, in Unix time; 0 where git does not know it here."""
    if not _COMMIT.fullmatch(commit):
        return 0
    answer = capture(("git", "-C", str(root), "show", "--no-patch", "--format=%ct", commit))
    text = answer.out.strip()
    return int(text) if answer.code == 0 and text.isascii() and text.isdigit() else 0
