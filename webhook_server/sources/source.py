"""What a source promises: an entry of a spec's `data`, bound to bytes that do not change.

SourceFault
├── SourceGated      its terms must be accepted first, on the page that is named
├── SourceNotFound   there is no such thing, or nobody may know of it
└── SourceRefused    the hub said no
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import translate
from typing import Protocol

from cynthus.errors import Refused
from cynthus.spec import DataSource
from cynthus.wire_data import Dataset


class SourceFault(Refused):
    """The data cannot be had, and asking again will not help; the text tells a user what will."""


class SourceGated(SourceFault):
    """Somebody has to accept terms first."""

    def __init__(self, place: str, what: str, page: str, whose: str) -> None:
        super().__init__(
            f"{place}: {what} is open only to those who accepted its terms. Visit {page} with"
            f" {whose}, then run it again."
        )
        self.page = page


class SourceNotFound(SourceFault):
    """There is no such data, as far as whoever asks may know."""


class SourceRefused(SourceFault):
    """The hub refuses, for another reason."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One entry, and on whose behalf it is pinned."""

    entry: DataSource
    repository_id: int  # 0: a folder on this machine
    tokens: Mapping[str, str] = field(default_factory=dict, repr=False)  # of `forks.HUB_SECRETS`
    stranger: bool = False  # a fork's commit: nothing that belongs to the repository

    @property
    def place(self) -> str:
        """Return the entry's place in the spec."""
        return f"data/{self.entry.name}"


class Source(Protocol):
    """One kind of source."""

    def pin(self, asked: Asked) -> Dataset:
        """Return the entry bound to a revision. Changes nothing at the source; safe to repeat.

        Raises: SourceGated, SourceNotFound, SourceRefused; Transient.
        """


def chosen(include: Iterable[str], exclude: Iterable[str]) -> Callable[[str], bool]:
    """Return what says whether a path is among those that the patterns mean.

    As huggingface_hub's `filter_repo_objects`: `*` passes `/` too, letters count, and a pattern
    that ends in `/` means all below it.
    https://github.com/huggingface/huggingface_hub/blob/main/src/huggingface_hub/utils/_paths.py
    """
    allowed, ignored = _any_of(include), _any_of(exclude)

    def is_chosen(path: str) -> bool:
        fits = allowed is None or allowed.match(path) is not None
        return fits and (ignored is None or ignored.match(path) is None)

    return is_chosen


def _any_of(patterns: Iterable[str]) -> re.Pattern[str] | None:
    alternatives = [translate(p + "*" if p.endswith("/") else p) for p in patterns]
    return re.compile("|".join(alternatives)) if alternatives else None


def nothing_left(asked: Asked, found: int) -> SourceNotFound:
    """Return the fault of patterns that no file fits."""
    return SourceNotFound(
        f"{asked.place}: should have files that `include`, `exclude` and `subset` leave, found"
        f" none among {found}. `*` stands for any characters, `/` too; letters' case counts."
    )
