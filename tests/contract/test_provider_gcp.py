"""The provider `gcp` on a simulated Compute Engine: good days, bad days, and what they must not do.

The official client is unmodified; every request and answer is judged by Google's own description.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from google.cloud import compute_v1

from cynthus.errors import UserError
from cynthus.spec import GpuNeed, Resources, Spot
from tests.contract.google_description import judge_exchanges
from tests.gcp_fixture import GcpSimulator, gcp_simulator
from webhook_server.providers import gcp, gcp_client, gcp_memory
from webhook_server.providers.gcp import Gcp
from webhook_server.providers.gcp_kept import Kept
from webhook_server.providers.gcp_machines import NAMES, Catalogue, read_catalogue
from webhook_server.providers.gcp_order import LABEL_PLANE, request_id
from webhook_server.providers.provider import (
    Fate,
    InstanceNotFound,
    Misconfigured,
    NoCapacity,
    NothingFits,
    Provider,
    ProviderRefusal,
    ProviderUnavailable,
    QuotaExceeded,
    Scope,
)
from webhook_server.providers.registry import Server, configured, open_provider
from webhook_server.runs.lending import Offer, Order
from webhook_server.settings import Settings

IMAGE = f"us-docker.pkg.dev/cynthus/agent/agent@sha256:{'0' * 64}"
SECRET = "cye_canary-of-the-enrolment-secret"
NO_DELAYS = ("provisioning_s", "staging_s", "stopping_s", "grace_s", "preempt_s")
_numbers = itertools.count(1)


class Town:
    """One control plane in the simulated project."""

    def __init__(self, sim: GcpSimulator, folder: Path, catalogue: Kept[Catalogue]) -> None:
        self.sim = sim
        self.catalogue = catalogue
        self.folder = folder
        self.number = next(_numbers)
        self.plane = f"plane{self.number}"
        self.now = 0.0
        self.gcp = self.opened()

    def opened(self, plane: str = "", **changes: Any) -> Gcp:
        """Return the provider of a server that has just started."""
        given: dict[str, Any] = {
            "state_dir": self.folder,
            "gcp_project": self.sim.project,
            "gcp_compute_url": self.sim.url,
            "gcp_billing_url": self.sim.url,
            "gcp_service_account": f"runner@{self.sim.project}.iam.gserviceaccount.com",
            "gcp_agent_image": IMAGE,
        }
        settings = Settings(**(given | changes))
        plane = plane or self.plane
        made = gcp.opened(settings, "https://cynthus.example", plane, clock=lambda: self.now)
        if not changes:  # the lists are the same for all and take a second to read
            made._catalogue = self.catalogue
        return made

    def name(self, word: str = "run") -> str:
        return f"cynthus-{word}{self.number}-1"

    def order(self, name: str | None = None, offer: Offer | None = None, **changes: Any) -> Order:
        given: dict[str, Any] = {
            "name": name or self.name(),
            "run_id": f"arun{self.number}",
            "attempt": 1,
            "repository_id": 4711,
            "offer": offer or self.offers()[0],
            "need": Resources(gpu=(GpuNeed("l4"),)),
            "max_life": timedelta(hours=2),
        }
        return Order(**(given | changes))

    def offers(self, spot: Spot = Spot.NEVER, *places: str) -> list[Offer]:
        need = Resources(gpu=(GpuNeed("l4"),), spot=spot, places=places or ("us-central1",))
        return self.gcp.offers(need)

    def running(self, spot: Spot = Spot.NEVER) -> str:
        """Order an instance and return its name once it runs."""
        order = self.order(offer=self.offers(spot)[0])
        self.gcp.create(order, SECRET)
        assert self.gcp.get(order.name).fate is Fate.RUNNING
        return order.name

    def asked(self, verb: str) -> list[dict[str, Any]]:
        """Return the exchanges of one verb that carry this control plane's mark."""
        lines = self.sim.exchanges.read_text().splitlines()
        found = [json.loads(line) for line in lines]
        return [one for one in found if one["verb"] == verb and f"'{self.plane}'" in str(one)]

    def raw(self, zone: str, name: str) -> compute_v1.Instance:
        client = self.sim.client(compute_v1.InstancesClient)
        return client.get(project=self.sim.project, zone=zone, instance=name)


