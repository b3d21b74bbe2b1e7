"""Amounts as people see them."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from cynthus.money import of_limit, usd, usd_left
from cynthus.spec import Resources
from tests.builders import NOON, a_run, a_spec, an_attempt, an_offer, seconds
from webhook_server.runs.feed_facts import Feed
from webhook_server.runs.report import check_run


@pytest.mark.parametrize(
    ("amount", "told"),
    [("0", "$0.00"), ("0.000001", "$0.01"), ("0.41", "$0.41"), ("1234.501", "$1,234.51")],
)
def test_a_cost_is_rounded_up(amount: str, told: str) -> None:
    assert usd(Decimal(amount)) == told


def test_what_is_left_is_rounded_down() -> None:
    assert usd_left(Decimal("4.999")) == "$4.99"


def test_a_cost_is_told_with_its_limit() -> None:
    assert of_limit(Decimal("0.4101"), Decimal("5.00")) == "$0.42 of $5.00"
    assert of_limit(Decimal("0.4101"), None) == "$0.42"


def test_the_check_run_shows_the_cost_of_now_and_says_that_it_is_an_estimate() -> None:
    offer = an_offer(price_source="the price table")
    run = a_run(
        spec=a_spec(resources=Resources(max_cost_usd=Decimal(5))),
        attempts=(an_attempt(started_at=NOON, offer=offer),),
        cost_usd=Decimal("0.2"),
    )
    shown = check_run(run, Feed(), url="https://c.test/runs/1", now=NOON + seconds(420))
    assert shown.title.endswith("small here · $0.42 of $5.00 · at most 76 min left")
    assert "cost so far $0.20 of $5.00 · $3.60 an hour · an estimate by the price table" in (
        shown.summary
    )
    later = check_run(run, Feed(), url="https://c.test/runs/1", now=NOON + seconds(900))
    assert later.digest == shown.digest, "the clock alone is no news"


def test_a_certain_price_is_no_estimate() -> None:
    shown = check_run(replace(a_run()), Feed(), url="https://c.test/runs/1", now=NOON)
    assert "estimate" not in shown.summary
