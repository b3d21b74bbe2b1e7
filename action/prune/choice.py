"""Choose which old images may go. Pure.

What is not known to be ours, to be old and to be unused, stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from cynthus.wire_image import ImagesInUse

_RUN_TAG = re.compile(r"[0-9a-f]{40}")  # the commit
_KEY_TAG = re.compile(r"(?:about-)?([0-9a-f]{32})")  # of an environment, and what is told of it
_INPUTS_TAG = re.compile(r"in-[0-9a-f]{32}")
# Images are dated by their commit, which may have no date: 1970 means "not known".
_NO_DATE = datetime.fromisoformat("1971-01-01T00:00:00+00:00")


@dataclass(frozen=True, kw_only=True)
class Stored:
    """An image that lies in a registry."""

    digest: str
    tags: tuple[str, ...]
    created: datetime | None
    handle: str  # by which it is deleted: its digest, or a number of GitHub's
    source: str | None = None  # the URL of the repository it was made from; None: not known


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What must hold before an image goes."""

    before: datetime  # made before that
    in_use: ImagesInUse
    source: str  # run images of another repository are not ours, even in the same place
    keep_key: str | None = None  # the environment of the run that was just asked for


def may_go(image: Stored, rules: Rules) -> bool:
    """Return whether an image is ours, old, and named by nobody."""
    if not image.tags or image.created is None:
        return False
    if not _NO_DATE < image.created < rules.before or image.digest in rules.in_use.digests:
        return False
    if all(_RUN_TAG.fullmatch(tag) for tag in image.tags):
        return image.source == rules.source
    return _is_unused_environment(image.tags, rules)


def _is_unused_environment(tags: tuple[str, ...], rules: Rules) -> bool:
    """Return whether all tags are an environment's, and its key, which must be seen, is free."""
    kept = {*rules.in_use.keys, rules.keep_key}
    keys = {found[1] for tag in tags if (found := _KEY_TAG.fullmatch(tag))}
    others = [t for t in tags if not _KEY_TAG.fullmatch(t) and not _INPUTS_TAG.fullmatch(t)]
    return bool(keys) and not others and not keys & kept


def is_ours(tag: str) -> bool:
    """Return whether we would give an image such a tag."""
    return any(pattern.fullmatch(tag) for pattern in (_RUN_TAG, _KEY_TAG, _INPUTS_TAG))


def from_place(tags: Iterable[str], start: str) -> tuple[str, ...]:
    """Return the tags in order from `start` on, and around: each job looks at others first.

    Tags are hashes, and so is a commit: in the long run every image is looked at.
    """
    ordered = sorted(tags)
    place = next((number for number, tag in enumerate(ordered) if tag >= start), 0)
    return (*ordered[place:], *ordered[:place])