@pytest.fixture(scope="module")
def sim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GcpSimulator]:
    with gcp_simulator(tmp_path_factory.mktemp("gcp")) as simulator:
        simulator.post("/settings", dict.fromkeys(NO_DELAYS, 0))
        yield simulator


@pytest.fixture(scope="module")
def catalogue(sim: GcpSimulator) -> Kept[Catalogue]:
    account = gcp_client.Account(project=sim.project, compute_url=sim.url)
    door = gcp_client.Door(account)

    def read() -> Catalogue:
        return read_catalogue(door.machine_types(f'name eq "{NAMES}"'), door.accelerator_types())

    return Kept(read, gcp.CATALOGUE_FOR_S, lambda: 0.0)


@pytest.fixture
def town(sim: GcpSimulator, catalogue: Kept[Catalogue], tmp_path: Path) -> Iterator[Town]:
    sim.exchanges.touch()
    begin = sim.exchanges.stat().st_size
    yield Town(sim, tmp_path, catalogue)
    sim.sim("DELETE", "/faults")
    with sim.exchanges.open() as file:
        file.seek(begin)
        assert judge_exchanges(file) == []


def gone(provider: Provider, name: str, tries: int = 10) -> InstanceNotFound:
    """Delete until the provider says that nothing is left; return what it said."""
    for _ in range(tries):
        try:
            provider.delete(name)
        except InstanceNotFound as refusal:
            return refusal
    raise AssertionError(f"{name} is still there")


def refused(provider: Provider, name: str) -> ProviderRefusal:
    with pytest.raises(ProviderRefusal) as refusal:
        provider.get(name)
    return refusal.value


# ── ordering ────────────────────────────────────────────────────────────────────────────────────


def test_an_order_becomes_an_instance_that_costs_what_was_offered(town: Town) -> None:
    order = town.order()
    first = town.gcp.create(order, SECRET)
    assert (first.name, first.place, first.fate) == (order.name, order.offer.place, Fate.STARTING)
    seen = town.gcp.get(order.name)
    assert (seen.fate, seen.alive, seen.kind) == (Fate.RUNNING, True, "instance")
    assert seen.usd_per_hour == order.offer.usd_per_hour
    assert seen.vendor_id == first.vendor_id == str(town.raw(seen.place, seen.name).id)
    assert town.gcp.list() == [seen]


def test_a_spot_order_ends_with_its_preemption_and_with_its_time(town: Town) -> None:
    name = town.running(Spot.ALWAYS)
    scheduling = town.raw("us-central1-a", name).scheduling
    assert scheduling.provisioning_model == "SPOT"
    assert scheduling.instance_termination_action == "DELETE"
    assert scheduling.max_run_duration.seconds == 7200
    assert not scheduling.automatic_restart


def test_attached_gpus_local_ssds_and_families_are_ordered_as_google_wants_them(town: Town) -> None:
    needs = (
        Resources(gpu=(GpuNeed("t4", 2),), places=("us-central1",)),
        Resources(gpu=(GpuNeed("a100-80gb", 1),), places=("us-central1",)),
        Resources(gpu=(GpuNeed("h100", 8),), places=("us-central1",)),
        Resources(gpu=(GpuNeed("h100", 1),), places=("us-central1",), spot=Spot.ALWAYS),
        Resources(gpu=(GpuNeed("rtx-pro-6000", 1),), places=("us-central1",)),
        Resources(cpu=4, places=("us-central1",)),
        Resources(cpu=4, places=("us-central1",), spot=Spot.ALWAYS),
        Resources(gpu=(GpuNeed("p100", 1),), places=("us-central1",)),
        Resources(gpu=(GpuNeed("v100", 8),), places=("us-central1",)),
    )
    for number, need in enumerate(needs):
        order = town.order(town.name(f"n{number}x"), town.gcp.offers(need)[0], need=need)
        town.gcp.create(order, SECRET)
        seen = town.gcp.get(order.name)
        assert seen.fate is Fate.RUNNING, order.offer
        assert seen.usd_per_hour == order.offer.usd_per_hour


