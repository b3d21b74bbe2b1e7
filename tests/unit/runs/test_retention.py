"""Which releases have had their time."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cynthus.repository_policy import Retention
from tests.builders import NOON
from webhook_server.runs.retention import AT_ONCE, Released, expired, reason


def releases(count: int, *, kept: tuple[int, ...] = ()) -> list[Released]:
    """Return as many, one a day; the newest is of this noon."""
    return [
        Released(
            run_id=f"r{number}",
            number=number,
            release_id=number,
            tag=f"cynthus/digits/{number}",
            at=NOON - timedelta(days=count - number),
            kept=number in kept,
        )
        for number in range(1, count + 1)
    ]


@pytest.mark.parametrize(
    ("count", "rules", "standing", "kept", "gone"),
    [
        (5, Retention(), (), (), []),
        (5, Retention(releases=3), (), (), [1, 2]),
        (5, Retention(days=2), (), (), [1, 2]),
        (5, Retention(releases=4, days=2), (), (), [1, 2]),
        (5, Retention(releases=1, days=0), (), (), [1, 2, 3, 4]),
        (1, Retention(releases=0, days=0), (), (), []),
        (5, Retention(releases=1), ("r2",), (), [1, 3, 4]),
        (5, Retention(releases=1), (), (1, 3), [2, 4]),
        (20, Retention(releases=1), (), (), [1, 2, 3, 4, 5]),
    ],
)
def test_the_oldest_go_first_and_what_others_stand_on_stays(
    count: int,
    rules: Retention,
    standing: tuple[str, ...],
    kept: tuple[int, ...],
    gone: list[int],
) -> None:
    found = expired(releases(count, kept=kept), rules, standing=standing, now=NOON)
    assert [one.number for one in found] == gone
    assert len(found) <= AT_ONCE


def test_the_reason_names_the_rules() -> None:
    assert reason(Retention(releases=3, days=30)) == (
        "its release was deleted: the repository's policy keeps the newest 3 of those of the last"
        " 30 days"
    )
