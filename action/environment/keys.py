"""Hash what can change an environment, and nothing else. Pure.

Two keys name the same image. The *inputs key* is known before anything is resolved or pulled: what
the spec and its files say, on which base. The *environment key* is known once the packages are
locked: what is in the image. The source is in neither, so a commit that only changes code builds
nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass

# Counted up whenever the same inputs would make another image: environments made by an older
# Action are then built anew instead of being taken for what they are not.
RECIPE = 1
DIGITS = 32  # 128 bits: chance never makes two environments share a key, and it fits into a tag


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What is asked for, as far as it can be known without a network."""

    base: str  # as it was written or looked up in the catalogue: a tag may move under it
    python: str | None
    lines: tuple[str, ...]  # of the requirements, declared or inferred
    pinned: bool  # every line names one exact version
    system: tuple[str, ...]
    platform: str  # linux/amd64
    indexes: tuple[str, ...] = ()  # addresses that packages come from, where the job names some


@dataclass(frozen=True, kw_only=True)
class Ingredients:
    """What an environment is made of, resolved."""

    base: str  # the base's digest in its registry, or the image id where it has none
    lock: str  # requirements with hashes
    system: tuple[str, ...]
    platform: str


def inputs_key(wishes: Wishes, base_digest: str, *, as_of: str) -> str:
    """Return the key under which an environment is found without resolving anything.

    `as_of` (a date) counts only when a package is not pinned, so that the environment takes in new
    releases once a day and not never.
    """
    date = "" if wishes.pinned else as_of
    named = (wishes.base, wishes.python, wishes.lines, _set(wishes.system), wishes.platform)
    return _key("inputs", named, wishes.indexes, base_digest, date)


def environment_key(made_of: Ingredients) -> str:
    """Return the key of an environment that Cynthus generates."""
    lock = canonical_lock(made_of.lock)
    return _key("environment", made_of.base, lock, _set(made_of.system), made_of.platform)


def system_key(base: str, system: tuple[str, ...], platform: str) -> str:
    """Return the key of a base with Debian packages on it."""
    return _key("system", base, _set(system), platform)


def cache_key(base: str, platform: str) -> str:
    """Return the key that environments share when steps of one may do for the other.

    `base` is a name without its digest: most steps outlive a base that moves on.
    """
    return _key("cache", base, platform)


def own_key(dockerfile: bytes, context: str, bases: tuple[str, ...], platform: str) -> str:
    """Return the key of an environment from the user's own Dockerfile.

    `context` is the hash of the files it takes; `bases` are its images by digest where a registry
    told one, else by name.
    """
    text = hashlib.sha256(dockerfile).hexdigest()
    return _key("own", text, context, bases, platform)


def canonical_lock(text: str) -> tuple[str, ...]:
    """Return a lock's requirements, one a line, sorted, without comments.

    Two resolvers that agree may differ in comments, order and line breaks.
    """
    joined = re.sub(r"\\\r?\n", " ", text)
    lines = (re.sub(r"(^|\s)#.*$", "", line).split() for line in joined.splitlines())
    return tuple(sorted(" ".join(words) for words in lines if words))


def is_key(text: str) -> bool:
    """Say whether a text can be a key: whoever writes a record may write anything."""
    return re.fullmatch(rf"[0-9a-f]{{{DIGITS}}}", text) is not None


def _set(names: tuple[str, ...]) -> list[str]:
    return sorted(set(names))  # apt installs the same packages in whatever order they are named


def _key(*parts: object) -> str:
    text = json.dumps((RECIPE, *parts), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]