def test_nothing_secret_and_no_address_goes_with_an_instance(town: Town) -> None:
    name = town.running()
    [exchange] = town.asked("compute.instances.insert")
    assert SECRET not in json.dumps(exchange)
    made = town.raw("us-central1-a", name)
    assert {item.key for item in made.metadata.items} == {
        "user-data",
        "block-project-ssh-keys",
        "serial-port-enable",
    }
    assert not made.network_interfaces[0].access_configs
    [boot] = [item.value for item in made.metadata.items if item.key == "user-data"]
    assert "driver=R580\n" in boot  # what its offer promised
    assert made.shielded_instance_config.enable_secure_boot
    assert made.labels[LABEL_PLANE] == town.plane


KMS_KEY = "projects/acme/locations/{}/keyRings/ours/cryptoKeys/disks"


def test_a_key_of_the_operator_encrypts_the_instances_disk(town: Town) -> None:
    order = town.order()
    key = KMS_KEY.format("us-central1")
    town.opened(gcp_kms_key=key).create(order, SECRET)
    [attached] = town.raw("us-central1-a", order.name).disks
    assert attached.disk_encryption_key.kms_key_name == f"{key}/cryptoKeyVersions/1"
    disks = town.sim.client(compute_v1.DisksClient)
    disk = disks.get(project=town.sim.project, zone="us-central1-a", disk=order.name)
    assert disk.disk_encryption_key.kms_key_name == f"{key}/cryptoKeyVersions/1"


def test_a_key_of_another_region_is_told_as_our_own_fault(town: Town) -> None:
    elsewhere = town.opened(gcp_kms_key=KMS_KEY.format("europe-west4"))
    with pytest.raises(Misconfigured, match="not the disk's region"):
        elsewhere.create(town.order(), SECRET)


def test_an_order_twice_is_one_instance_also_after_a_restart(town: Town) -> None:
    order = town.order()
    first = town.gcp.create(order, SECRET)
    again = town.opened().create(order, SECRET)
    assert again.vendor_id == first.vendor_id
    ids = {e["query"].partition("requestId=")[2] for e in town.asked("compute.instances.insert")}
    assert ids == {request_id(town.plane, order.name)}
    assert [one.name for one in town.gcp.list()] == [order.name]


def test_an_order_whose_id_was_forgotten_is_adopted(town: Town) -> None:
    order = town.order()
    first = town.gcp.create(order, SECRET)
    town.sim.post("/clock", advance_s=3700)  # longer than request ids are remembered
    adopted = town.opened().create(order, SECRET)
    assert (adopted.vendor_id, adopted.fate) == (first.vendor_id, Fate.RUNNING)


@pytest.mark.case("P14")
def test_a_name_that_another_has_is_never_adopted(town: Town) -> None:
    order = town.order()
    other = town.opened(f"{town.plane}x")
    other.create(order, SECRET)
    with pytest.raises(Misconfigured, match="is taken by an instance that this server did not"):
        town.gcp.create(order, SECRET)
    assert isinstance(refused(town.opened(), order.name), InstanceNotFound)
    with pytest.raises(InstanceNotFound):
        town.opened().delete(order.name)
    assert town.gcp.list() == []
    assert [one.name for one in other.list()] == [order.name]


# ── orders that cannot be met ───────────────────────────────────────────────────────────────────


def fails(town: Town, kind: str, **more: Any) -> str:
    """Order while a fault strikes this name; return the name."""
    name = town.name()
    town.sim.fault(kind, {"name": name}, **more)
    town.gcp.create(town.order(name), SECRET)
    return name


@pytest.mark.case("P1")
@pytest.mark.parametrize("leaves", ["nothing", "stopped"])
@pytest.mark.parametrize(
    ("code", "scope"),
    [
        ("ZONE_RESOURCE_POOL_EXHAUSTED", Scope.ZONE),
        ("RESOURCE_POOL_EXHAUSTED", Scope.ZONE),
        ("GPU_STOCKOUT", Scope.ZONE),
        ("REGION_RESOURCE_POOL_EXHAUSTED", Scope.REGION),
        ("RESOURCE_NOT_FOUND", Scope.ZONE),
        ("UNSUPPORTED_OPERATION", Scope.ZONE),
        ("IP_SPACE_EXHAUSTED_WITH_DETAILS", Scope.REGION),
    ],
)
def test_want_of_capacity_is_told_by_get_and_leaves_nothing(
    town: Town, code: str, scope: Scope, leaves: str
) -> None:
    name = fails(town, "insert_fails", code=code, http=503, leaves=leaves)
    for provider in (town.gcp, town.opened()):
        refusal = refused(provider, name)
        assert isinstance(refusal, NoCapacity)
        assert refusal.scope is scope
    gone(town.gcp, name)
    assert town.gcp.list() == []


