"""Prices are fetched once a day, and sooner again when that failed."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from webhook_server.loops import price_step
from webhook_server.providers.gcp import Gcp
from webhook_server.providers.local import Local
from webhook_server.providers.provider import PriceKeeper, ProviderUnavailable

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Keeper:
    def __init__(self, *answers: int | ProviderUnavailable) -> None:
        self.answers = list(answers)
        self.days: list[date] = []

    def refresh_prices(self, today: date) -> int:
        self.days.append(today)
        answer = self.answers.pop(0)
        if isinstance(answer, ProviderUnavailable):
            raise answer
        return answer


def test_who_keeps_prices() -> None:
    assert issubclass(Gcp, PriceKeeper)
    assert not issubclass(Local, PriceKeeper)


def test_prices_are_fetched_daily_and_a_failure_is_repeated_within_the_hour() -> None:
    keeper = Keeper(ProviderUnavailable("away"), 700)
    step = price_step([keeper], lambda: NOON)
    assert step() == timedelta(hours=1).total_seconds()
    assert step() == timedelta(days=1).total_seconds()
    assert keeper.days == [date(2026, 11, 22)] * 2
