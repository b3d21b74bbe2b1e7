"""The delivery sweep on bad days."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from cynthus.errors import Refused, Transient
from webhook_server.github_api import AppHooks, FailedDelivery
from webhook_server.inbox import Redelivery
from webhook_server.stores.database import Database
from webhook_server.stores.delivery_store import DeliveryStore

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


class Hooks:
    """GitHub's log of failed deliveries, newest first; trouble may stand between two of them."""

    def __init__(self, *log: str | Exception) -> None:
        self.log, self.asked, self.since = list(log), [], []  # type: ignore[var-annotated]
        self.trouble: Exception | None = None

    def failed(self, *, since: datetime) -> Iterator[FailedDelivery]:
        self.since.append(since)
        for number, item in enumerate(self.log):
            if isinstance(item, Exception):
                raise item
            yield FailedDelivery(id=number, guid=item, delivered_at=NOON)

    def redeliver(self, delivery_id: int) -> None:
        if self.trouble is not None:
            raise self.trouble
        self.asked.append(self.log[delivery_id])


class Sweep:
    def __init__(self, hooks: Hooks, folder: Path) -> None:
        self.now, self.hooks = NOON, hooks
        self.db = Database(f"sqlite:///{folder}/cynthus.db", now=lambda: self.now)
        self.db.migrate()
        self.deliveries = DeliveryStore(self.db)
        self.restart()

    def restart(self) -> None:
        hooks = cast("AppHooks", self.hooks)
        self.redelivery = Redelivery(hooks, self.deliveries, self.db, lambda: self.now)

    def after(self, **time: float) -> list[Any]:
        self.now += timedelta(**time)
        self.hooks.asked.clear()
        self.redelivery.step()
        return list(self.hooks.asked)


@pytest.fixture
def hooks() -> Hooks:
    return Hooks("a", "b")


@pytest.fixture
def sweep(hooks: Hooks, tmp_path: Path) -> Iterator[Sweep]:
    found = Sweep(hooks, tmp_path)
    yield found
    found.db.close()


def test_the_first_sweep_reaches_back_as_far_as_github_remembers(sweep: Sweep) -> None:
    assert sweep.after() == ["a", "b"]
    assert sweep.hooks.since == [NOON - timedelta(days=3)]


def test_a_later_sweep_overlaps_the_one_before_by_an_hour_also_after_a_restart(
    sweep: Sweep,
) -> None:
    sweep.after()
    sweep.restart()
    sweep.after(minutes=10)
    assert sweep.hooks.since[1] == NOON - timedelta(hours=1)


def test_what_has_arrived_is_not_asked_for(sweep: Sweep) -> None:
    sweep.deliveries.store_async("a", "push", b"{}", NOON).result(60)
    assert sweep.after() == ["b"]


def test_each_is_asked_for_three_times_at_most(sweep: Sweep) -> None:
    assert [sweep.after(minutes=6) for _ in range(5)] == [["a", "b"]] * 3 + [[]] * 2


def test_between_two_sweeps_nothing_is_asked(sweep: Sweep) -> None:
    sweep.after()
    assert sweep.after(minutes=2) == []
    assert len(sweep.hooks.since) == 1


def test_w24_what_stands_before_a_failing_page_is_asked_for_and_the_rest_later(
    sweep: Sweep, hooks: Hooks
) -> None:
    hooks.log = ["a", Transient("HTTP 502"), "c"]
    assert sweep.after() == ["a"]
    hooks.log = ["a", "b", "c"]
    assert sweep.after(minutes=1) == ["b", "c"]  # `a` is on its way
    assert hooks.since[1] == NOON + timedelta(minutes=1) - timedelta(days=3)


def test_one_that_has_left_the_log_stops_no_other(sweep: Sweep, hooks: Hooks) -> None:
    hooks.trouble = Refused("gone")
    assert sweep.after() == []
    hooks.trouble = None
    assert sweep.after(minutes=6) == ["a", "b"]
