"""Frozen data is changed as `dataclasses.replace` does it, only sooner."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import pytest

from cynthus.frozen import made, plain, replace


@dataclass(frozen=True, kw_only=True)
class Plain:
    name: str
    size: int = 0
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Checked:
    size: int

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError("negative")


@dataclass(frozen=True, slots=True)
class Slotted:
    size: int


@dataclass(frozen=True)
class Derived:
    size: int
    double: int = field(init=False, default=0)


BEFORE = Plain(name="a", size=1, parts=("x",))


def test_a_changed_value_is_what_dataclasses_make_of_it() -> None:
    changed = replace(BEFORE, size=2)
    assert changed == dataclasses.replace(BEFORE, size=2)
    assert hash(changed) == hash(dataclasses.replace(BEFORE, size=2))
    assert repr(changed) == repr(dataclasses.replace(BEFORE, size=2))
    assert Plain(name="a", size=1, parts=("x",)) == BEFORE


def test_what_changes_nothing_returns_the_same_value() -> None:
    assert replace(BEFORE, size=1, parts=BEFORE.parts) is BEFORE


def test_a_changed_value_is_frozen_too() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        replace(BEFORE, size=2).size = 3  # type: ignore[misc]


def test_a_field_that_is_not_there_is_refused() -> None:
    with pytest.raises(TypeError, match="colour"):
        replace(BEFORE, colour="red")  # type: ignore[call-arg]


def test_a_class_that_checks_its_values_goes_on_checking() -> None:
    assert not plain(Checked)
    with pytest.raises(ValueError, match="negative"):
        replace(Checked(1), size=-1)


def test_classes_with_slots_or_derived_fields_are_changed_by_the_library() -> None:
    assert not plain(Slotted)
    assert not plain(Derived)
    assert replace(Slotted(1), size=2) == Slotted(2)
    assert replace(Derived(1), size=2) == Derived(2)


def test_a_made_value_equals_one_that_was_constructed() -> None:
    assert made(Plain, {"name": "a", "size": 1, "parts": ("x",)}) == BEFORE
