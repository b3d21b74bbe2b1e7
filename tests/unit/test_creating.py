"""A create on GitHub is tried once, or asked for first, whichever replica goes on with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

from webhook_server.publish.creating import Creating
from webhook_server.publish.parts import Parts
from webhook_server.stores.publication_store import (
    Publication,
    PublicationKind,
    PublicationState,
)

NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)


@dataclass
class Shelf:
    """What is saved of one publication."""

    item: Publication = field(
        default_factory=lambda: Publication(
            subject="arun",
            kind=PublicationKind.CHECK_RUN,
            repository_id=7,
            state=PublicationState.PENDING,
            sent={},
            token="",
            news=0,
        )
    )

    def save(self, item: Publication) -> bool:
        self.item = item
        return True

    def replica(self, name: str) -> Creating:
        told: Any = SimpleNamespace(publications=self, now=lambda: NOON, new_token=lambda: name)
        return Creating(cast("Parts", told))


def test_who_noted_the_try_may_create_without_asking_once() -> None:
    shelf = Shelf()
    one = shelf.replica("one")
    assert not one.begin(shelf.item)  # saved: the next pass does it
    assert one.begin(shelf.item)
    assert not one.in_doubt(shelf.item)
    assert one.in_doubt(shelf.item)  # its answer was lost


def test_a_replica_that_starts_anew_asks_first() -> None:
    shelf = Shelf()
    assert not shelf.replica("before the crash").begin(shelf.item)
    after = shelf.replica("after")
    assert not after.begin(shelf.item)
    assert after.begin(shelf.item)
    assert after.in_doubt(shelf.item)


def test_who_noted_a_try_that_another_made_meanwhile_asks_first() -> None:
    shelf = Shelf()
    one, other = shelf.replica("one"), shelf.replica("other")
    assert not one.begin(shelf.item)
    assert not other.begin(shelf.item)  # says so first: it may die while it creates
    assert other.begin(shelf.item)
    assert other.in_doubt(shelf.item)
    assert one.begin(shelf.item)
    assert one.in_doubt(shelf.item)
