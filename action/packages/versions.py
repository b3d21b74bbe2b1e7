"""Compare versions and specifiers of Python packages as PEP 440 does. Pure.

The rules: https://packaging.python.org/en/latest/specifications/version-specifiers/
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import total_ordering

# The pattern of the specification's appendix, in its normal and its lenient spellings.
_VERSION = re.compile(
    r"v?(?:(?P<epoch>[0-9]+)!)?(?P<release>[0-9]+(?:\.[0-9]+)*)"
    r"(?:[-_.]?(?P<pre>alpha|a|beta|b|preview|pre|c|rc)[-_.]?(?P<pre_n>[0-9]*))?"
    r"(?:-(?P<post_short>[0-9]+)|[-_.]?(?P<post>post|rev|r)[-_.]?(?P<post_n>[0-9]*))?"
    r"(?:[-_.]?(?P<dev>dev)[-_.]?(?P<dev_n>[0-9]*))?"
    r"(?:\+(?P<local>[a-z0-9]+(?:[-_.][a-z0-9]+)*))?"
)
_PHASES = {"a": 0, "alpha": 0, "b": 1, "beta": 1, "c": 2, "rc": 2, "pre": 2, "preview": 2}
_FIRST, _LAST = -1, 9  # before every phase, behind every phase
LONGEST = 100  # characters; nobody's version is longer, and patterns stay quick


@total_ordering
@dataclass(frozen=True)
class Version:
    """A version that can be compared."""

    epoch: int
    release: tuple[int, ...]
    suffix: tuple[tuple[int, int], ...]  # phase, post, dev, each with its number
    local: tuple[tuple[int, int, str], ...] = ()

    @property
    def public(self) -> Version:
        """Return the version without its local part: 2.6.0+cu124 is 2.6.0."""
        return Version(self.epoch, self.release, self.suffix)

    @property
    def is_final(self) -> bool:
        """Say whether this is no pre-release."""
        return self.suffix[0][0] == _LAST and self.suffix[2][0] == _LAST

    @property
    def is_post(self) -> bool:
        """Say whether this is a post-release."""
        return self.suffix[1][0] != _FIRST

    @property
    def is_plain(self) -> bool:
        """Say whether this is neither a pre-release nor a post-release."""
        return self.is_final and not self.is_post

    def __lt__(self, other: Version) -> bool:
        return self._key() < other._key()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[object, ...]:
        return (self.epoch, _trimmed(self.release), self.suffix, self.local)


def _trimmed(release: tuple[int, ...]) -> tuple[int, ...]:
    while len(release) > 1 and release[-1] == 0:
        release = release[:-1]
    return release


def parse(text: str) -> Version | None:
    """Return a version, or None for what is none."""
    match = _VERSION.fullmatch(text.strip().lower()) if len(text) <= LONGEST else None
    if match is None:
        return None
    return Version(
        int(match["epoch"] or 0),
        tuple(int(part) for part in match["release"].split(".")),
        _suffix(match),
        tuple(_local_part(part) for part in re.split(r"[-_.]", match["local"] or "") if part),
    )


def _suffix(match: re.Match[str]) -> tuple[tuple[int, int], ...]:
    has_post = match["post"] is not None or match["post_short"] is not None
    post = (0, int(match["post_n"] or match["post_short"] or 0)) if has_post else (_FIRST, 0)
    dev = (0, int(match["dev_n"] or 0)) if match["dev"] else (_LAST, 0)
    if match["pre"]:
        phase = (_PHASES[match["pre"]], int(match["pre_n"] or 0))
    else:  # 1.0.dev1 is older than 1.0a1, which is older than 1.0
        phase = (_FIRST, 0) if match["dev"] and not has_post else (_LAST, 0)
    return (phase, post, dev)


def _local_part(part: str) -> tuple[int, int, str]:
    return (1, int(part), "") if part.isdigit() else (0, 0, part)


_CLAUSE = re.compile(r"\s*(===|==|!=|~=|<=|>=|<|>)\s*([^\s,]+)\s*")


def clauses(text: str) -> tuple[tuple[str, str], ...] | None:
    """Split `>=1.2,<2` into its clauses; None when it is something else."""
    body = text.strip()
    if body.startswith("(") and body.endswith(")"):
        body = body[1:-1]
    found = [_CLAUSE.fullmatch(part) for part in body.split(",") if part.strip()]
    if not all(found):
        return None
    return tuple((match[1], match[2]) for match in found if match)


def allows(specifiers: str, version: str) -> bool:
    """Say whether a version fits every clause; what cannot be read fits nothing.

    A pre-release fits when its number does: the caller has that version already.
    """
    candidate, wanted = parse(version), clauses(specifiers)
    if wanted is None:
        return False
    return all(_fits(candidate, version, operator, right) for operator, right in wanted)


def _fits(candidate: Version | None, text: str, operator: str, right: str) -> bool:
    if operator == "===":
        return text.strip().lower() == right.lower()
    if candidate is None:
        return False
    if right.endswith(".*") and operator in {"==", "!="}:
        limit = parse(right[:-2])
        same = limit is not None and _starts(candidate, limit)
        return limit is not None and same is (operator == "==")
    limit = parse(right)
    return limit is not None and _compare(candidate, operator, limit)


def _starts(candidate: Version, prefix: Version) -> bool:
    padded = candidate.release + (0,) * (len(prefix.release) - len(candidate.release))
    same = padded[: len(prefix.release)] == prefix.release
    return same and candidate.epoch == prefix.epoch


def _compare(candidate: Version, operator: str, limit: Version) -> bool:
    seen = candidate if limit.local else candidate.public
    match operator:
        case "==":
            return seen == limit
        case "!=":
            return seen != limit
        case "<=":
            return candidate.public <= limit
        case ">=":
            return candidate.public >= limit
        case "<":  # a pre-release of the limit is not "before" it, unless the limit is one too
            early = limit.is_plain and not candidate.is_final and _same_release(candidate, limit)
            return candidate.public < limit and not early
        case ">":  # nor is a post-release or a local build of the limit "after" it
            late = limit.is_plain and candidate.is_post and _same_release(candidate, limit)
            return candidate.public > limit and not late
        case _:
            return _compatible(candidate, limit)


def _same_release(candidate: Version, limit: Version) -> bool:
    return (candidate.epoch, _trimmed(candidate.release)) == (limit.epoch, _trimmed(limit.release))


def _compatible(candidate: Version, limit: Version) -> bool:
    if len(limit.release) < 2:  # noqa: PLR2004 - `~=1` is not allowed: it would fix nothing
        return False
    prefix = Version(limit.epoch, limit.release[:-1], limit.suffix)
    return candidate.public >= limit and _starts(candidate, prefix)
