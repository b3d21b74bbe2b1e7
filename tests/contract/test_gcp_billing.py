"""The simulated price catalogue: Google's shape, and parts that make the machines' prices."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests

from simulators.gcp_catalogue import machine_types, prices
from simulators.gcp_skus import SERVICE, skus
from tests.contract.gcp_vms import Compute, a_compute, judged


@pytest.fixture(scope="module")
def module_compute(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compute]:
    with a_compute(tmp_path_factory.mktemp("gcp")) as compute:
        yield compute


@pytest.fixture
def compute(module_compute: Compute) -> Iterator[Compute]:
    with judged(module_compute) as one:
        yield one


def test_the_catalogue_comes_in_pages(compute: Compute) -> None:
    seen: list[str] = []
    token = ""
    while True:
        params = {"pageSize": "300", "pageToken": token, "key": "an-api-key"}
        answer = requests.get(f"{compute.sim.url}/v1/{SERVICE}/skus", params=params, timeout=60)
        body = answer.json()
        seen += [sku["skuId"] for sku in body["skus"]]
        token = body["nextPageToken"]
        if not token:
            break
    assert len(seen) == len(set(seen)) == len(skus())


def test_another_service_is_not_found(compute: Compute) -> None:
    answer = requests.get(f"{compute.sim.url}/v1/services/0000-0000-0000/skus", timeout=60)
    assert answer.status_code == 404
    assert answer.json()["error"]["status"] == "NOT_FOUND"


def usd(text: str, region: str, way: str) -> float:
    """Return the price of the one part that these words name."""
    (sku,) = [
        each
        for each in skus()
        if each["description"].startswith(text)
        and each["serviceRegions"] == [region]
        and each["category"]["usageType"] == way
    ]
    price = sku["pricingInfo"][0]["pricingExpression"]["tieredRates"][0]["unitPrice"]
    return int(price["units"]) + float(price["nanos"]) / 10**9


@pytest.mark.parametrize("way", ["OnDemand", "Preemptible"])
@pytest.mark.parametrize(
    ("machine", "family", "gpu"),
    [
        ("n1-standard-8", "N1 Predefined Instance", ""),
        ("n1-highmem-16", "N1 Predefined Instance", ""),
        ("e2-standard-8", "E2 Instance", ""),
        ("g2-standard-4", "G2 Instance", "Nvidia L4 GPU"),
        ("g2-standard-48", "G2 Instance", "Nvidia L4 GPU"),
        ("g4-standard-96", "G4 Instance", "Nvidia RTX PRO 6000 GPU"),
        ("a2-highgpu-4g", "A2 Instance", "Nvidia Tesla A100 GPU"),
        ("a2-ultragpu-8g", "A2 Instance", "Nvidia Tesla A100 80GB GPU"),
        ("a3-highgpu-8g", "A3 Instance", "Nvidia H100 80GB GPU"),
    ],
)
def test_the_parts_make_the_price_of_the_whole(
    machine: str, family: str, gpu: str, way: str
) -> None:
    start = "Spot Preemptible " if way == "Preemptible" else ""
    tail = " attached to Spot Preemptible VMs" if way == "Preemptible" else ""
    shape = machine_types()[machine]
    for region in ("us-central1", "europe-west4"):
        price = prices()[region, machine]
        parts = shape.cpus * usd(f"{start}{family} Core", region, way)
        parts += shape.memory_mb / 1024 * usd(f"{start}{family} Ram", region, way)
        if gpu:
            parts += shape.gpus * usd(f"{gpu}{tail} running", region, way)
        whole = price.spot if way == "Preemptible" else price.on_demand
        assert parts == pytest.approx(whole, rel=0.001)


def test_nothing_is_sold_for_less_than_nothing() -> None:
    for sku in skus():
        price = sku["pricingInfo"][0]["pricingExpression"]["tieredRates"][0]["unitPrice"]
        assert int(price["units"]) * 10**9 + price["nanos"] > 0, sku["description"]