@pytest.mark.case("P1")
def test_a_stockout_with_details_says_where_to_go_and_the_next_zone_has_it(town: Town) -> None:
    name = fails(town, "stockout", details=True, zones=["us-central1-b", "us-central1-c"])
    refusal = refused(town.gcp, name)
    assert isinstance(refusal, NoCapacity)
    assert refusal.elsewhere == ("us-central1-b", "us-central1-c")
    gone(town.gcp, name)
    here, there = (
        next(offer for offer in town.offers() if offer.place.endswith(letter)) for letter in "bc"
    )
    second = town.order(town.name("second"), here)
    town.sim.fault("stockout", {"name": second.name})
    town.gcp.create(second, SECRET)
    assert isinstance(refused(town.gcp, second.name), NoCapacity)
    gone(town.gcp, second.name)
    third = town.order(town.name("third"), there)
    town.gcp.create(third, SECRET)
    assert town.gcp.get(third.name).fate is Fate.RUNNING
    assert [one.name for one in town.gcp.list()] == [third.name]


@pytest.mark.case("P2")
@pytest.mark.parametrize("answer", ["operation", "http"])
@pytest.mark.parametrize("everywhere", [False, True])
def test_a_quota_is_named_however_it_is_told(town: Town, answer: str, everywhere: bool) -> None:
    name = town.name()
    town.sim.fault("quota", {"name": name}, answer=answer, **{"global": everywhere})
    order = town.order(name)

    def order_and_look() -> None:
        town.gcp.create(order, SECRET)
        town.gcp.get(name)

    with pytest.raises(QuotaExceeded) as refusal:
        order_and_look()
    assert refusal.value.scope is (Scope.EVERYWHERE if everywhere else Scope.REGION)
    assert ("GPUS_ALL_REGIONS" if everywhere else "NVIDIA_L4_GPUS") in str(refusal.value)
    gone(town.gcp, name)


@pytest.mark.case("P8")
def test_a_preemption_while_starting_is_one_and_its_stopped_remains_go(town: Town) -> None:
    sim, order = town.sim, town.order(offer=town.offers(Spot.ALWAYS)[0])
    sim.post("/settings", provisioning_s=60)
    try:
        town.gcp.create(order, SECRET)
        assert town.gcp.get(order.name).fate is Fate.STARTING
        sim.post(f"/instances/{order.name}/preempt")
    finally:
        sim.post("/settings", provisioning_s=0)
    left = town.opened().get(order.name)
    assert (left.fate, left.alive) == (Fate.PREEMPTED, False)
    assert "preempted while it started" in left.detail
    gone(town.gcp, order.name)
    assert town.gcp.list() == []


def test_our_own_fault_ends_the_order_at_once(town: Town) -> None:
    bad = town.order(offer=replace(town.offers()[0], machine="n1-standard-96+1xv100"))
    with pytest.raises(Misconfigured, match="finds fault with the order"):
        town.gcp.create(bad, SECRET)
    assert len(town.asked("compute.instances.insert")) == 1


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (400, "invalid", Misconfigured),
        (401, "authError", Misconfigured),
        (403, "forbidden", Misconfigured),
        (403, "rateLimitExceeded", ProviderUnavailable),
        (429, "rateLimitExceeded", ProviderUnavailable),
        (500, "backendError", ProviderUnavailable),
        (503, "backendError", ProviderUnavailable),
    ],
)
def test_a_refused_insert_is_sent_once_and_can_be_sent_again(
    town: Town, code: int, reason: str, kind: type[Exception]
) -> None:
    order = town.order()
    verb = "compute.instances.insert"
    town.sim.fault("error", {"verb": verb}, code=code, reason=reason)
    with pytest.raises(kind):
        town.gcp.create(order, SECRET)
    assert len(town.sim.sim("GET", "/faults")) == 1
    town.gcp.create(order, SECRET)
    assert town.gcp.get(order.name).fate is Fate.RUNNING


