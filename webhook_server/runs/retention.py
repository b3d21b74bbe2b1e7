"""Say which releases have had their time, by the repository's policy: pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cynthus.repository_policy import Retention

#: After each new release: two requests each, and a mistyped rule can be seen before all is gone.
AT_ONCE = 5


@dataclass(frozen=True, kw_only=True)
class Released:
    """One published release of ours."""

    run_id: str
    number: int  # of the run, among those of its name
    release_id: int
    tag: str
    at: datetime  # when its run was asked for
    kept: bool = False  # nobody may delete it: it is immutable, or somebody made it theirs


def expired(
    released: Sequence[Released], rules: Retention, *, standing: Collection[str], now: datetime
) -> tuple[Released, ...]:
    """Return what may be deleted of one name's releases, oldest first, at most AT_ONCE.

    Never the newest, never what is `standing`: ids of runs that others are measured by or made
    again from.
    """
    newest_first = sorted(released, key=lambda one: one.number, reverse=True)
    found = [
        one
        for place, one in enumerate(newest_first)
        if place > 0
        and not one.kept
        and one.run_id not in standing
        and _is_over(rules, place, now - one.at)
    ]
    return tuple(reversed(found))[:AT_ONCE]


def _is_over(rules: Retention, place: int, age: timedelta) -> bool:
    """Say whether either rule has ended it; `place` counts from the newest, 0."""
    many = rules.releases is not None and place >= rules.releases
    old = rules.days is not None and age > timedelta(days=rules.days)
    return many or old


def reason(rules: Retention) -> str:
    """Say by which rules releases go, for the note on each run."""
    words = []
    if rules.releases is not None:
        words.append(f"the newest {rules.releases}")
    if rules.days is not None:
        words.append(f"those of the last {rules.days} days")
    return f"its release was deleted: the repository's policy keeps {' of '.join(words)}"
