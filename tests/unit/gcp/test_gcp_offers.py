"""What is offered for a need, in which order, and what is said where nothing is."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from cynthus.spec import GpuNeed, Resources, Spot
from webhook_server.providers import gcp_shapes
from webhook_server.providers.gcp_offers import Market, offers
from webhook_server.providers.gcp_prices import shipped
from webhook_server.providers.gcp_quota import NONE_TOLD, Quotas, read_quotas
from webhook_server.providers.provider import NoCapacity, NothingFits, QuotaExceeded, Scope
from webhook_server.runs.lending import Offer

PLACES = ("us-central1", "europe-west4")


def market(quotas: Quotas = NONE_TOLD, **changes: Any) -> Market:
    given: dict[str, Any] = {
        "catalogue": gcp_shapes.fallback(),
        "prices": shipped(),
        "quotas": quotas,
    }
    return Market(**(given | changes))


def need(*gpus: str, **changes: Any) -> Resources:
    wanted = tuple(
        GpuNeed(kind, int(count or 1)) for kind, _, count in (gpu.partition(":") for gpu in gpus)
    )
    return Resources(gpu=wanted, **changes)


def offered(asked: Resources, places: tuple[str, ...] = PLACES, **changes: Any) -> list[Offer]:
    return offers(asked, places, market(**changes))


def regional(**limits: tuple[float, float]) -> Quotas:
    told = [{"metric": m, "limit": limit, "usage": used} for m, (limit, used) in limits.items()]
    return read_quotas([{"name": place, "quotas": told} for place in PLACES], None)


def test_an_offer_says_all_that_an_order_needs() -> None:
    first = offered(need("l4"))[0]
    assert (first.provider, first.place, first.machine) == ("gcp", "us-central1-a", "g2-standard-4")
    assert (first.gpu_type, first.gpu_count, first.cpu, first.spot) == ("l4", 1, 4, False)
    assert first.memory_bytes == 16 << 30
    # g2-standard-4 with 50 GiB of pd-balanced
    assert first.usd_per_hour == Decimal("0.713682")
    assert "2026-08-03" in first.price_source


def test_an_offer_promises_the_driver_only_with_a_gpu() -> None:
    for asked, driver in ((need("l4"), "580"), (need("a100"), ""), (need(), "")):
        found = offered(asked, drivers={"l4": "580", "t4": "570"})
        assert {offer.driver for offer in found} == {driver}


def test_places_come_in_the_users_order_and_in_each_the_cheapest_first() -> None:
    found = offered(need("l4"), ("europe-west4-b", "us-central1"))
    regions = [offer.place.rpartition("-")[0] for offer in found]
    assert regions == sorted(regions)  # europe-west4 before us-central1
    assert {offer.place for offer in found if "europe" in offer.place} == {"europe-west4-b"}
    for region in set(regions):
        prices = [offer.usd_per_hour for offer in found if offer.place.startswith(region)]
        assert prices == sorted(prices)


def test_in_a_place_the_users_preference_of_gpus_comes_before_the_price() -> None:
    found = offered(need("a100", "t4"), ("us-central1-a",))
    kinds = [offer.gpu_type for offer in found]
    assert kinds[0] == "a100-40gb"
    assert kinds.index("a100-80gb") < kinds.index("t4")
    assert offered(need("t4", "a100"), ("us-central1-a",))[0].gpu_type == "t4"


@pytest.mark.parametrize(
    ("spot", "ways"), [(Spot.NEVER, [False]), (Spot.ALWAYS, [True]), (Spot.PREFER, [True, False])]
)
def test_spot_of_all_places_comes_before_on_demand(spot: Spot, ways: list[bool]) -> None:
    found = [offer.spot for offer in offered(need("l4", spot=spot))]
    assert list(dict.fromkeys(found)) == ways
    assert found == sorted(found, reverse=True)


def test_an_n1_carries_attached_gpus_within_its_ceiling() -> None:
    found = offered(need("t4:2"), ("us-central1-a",))
    assert found[0].machine == "n1-standard-8+2xt4"
    assert found[0].gpu_count == 2
    assert all(offer.cpu <= 48 for offer in found)
    host = shipped().machine("us-central1", "n1-standard-8", spot=False)
    assert host is not None
    assert found[0].usd_per_hour == host + Decimal("0.70") + Decimal("0.006850")


def test_the_next_larger_number_of_gpus_is_offered_where_the_number_itself_is_not() -> None:
    assert {offer.gpu_count for offer in offered(need("l4:3"))} == {4}
    assert {offer.gpu_count for offer in offered(need("t4:3"))} == {4}


def test_what_needs_more_gets_a_larger_machine_and_nothing_wasteful() -> None:
    found = offered(need("l4", cpu=10, memory_bytes=40 * 10**9))
    assert found[0].machine == "g2-standard-12"
    assert all(offer.cpu >= 10 and offer.memory_bytes >= 40 * 10**9 for offer in found)
    assert max(offer.usd_per_hour for offer in found) < 3 * found[0].usd_per_hour


def test_a_run_without_gpu_gets_a_small_machine() -> None:
    first = offered(need())[0]
    assert (first.machine, first.gpu_type, first.gpu_count) == ("e2-standard-2", None, 0)
    assert first.usd_per_hour < Decimal("0.1")


def test_on_demand_is_not_offered_where_it_does_not_exist() -> None:
    one, eight = need("h100"), need("h100:8")
    assert {o.machine for o in offered(eight, ("us-central1",))} == {"a3-highgpu-8g"}
    spot = offered(replace(one, spot=Spot.PREFER), ("us-central1",))
    assert {(o.machine, o.spot) for o in spot} == {("a3-highgpu-1g", True)}
    with pytest.raises(NothingFits, match=r"resources/spot: .* a3-highgpu-1g, found false"):
        offered(one, ("us-central1",))


def test_an_address_costs_too() -> None:
    dearer = offered(need("l4"), address=True)[0].usd_per_hour
    assert dearer - offered(need("l4"))[0].usd_per_hour == Decimal("0.005")


@pytest.mark.parametrize(
    ("asked", "places", "told"),
    [
        (need("l40"), PLACES, r"resources/gpu: .*, found 1 x l40 where .* Did you mean l4\?"),
        (need("no-such-gpu"), PLACES, r"resources/gpu: .* found 1 x no-such-gpu .* Name one"),
        (need("l4:16"), PLACES, r"resources/gpu: .* found 16 x l4 where it has 1, 2, 4, 8 x l4\."),
        (need("b200"), PLACES, r"resources/gpu: .* found 1 x b200 where it has 8 x b200\."),
        (need("b200:8"), ("us-west1",), r"resources/places: .* It has them in .*us-central1"),
        (need("l4", cpu=1000), PLACES, r"resources/cpu: .* found 1000 where it has 32\."),
        (need("l4", memory_bytes=10**12), PLACES, r"resources/memory: .* where it has 137\.4 GB"),
        (need(disk_bytes=10**15), PLACES, r"resources/disk: .* found 1000000 GB where it has"),
        (need(), ("us-centrall1",), r"resources/places: .* Did you mean us-central1\?"),
        (need("h200:8"), ("us-central1",), r"known price, found a3-ultragpu"),
        (need("h200:8", spot=Spot.ALWAYS), ("us-central1",), r"known price, found a3-ultragpu"),
    ],
)
def test_what_never_fits_is_told_with_what_there_is(
    asked: Resources, places: tuple[str, ...], told: str
) -> None:
    with pytest.raises(NothingFits, match=told):
        offered(asked, places)


def test_cpus_and_memory_that_exist_apart_only_are_told_together() -> None:
    asked = need("v100", cpu=12, memory_bytes=100 * 10**9)  # one V100: 12 vCPUs, 78 GiB at most
    shapes = gcp_shapes.fallback()
    cards = {"us-central1-a": {"nvidia-tesla-v100": 1}}
    with pytest.raises(NothingFits, match=r"resources/memory: .* found 100\.0 GB where it has"):
        offered(asked, catalogue=replace(shapes, attachable=cards))


def test_a_quota_that_is_too_small_everywhere_is_named() -> None:
    with pytest.raises(QuotaExceeded, match=r"us-central1-a: .* NVIDIA_L4_GPUS is too small") as no:
        offered(need("l4"), quotas=regional(NVIDIA_L4_GPUS=(0, 0)))
    assert no.value.scope is Scope.REGION


def test_a_quota_that_is_used_up_is_waited_for() -> None:
    with pytest.raises(NoCapacity, match="NVIDIA_L4_GPUS is used up at present"):
        offered(need("l4"), quotas=regional(NVIDIA_L4_GPUS=(8, 8)))


def test_what_has_quota_is_offered_and_says_how_much() -> None:
    quotas = regional(NVIDIA_L4_GPUS=(0, 0), NVIDIA_T4_GPUS=(8, 5))
    found = offered(need("l4", "t4"), quotas=quotas)
    assert {offer.gpu_type for offer in found} == {"t4"}
    assert found[0].quota == "3 of 8 NVIDIA_T4_GPUS free"


def test_a_gang_needs_quota_for_all_its_instances() -> None:
    assert offered(need("l4", nodes=8), quotas=regional(NVIDIA_L4_GPUS=(8, 0)))
    with pytest.raises(QuotaExceeded):
        offered(need("l4", nodes=9), quotas=regional(NVIDIA_L4_GPUS=(8, 0)))