def test_a_zone_without_the_machine_is_passed_by(town: Town) -> None:
    elsewhere = town.order(offer=replace(town.offers()[0], place="us-central1-f"))
    with pytest.raises(NoCapacity, match="machineTypes") as refusal:
        town.gcp.create(elsewhere, SECRET)
    assert refusal.value.scope is Scope.ZONE


def test_an_image_that_does_not_exist_is_our_fault(town: Town) -> None:
    wrong = town.opened(gcp_image="projects/cos-cloud/global/images/family/cos-nothing")
    with pytest.raises(Misconfigured, match="cos-nothing"):
        wrong.create(town.order(), SECRET)


# ── answers that are lost ───────────────────────────────────────────────────────────────────────


def test_an_order_that_was_done_although_its_answer_was_lost(town: Town) -> None:
    order = town.order()
    town.sim.fault("lost", {"verb": "compute.instances.insert"})
    with pytest.raises(ProviderUnavailable):
        town.gcp.create(order, SECRET)
    fresh = town.opened()
    assert fresh.get(order.name).fate is Fate.RUNNING
    fresh.create(order, SECRET)
    assert [one.name for one in fresh.list()] == [order.name]


def test_an_order_that_was_never_done(town: Town) -> None:
    order = town.order()
    town.sim.fault("error", {"verb": "compute.instances.insert"}, code=502, body="<html>proxy")
    with pytest.raises(ProviderUnavailable):
        town.gcp.create(order, SECRET)
    assert isinstance(refused(town.gcp, order.name), InstanceNotFound)
    town.gcp.create(order, SECRET)
    assert town.gcp.get(order.name).fate is Fate.RUNNING


def test_an_order_that_is_stuck_is_starting_and_not_gone(town: Town) -> None:
    order = town.order()
    town.sim.fault("stuck", {"name": order.name}, seconds=600, effect=False)
    town.gcp.create(order, SECRET)
    for provider in (town.gcp, town.opened()):
        assert provider.get(order.name).fate is Fate.STARTING
        provider.delete(order.name)  # nothing to delete yet, and not gone either
    town.sim.post("/clock", advance_s=601)
    assert isinstance(refused(town.gcp, order.name), ProviderUnavailable)  # INTERNAL_ERROR
    assert "Internal error" in str(gone(town.gcp, order.name, tries=1))  # failed, so not late


@pytest.mark.case("P6")
def test_what_no_list_shows_yet_is_not_gone(town: Town) -> None:
    order = town.order()
    town.sim.fault("invisible", {"name": order.name}, seconds=20)
    town.gcp.create(order, SECRET)
    for provider in (town.gcp, town.opened()):
        assert provider.get(order.name).fate is Fate.STARTING
        provider.delete(order.name)
    town.sim.post("/clock", advance_s=21)
    assert town.opened().get(order.name).fate is Fate.RUNNING
    gone(town.gcp, order.name)


# ── what becomes of instances ───────────────────────────────────────────────────────────────────


def test_a_preempted_instance_is_gone_and_says_why(town: Town) -> None:
    name = town.running(Spot.ALWAYS)
    town.sim.post(f"/instances/{name}/preempt")
    for provider in (town.gcp, town.opened()):
        refusal = refused(provider, name)
        assert isinstance(refusal, InstanceNotFound)
        assert refusal.fate is Fate.PREEMPTED
        assert "preempted by Google Cloud" in str(refusal)
    assert gone(town.gcp, name).fate is Fate.PREEMPTED
    assert town.gcp.list() == []


def test_a_preempted_instance_that_is_still_ending_says_so(town: Town) -> None:
    name = town.running(Spot.ALWAYS)
    town.sim.post("/settings", stopping_s=30)
    try:
        town.sim.post(f"/instances/{name}/preempt")
        seen = town.gcp.get(name)
    finally:
        town.sim.post("/settings", stopping_s=0)
        town.sim.post("/clock", advance_s=31)
    assert (seen.fate, seen.alive) == (Fate.PREEMPTED, True)


