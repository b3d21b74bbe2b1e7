"""Messages survive the way to JSON and back; what is not one is named without its value."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum

import pytest

from cynthus.codec import decode, encode
from cynthus.errors import UserError


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True, kw_only=True)
class Part:
    name: str
    size: int = 1


@dataclass(frozen=True, kw_only=True)
class Whole:
    at: datetime
    lasts: timedelta
    price: Decimal
    colour: Colour
    parts: tuple[Part, ...]
    pair: tuple[str, int]
    ratio: float
    flags: dict[str, bool]
    either: str | tuple[str, ...]
    none: Part | None = None
    extra: tuple[str, ...] = field(default=())


WHOLE = Whole(
    at=datetime(2026, 1, 31, 12, tzinfo=UTC),
    lasts=timedelta(seconds=1.5),
    price=Decimal("0.30"),
    colour=Colour.RED,
    parts=(Part(name="a"), Part(name="b", size=2)),
    pair=("x", 1),
    ratio=1.0,
    flags={"on": True},
    either=("a", "b"),
)


def test_a_message_survives_the_way_to_json_and_back() -> None:
    assert decode(Whole, encode(WHOLE)) == WHOLE


def test_moments_decimals_and_durations_have_one_written_form() -> None:
    written = encode(WHOLE)
    assert written["at"] == "2026-01-31T12:00:00Z"
    assert written["price"] == "0.30"
    assert written["lasts"] == 1.5


def test_unknown_members_are_ignored_so_that_versions_can_differ() -> None:
    assert decode(Part, {"name": "a", "colour": "red"}) == Part(name="a")


@pytest.mark.parametrize(
    ("member", "value", "words"),
    [
        ("at", "2026-01-31", "time zone"),
        ("at", 5, "a moment such as"),
        ("at", "0001-01-01T00:00:00+01:00", "the years 1 to 9999"),
        ("at", "9999-12-31T23:59:59-01:00", "the years 1 to 9999"),
        ("lasts", "1.5", "a number"),
        ("lasts", 1e300, "seconds"),
        pytest.param("lasts", 10**400, "a smaller number", id="lasts-of-401-digits"),
        ("price", "NaN", "a finite number"),
        ("price", "much", "a decimal number"),
        ("colour", "blue", "one of red"),
        ("parts", {}, "a list"),
        ("parts", [{"size": 1}], "should have the member `name`"),
        ("pair", ["x"], "a list of 2"),
        ("ratio", True, "a number"),
        pytest.param("ratio", 10**400, "a smaller number", id="ratio-of-401-digits"),
        ("flags", {"on": 1}, "true or false"),
        ("either", 5, "should be text"),
        ("none", "x", "an object"),
    ],
)
def test_a_wrong_member_is_named_with_what_it_should_be(
    member: str, value: object, words: str
) -> None:
    with pytest.raises(UserError, match=words) as caught:
        decode(Whole, {**encode(WHOLE), member: value})
    assert str(caught.value).startswith((member, "message"))


def test_a_message_never_repeats_the_value_it_refuses() -> None:
    with pytest.raises(UserError) as caught:
        decode(Part, {"name": {"password": "hunter22"}})
    assert "hunter22" not in str(caught.value)
