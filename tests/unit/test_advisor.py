"""Whom a finished run's advice is asked of."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from cynthus.spec import GpuNeed, Resources
from tests.builders import NOON, a_run, a_spec, an_attempt
from tests.fake_provider import FakeProvider
from webhook_server.advisor import Advisor
from webhook_server.providers import gcp_shapes
from webhook_server.providers.gcp_offers import Market, offers
from webhook_server.providers.gcp_prices import shipped
from webhook_server.providers.gcp_quota import NONE_TOLD
from webhook_server.providers.provider import NothingFits, ProviderUnavailable
from webhook_server.runs.lending import Offer
from webhook_server.runs.model import Outcome, Run, State
from webhook_server.runs.usage import Usage, UsageMeter

MARKET = Market(catalogue=gcp_shapes.fallback(), prices=shipped(), quotas=NONE_TOLD)
AN_HOUR = timedelta(hours=1)


class GoogleLike(FakeProvider):
    """Offers as Google Cloud has them, by its real shapes and prices."""

    def offers(self, need: Resources) -> list[Offer]:
        super().offers(need)
        return offers(need, ("us-central1",), MARKET)


def ended(gpu: str) -> Run:
    need = Resources(gpu=(GpuNeed(gpu),))
    offer = offers(need, ("us-central1",), MARKET)[0]
    attempt = an_attempt(
        offer=replace(offer, provider="gcp"),
        started_at=NOON,
        ended_at=NOON + AN_HOUR,
        gone_at=NOON + AN_HOUR,
    )
    run = a_run(State.FINISHED, spec=a_spec(resources=need), attempts=(attempt,))
    return replace(run, outcome=Outcome.SUCCEEDED)


def idle(filled: float, whole: float) -> Usage:
    meter = UsageMeter()
    gpu = {"utilization_pct": 12, "memory_bytes": filled, "memory_total_bytes": whole}
    meter.add({"cpu_pct": 150.0, "memory_bytes": 6e9, "gpus": [gpu]})
    return meter.usage()


@pytest.mark.parametrize(
    ("gpu", "filled", "whole", "instead"),
    [
        ("a100-80gb", 14e9, 80e9, "l4"),
        ("a100-80gb", 30e9, 80e9, None),  # 45 GB with room to spare: no card between fits and pays
        ("l4", 4e9, 24e9, "t4"),
    ],
)
def test_an_idle_card_has_a_cheaper_one_on_google_cloud(
    gpu: str, filled: float, whole: float, instead: str | None
) -> None:
    provider = GoogleLike(lambda: NOON, "gcp")
    found = Advisor({"gcp": provider}).advise(ended(gpu), idle(filled, whole))
    assert (found and found.gpu) == instead


def test_a_cheaper_card_saves_what_the_price_lists_say() -> None:
    found = Advisor({"gcp": GoogleLike(lambda: NOON, "gcp")}).advise(
        ended("a100-80gb"), idle(14e9, 80e9)
    )
    assert found is not None
    assert "L4 us-central1-a (g2-standard-4) would have held it" in found.text


@pytest.mark.parametrize("fault", [NothingFits("none"), ProviderUnavailable("no answer")])
def test_a_provider_that_has_nothing_or_is_away_gives_no_advice(fault: Exception) -> None:
    provider = GoogleLike(lambda: NOON, "gcp")
    provider.fail("offers", fault)
    assert Advisor({"gcp": provider}).advise(ended("l4"), idle(4e9, 24e9)) is None


def test_nobody_is_asked_about_a_run_that_used_what_it_had_or_of_an_unknown_place() -> None:
    provider = GoogleLike(lambda: NOON, "gcp")
    provider.fail("offers", RuntimeError("nobody should ask"))
    used_up = ended("l4")
    free = replace(used_up.attempts[0].offer, usd_per_hour=Decimal(0))
    own = replace(used_up, attempts=(replace(used_up.attempts[0], offer=free),))
    assert Advisor({"gcp": provider}).advise(own, idle(4e9, 24e9)) is None
    assert Advisor({}).advise(used_up, idle(4e9, 24e9)) is None
    assert Advisor({"gcp": provider}).advise(used_up, Usage()) is None