def test_a_failed_host_leaves_a_stopped_instance_that_still_costs_its_disk(town: Town) -> None:
    name = town.running()
    town.sim.post(f"/instances/{name}/host_error")
    seen = town.gcp.get(name)
    assert (seen.fate, seen.alive) == (Fate.HOST_ERROR, False)
    assert seen.usd_per_hour is not None
    assert Decimal(0) < seen.usd_per_hour < Decimal("0.02")
    gone(town.gcp, name)


@pytest.mark.parametrize(
    ("deed", "fate", "text"),
    [("stop", Fate.STOPPED, "stopped by"), ("delete", None, "deleted by")],
)
def test_what_somebody_did_by_hand_is_told(
    town: Town, deed: str, fate: Fate | None, text: str
) -> None:
    name = town.running()
    client = town.sim.client(compute_v1.InstancesClient)
    act = getattr(client, f"{deed}_unary")
    act(project=town.sim.project, zone="us-central1-a", instance=name)
    if fate is None:
        refusal = refused(town.gcp, name)
        assert isinstance(refusal, InstanceNotFound)
        assert text in str(refusal)
        return
    seen = town.gcp.get(name)
    assert (seen.fate, seen.alive) == (fate, False)
    assert text in seen.detail


@pytest.mark.case("P7")
def test_a_suspended_instance_is_not_gone(town: Town) -> None:
    need = Resources(cpu=2, places=("us-central1",))
    order = town.order(offer=town.gcp.offers(need)[0], need=need)
    town.gcp.create(order, SECRET)
    town.gcp.get(order.name)
    client = town.sim.client(compute_v1.InstancesClient)
    client.suspend_unary(project=town.sim.project, zone=order.offer.place, instance=order.name)
    seen = town.gcp.get(order.name)
    assert (seen.fate, seen.alive) == (Fate.SUSPENDED, False)
    gone(town.gcp, order.name)


@pytest.mark.case("P17")
def test_every_instance_dies_at_its_own_limit_with_nobody_there(town: Town) -> None:
    name = town.running()
    town.sim.post("/clock", advance_s=7201)
    refusal = refused(town.opened(), name)
    assert isinstance(refusal, InstanceNotFound)
    assert "ended at its own time limit" in str(refusal)


def test_what_was_seen_and_vanished_is_gone_at_once_and_after_a_while_for_a_new_server(
    town: Town,
) -> None:
    name = town.running()
    fresh = town.opened()
    town.sim.post(f"/instances/{name}/vanish")
    assert isinstance(refused(town.gcp, name), InstanceNotFound)
    assert fresh.get(name).fate is Fate.STARTING  # it cannot know that it ever was there
    town.now += gcp_memory.HIDDEN_FOR_S
    assert isinstance(refused(fresh, name), InstanceNotFound)
    assert gone(fresh, name, tries=1)


# ── lists ───────────────────────────────────────────────────────────────────────────────────────


def test_a_list_holds_what_instances_left_behind_with_its_cost(town: Town) -> None:
    name, kept = town.running(), town.name("kept")
    town.gcp.create(town.order(kept), SECRET)
    town.gcp.get(kept)
    town.sim.fault("leaves_disk", {"name": name})
    town.gcp.delete(name)
    listed = {one.name: one for one in town.gcp.list()}
    assert set(listed) == {name, kept}
    left = listed[name]
    assert (left.kind, left.alive, left.place) == ("disk", False, "us-central1-a")
    assert left.usd_per_hour == Decimal("0.006850")
    assert isinstance(refused(town.gcp, name), InstanceNotFound)
    gone(town.gcp, name)
    assert [one.name for one in town.gcp.list()] == [kept]


def test_an_address_with_our_mark_is_listed_and_deleted(town: Town) -> None:
    name = town.name()
    client = town.sim.client(compute_v1.AddressesClient)
    client.insert_unary(
        project=town.sim.project,
        region="us-central1",
        address_resource=compute_v1.Address(name=name, labels={LABEL_PLANE: town.plane}),
    )
    [left] = town.gcp.list()
    assert (left.name, left.kind, left.usd_per_hour) == (name, "address", Decimal("0.005"))
    gone(town.gcp, name)
    assert town.gcp.list() == []


