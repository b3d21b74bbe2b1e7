"""Which words mean which machines, and what the lists tell of them."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from webhook_server.providers import gcp_shapes
from webhook_server.providers.gcp_kept import PAUSE_S, Kept
from webhook_server.providers.gcp_machines import (
    GIB,
    GPUS,
    Gpu,
    boot_disk_type,
    gpus_named,
    is_spot_only,
    machine_text,
    nearest,
    read_catalogue,
    region_of,
    taken_apart,
)
from webhook_server.providers.provider import Misconfigured, ProviderUnavailable

BY_NAME = {gpu.name: gpu for gpu in GPUS}


@pytest.mark.parametrize(
    ("word", "models"),
    [
        ("l4", ["l4"]),
        ("nvidia-l4", ["l4"]),
        ("nvidia-tesla-t4", ["t4"]),
        ("tesla-t4", ["t4"]),
        ("a100", ["a100-40gb", "a100-80gb"]),
        ("nvidia-tesla-a100", ["a100-40gb"]),
        ("a100-80gb", ["a100-80gb"]),
        ("h100", ["h100", "h100-mega"]),
        ("h100-mega", ["h100-mega"]),
        ("h200", ["h200"]),
        ("l40", []),
        ("k80", []),
        ("", []),
    ],
)
def test_a_word_means_these_models(word: str, models: list[str]) -> None:
    assert [gpu.name for gpu in gpus_named(word)] == models


@pytest.mark.parametrize(
    ("word", "meant"),
    [("l40", "l4"), ("a100-80", "a100-80gb"), ("rtx6000", "rtx-pro-6000"), ("no-such-gpu", None)],
)
def test_a_word_that_is_near_one(word: str, meant: str | None) -> None:
    assert nearest(word, BY_NAME) == meant


@pytest.mark.parametrize("gpu", [gpu for gpu in GPUS if "tesla" in gpu.accelerator])
@pytest.mark.parametrize("count", [1, 16])
def test_an_offers_machine_can_be_taken_apart(gpu: Gpu, count: int) -> None:
    text = machine_text("n1-standard-8", gpu, count)
    assert taken_apart(text) == ("n1-standard-8", gpu, count)


def test_a_machine_without_attached_gpus_is_its_type() -> None:
    assert machine_text("g2-standard-8", None, 0) == "g2-standard-8"
    assert taken_apart("g2-standard-8") == ("g2-standard-8", None, 0)


@pytest.mark.parametrize(
    "text", ["n1-standard-8+", "n1-standard-8+t4", "n1-standard-8+2xk80", "n+²xt4"]
)
def test_no_other_form_is_taken(text: str) -> None:
    with pytest.raises(ValueError, match="TYPE or TYPE"):
        taken_apart(text)


@pytest.mark.parametrize(
    ("machine", "spot_only"),
    [
        ("a3-highgpu-1g", True),
        ("a3-highgpu-8g", False),
        ("a3-ultragpu-8g", True),
        ("a4-highgpu-8g", True),
        ("a2-highgpu-1g", False),
        ("g2-standard-4", False),
    ],
)
def test_some_machines_are_lent_as_spot_only(machine: str, spot_only: bool) -> None:
    assert is_spot_only(machine) is spot_only


def test_families_differ_in_their_disks() -> None:
    assert boot_disk_type("a4-highgpu-8g") == "hyperdisk-balanced"
    assert boot_disk_type("a2-highgpu-8g") == "pd-balanced"


def test_a_zone_is_in_its_region() -> None:
    assert region_of("europe-west4-b") == "europe-west4"


# ── the lists ───────────────────────────────────────────────────────────────────────────────────


def listed(name: str, gpu: str | None = None, **more: Any) -> tuple[str, dict[str, Any]]:
    built_in = [{"guestAcceleratorType": gpu, "guestAcceleratorCount": 1}] if gpu else []
    resource = {"name": name, "guestCpus": 4, "memoryMb": 16384, "accelerators": built_in, **more}
    return "us-central1-a", resource


def test_the_catalogue_is_what_the_lists_tell() -> None:
    catalogue = read_catalogue(
        [
            listed("g2-standard-4", "nvidia-l4"),
            listed("n1-standard-4"),
            listed("n1-ultramem-40"),
            listed("c3-standard-4"),
            listed("g4-standard-6", "nvidia-rtx-pro-6000"),  # a part of a GPU
            listed("n1-standard-8", deprecated={"state": "OBSOLETE"}),
            listed("n1-highmem-4", deprecated={"state": "DEPRECATED"}),
        ],
        [
            ("us-central1-a", {"name": "nvidia-tesla-t4", "maximumCardsPerInstance": 4}),
            ("us-central1-a", {"name": "nvidia-l4", "maximumCardsPerInstance": 8}),
            ("us-central1-b", {"name": "nvidia-tesla-t4-vws", "maximumCardsPerInstance": 4}),
        ],
    )
    [g2, n1, highmem] = catalogue.machines["us-central1-a"]
    assert (g2.name, g2.cpu, g2.memory_bytes) == ("g2-standard-4", 4, 16 * GIB)
    assert (g2.accelerator, g2.gpu_count) == ("nvidia-l4", 1)
    assert (n1.name, n1.accelerator, highmem.name) == ("n1-standard-4", None, "n1-highmem-4")
    assert catalogue.attachable == {"us-central1-a": {"nvidia-tesla-t4": 4}}
    assert catalogue.live


def test_whoever_may_not_read_the_lists_has_what_was_known() -> None:
    catalogue = gcp_shapes.fallback()
    assert not catalogue.live
    assert "us-central1-a" in catalogue.zones
    names = {machine.name for machine in catalogue.machines["us-central1-a"]}
    assert {"g2-standard-8", "a2-highgpu-1g", "n1-standard-8", "e2-standard-4"} <= names
    assert "a4-highgpu-8g" not in names  # that is in us-central1-b
    assert catalogue.attachable["us-central1-a"] == {"nvidia-tesla-t4": 4}


# ── what is kept ────────────────────────────────────────────────────────────────────────────────


class Source:
    def __init__(self) -> None:
        self.now = 0.0
        self.reads = 0
        self.asked = 0
        self.fault: Exception | None = None

    def read(self) -> int:
        self.asked += 1
        if self.fault:
            raise self.fault
        self.reads += 1
        return self.reads


def test_what_is_kept_is_read_again_when_it_is_old() -> None:
    source = Source()
    kept = Kept(source.read, 30.0, lambda: source.now)
    assert [kept.get(), kept.get()] == [1, 1]
    source.now = 29.9
    assert kept.get() == 1
    source.now = 30.0
    assert kept.get() == 2


def test_the_old_serves_while_the_service_is_away_but_not_while_we_are_wrong() -> None:
    source = Source()
    kept = Kept(source.read, 30.0, lambda: source.now)
    source.fault = ProviderUnavailable("away")
    with pytest.raises(ProviderUnavailable):
        kept.get()
    source.now, source.fault = PAUSE_S, None
    kept.get()
    source.now, source.fault = 100.0, ProviderUnavailable("away")
    assert kept.get() == 1
    source.now, source.fault = 100.0 + PAUSE_S, Misconfigured("wrong")
    with pytest.raises(Misconfigured):
        kept.get()


@pytest.mark.parametrize("known", [True, False])
def test_a_service_that_is_away_is_not_asked_by_everybody_in_turn(known: bool) -> None:
    source = Source()
    kept = Kept(source.read, 30.0, lambda: source.now)
    if known:
        kept.get()
    source.now, source.fault = 100.0, ProviderUnavailable("away")
    before = source.asked
    for _ in range(3):
        with contextlib.suppress(ProviderUnavailable):
            assert kept.get() == 1
            assert known
    assert source.asked == before + 1
    source.now, source.fault = 100.0 + PAUSE_S, None
    assert kept.get() == source.reads