@pytest.mark.case("P14")
def test_each_control_plane_sees_its_own_only(town: Town) -> None:
    other = town.opened(f"{town.plane}x")
    name = town.running()
    assert other.list() == []
    assert isinstance(refused(other, name), InstanceNotFound)


def test_a_part_of_a_list_is_no_list(town: Town) -> None:
    town.running()
    town.sim.fault("partial_list", zones=["us-central1-a"])
    with pytest.raises(ProviderUnavailable):
        town.gcp.list()
    assert len(town.gcp.list()) == 1


@pytest.mark.case("P12")
def test_a_list_of_many_pages_is_whole_or_none(town: Town) -> None:
    order = town.order()
    for number in range(5):
        town.gcp.create(replace(order, name=town.name(f"p{number}x")), SECRET)
    from webhook_server.providers import gcp_client

    door = gcp_client.Door(
        gcp_client.Account(project=town.sim.project, compute_url=town.sim.url), page_size=2
    )
    condition = f"labels.{LABEL_PLANE}={town.plane}"
    assert len(door.instances(condition)) == 5
    verb = "compute.instances.aggregatedList"
    town.sim.fault("error", {"verb": verb, "query": "pageToken"}, code=500, after=1)
    with pytest.raises(gcp_client.ApiError):
        door.instances(condition)


@pytest.mark.case("P3")
@pytest.mark.parametrize("code", [429, 503])
def test_a_short_outage_of_reading_is_bridged(town: Town, code: int) -> None:
    name = town.running()
    town.sim.fault("error", {"verb": "compute.instances.*"}, code=code, times=2)
    assert town.gcp.get(name).fate is Fate.RUNNING


# ── deleting ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.case("P9")
@pytest.mark.parametrize("code", [403, 500, 503])
def test_a_refused_delete_is_told_and_the_instance_stays(town: Town, code: int) -> None:
    name = town.running()
    town.sim.fault("error", {"verb": "compute.instances.delete"}, code=code, reason="forbidden")
    with pytest.raises(ProviderUnavailable, match=f"HTTP {code}"):
        town.gcp.delete(name)
    assert town.gcp.get(name).alive
    gone(town.gcp, name)


def test_a_delete_that_fails_later_is_sent_again(town: Town) -> None:
    name = town.running()
    town.sim.fault("delete_fails", {"name": name})
    town.gcp.delete(name)
    assert town.gcp.get(name).alive
    gone(town.gcp, name)


@pytest.mark.case("P10")
def test_permission_lost_says_nothing_of_the_instance(town: Town) -> None:
    name = town.running()
    town.sim.fault("error", code=403, reason="forbidden", times=-1)
    for ask in (town.gcp.get, town.gcp.delete):
        with pytest.raises(ProviderUnavailable, match="403"):
            ask(name)
    with pytest.raises(ProviderUnavailable, match="403"):
        town.gcp.list()


def test_a_server_that_may_only_order_still_can(town: Town) -> None:
    town.gcp = town.opened(state_dir=town.folder)  # with no list read before
    verbs = "compute.(machineTypes|acceleratorTypes|regions|projects)[.].*"
    town.sim.fault("error", {"verb": verbs}, code=403, reason="forbidden", times=-1)
    first = town.offers()[0]
    assert first.quota == ""
    order = town.order(offer=first)
    town.gcp.create(order, SECRET)
    assert town.gcp.get(order.name).fate is Fate.RUNNING


def test_nobody_answers(town: Town) -> None:
    away = town.opened(gcp_compute_url="http://127.0.0.1:9")
    with pytest.raises(ProviderUnavailable):
        away.create(town.order(), SECRET)
    for ask in (away.list, lambda: away.get("cynthus-x-1"), lambda: away.offers(Resources())):
        with pytest.raises(ProviderUnavailable):
            ask()


def test_a_server_without_credentials_says_how_to_get_them(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = town.order()
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(town.folder / "none.json"))
    lost = town.opened(gcp_compute_url="")
    with pytest.raises(Misconfigured, match="set GOOGLE_APPLICATION_CREDENTIALS"):
        lost.create(order, SECRET)
    for ask in (lost.list, lambda: lost.get(order.name), lambda: lost.delete(order.name)):
        with pytest.raises(ProviderUnavailable, match="no credentials"):
            ask()


@pytest.mark.parametrize("missing", ["gcp_project", "gcp_service_account"])
def test_a_setting_that_is_missing_ends_the_start(tmp_path: Path, missing: str) -> None:
    given = {"gcp_project": "p", "gcp_service_account": "a@p.iam.gserviceaccount.com"}
    settings = Settings(state_dir=tmp_path, **(given | {missing: ""}))  # type: ignore[arg-type]
    server = Server(url="https://cynthus.example", control_plane="plane")
    with pytest.raises(UserError, match=f"CYNTHUS_{missing.upper()}: should name"):
        open_provider("gcp", settings, server)
    # A project is also named for outputs alone; who wants instances by default is told.
    assert "gcp" not in configured(settings)
    wanted = replace(settings, provider="gcp")
    assert ("gcp" in configured(wanted)) is (missing == "gcp_service_account")


# ── many at once ────────────────────────────────────────────────────────────────────────────────


def test_many_are_ordered_at_once(town: Town) -> None:
    need = Resources(cpu=2, places=("us-central1",))
    order = town.order(offer=town.gcp.offers(need)[0], need=need)
    orders = [replace(order, name=town.name(f"m{number}x")) for number in range(200)]
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda one: town.gcp.create(one, SECRET), orders))
        seen = list(threads.map(lambda one: town.gcp.get(one.name), orders))
    assert len({one.vendor_id for one in made}) == 200
    assert {one.fate for one in seen} <= {Fate.STARTING, Fate.RUNNING}
    assert len(town.gcp.list()) == 200
    assert len(town.asked("compute.instances.insert")) == 200


# ── prices ──────────────────────────────────────────────────────────────────────────────────────


def test_prices_are_refreshed_from_the_billing_catalogue(town: Town) -> None:
    before = town.offers()[0]
    assert town.gcp.refresh_prices(date(2026, 11, 22)) > 500
    town.now += gcp.PRICES_FOR_S
    after = town.offers()[0]
    assert "Cloud Billing Catalog of 2026-11-22" in after.price_source
    assert (after.place, after.machine) == (before.place, before.machine)
    assert abs(after.usd_per_hour / before.usd_per_hour - 1) < Decimal("0.02")


def test_prices_that_cannot_be_refreshed_stay(town: Town) -> None:
    before = town.offers()[0]
    town.sim.fault("error", {"verb": "cloudbilling.*"}, code=503, times=-1)
    with pytest.raises(ProviderUnavailable):
        town.gcp.refresh_prices(date(2026, 11, 22))
    town.now += gcp.PRICES_FOR_S
    assert town.offers()[0] == before


def test_a_broken_price_file_is_told_and_hides_nothing(town: Town) -> None:
    (town.folder / "gcp_prices.csv").write_text("half a table")
    name = town.running()
    assert "gcp_prices.csv is broken: line 1" in town.offers()[0].price_source
    assert [one.name for one in town.gcp.list()] == [name]
    town.gcp.refresh_prices(date(2026, 11, 22))
    town.now += gcp.PRICES_FOR_S
    assert "Cloud Billing Catalog" in town.offers()[0].price_source


@pytest.mark.case("P2")
def test_offers_know_the_quotas_of_the_account(town: Town) -> None:
    sim = town.sim
    sim.post("/quotas", region="me-west1", metric="NVIDIA_T4_GPUS", limit=0)
    need = Resources(gpu=(GpuNeed("t4"),), places=("me-west1",))
    with pytest.raises(QuotaExceeded, match=r"me-west1-.: .* NVIDIA_T4_GPUS is too small"):
        town.gcp.offers(need)
    sim.post("/quotas", region="me-west1", metric="NVIDIA_T4_GPUS", limit=4)
    town.now += gcp.QUOTAS_FOR_S
    assert town.gcp.offers(need)[0].quota == "4 of 4 NVIDIA_T4_GPUS free"
    with pytest.raises(NothingFits):
        town.gcp.offers(Resources(gpu=(GpuNeed("l40"),)))
