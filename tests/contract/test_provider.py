"""What every provider in the registry promises; one line below gives each its surroundings."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from cynthus.errors import UserError
from cynthus.spec import GpuNeed, Resources
from tests.gcp_fixture import GcpSimulator, gcp_simulator
from webhook_server.providers.provider import InstanceNotFound, NoCapacity, NothingFits, Provider
from webhook_server.providers.registry import PROVIDERS, Server, open_provider
from webhook_server.runs.lending import Offer, Order
from webhook_server.settings import Settings

NO_DELAYS = ("provisioning_s", "staging_s", "stopping_s", "grace_s")
_numbers = itertools.count(1)
DELETES = 10  # more than any provider needs when nothing is in its way

Surroundings = Callable[[Path, pytest.FixtureRequest], Provider]


def _local(folder: Path, _: pytest.FixtureRequest) -> Provider:
    settings = Settings(state_dir=folder, local_slots=2)
    # Nobody answers there: these agents live until they are told to end.
    server = Server(url="http://127.0.0.1:9", control_plane="contract-tests")
    return open_provider("local", settings, server)


@pytest.fixture(scope="module")
def compute_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GcpSimulator]:
    with gcp_simulator(tmp_path_factory.mktemp("gcp")) as simulator:
        simulator.post("/settings", dict.fromkeys(NO_DELAYS, 0))
        yield simulator


def _gcp(folder: Path, request: pytest.FixtureRequest) -> Provider:
    simulator: GcpSimulator = request.getfixturevalue("compute_engine")
    settings = Settings(
        state_dir=folder,
        gcp_project=simulator.project,
        gcp_compute_url=simulator.url,
        gcp_service_account=f"runner@{simulator.project}.iam.gserviceaccount.com",
        gcp_agent_image=f"us-docker.pkg.dev/cynthus/agent/agent@sha256:{'0' * 64}",
    )
    # A control plane of its own: names return from test to test, and are remembered.
    server = Server(url="http://127.0.0.1:9", control_plane=f"contract-{next(_numbers)}")
    return open_provider("gcp", settings, server)


#: One line per provider.
SURROUNDINGS: dict[str, Surroundings] = {"gcp": _gcp, "local": _local}


def an_order(name: str, offer: Offer, need: Resources) -> Order:
    return Order(
        name=name,
        run_id="rcontract",
        attempt=1,
        repository_id=1,
        offer=offer,
        need=need,
        max_life=timedelta(minutes=5),
    )


@pytest.fixture(params=sorted(PROVIDERS))
def provider(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Provider]:
    provider = SURROUNDINGS[request.param](tmp_path, request)
    yield provider
    for instance in provider.list():
        deleted(provider, instance.name)


def created(provider: Provider, name: str, need: Resources | None = None) -> None:
    need = need or Resources(cpu=1)
    offer = provider.offers(need)[0]
    provider.create(an_order(name, offer, need), "cye_contract")


def deleted(provider: Provider, name: str) -> int:
    """Delete until the provider says that the instance is gone; return how often it took."""
    for tries in itertools.count(1):
        assert tries <= DELETES
        try:
            provider.delete(name)
        except InstanceNotFound:
            return tries
    raise AssertionError


def test_every_provider_of_the_registry_is_tested() -> None:
    assert sorted(SURROUNDINGS) == sorted(PROVIDERS)


def test_an_unknown_provider_is_the_users_error() -> None:
    with pytest.raises(UserError, match=r"provider: should be one of .*, found 'azur'"):
        open_provider("azur", Settings(), Server(url="", control_plane=""))


def test_its_name_is_the_one_in_the_registry(provider: Provider) -> None:
    assert PROVIDERS[provider.name]


def test_an_offer_says_what_is_lent_and_for_how_much(provider: Provider) -> None:
    [offer, *_] = provider.offers(Resources(cpu=1))
    assert offer.provider == provider.name
    assert offer.cpu >= 1
    assert offer.memory_bytes > 0
    assert isinstance(offer.usd_per_hour, Decimal)


@pytest.mark.parametrize(
    "need",
    [
        Resources(cpu=100_000),
        Resources(memory_bytes=1 << 60),
        Resources(disk_bytes=1 << 60),
        Resources(gpu=(GpuNeed("no-such-gpu", 1),)),
    ],
)
def test_a_need_that_never_fits_is_refused_with_what_there_is(
    provider: Provider, need: Resources
) -> None:
    with pytest.raises(NothingFits, match=r"resources/\w+: should be .*, found .* where it has"):
        provider.offers(need)


def test_creating_twice_gives_the_same_instance(provider: Provider) -> None:
    created(provider, "cynthus-r1-1")
    created(provider, "cynthus-r1-1")
    assert [i.name for i in provider.list()] == ["cynthus-r1-1"]
    assert provider.get("cynthus-r1-1").alive


def test_the_list_is_complete(provider: Provider) -> None:
    created(provider, "cynthus-r1-1")
    created(provider, "cynthus-r2-1")
    assert sorted(i.name for i in provider.list()) == ["cynthus-r1-1", "cynthus-r2-1"]


def test_deleting_ends_only_with_not_found(provider: Provider) -> None:
    created(provider, "cynthus-r1-1")
    deleted(provider, "cynthus-r1-1")
    assert provider.list() == []
    with pytest.raises(InstanceNotFound):
        provider.get("cynthus-r1-1")
    with pytest.raises(InstanceNotFound):
        provider.delete("cynthus-r1-1")


@pytest.mark.parametrize("name", ["cynthus-unknown-1", "../x", "", ".creating", "x" * 300])
def test_an_unknown_name_is_not_found(provider: Provider, name: str) -> None:
    with pytest.raises(InstanceNotFound):
        provider.get(name)
    with pytest.raises(InstanceNotFound):
        provider.delete(name)


# A cloud's room is not known beforehand: it tells by refusing, which its own tests try.
@pytest.mark.parametrize("provider", ["local"], indirect=True)
def test_what_is_full_says_so_and_has_room_again_after_a_delete(provider: Provider) -> None:
    need = Resources(cpu=1)
    offer = provider.offers(need)[0]
    created(provider, "cynthus-r1-1")
    created(provider, "cynthus-r2-1")
    with pytest.raises(NoCapacity, match="all 2 slots are taken"):
        provider.offers(need)
    with pytest.raises(NoCapacity):
        provider.create(an_order("cynthus-r3-1", offer, need), "cye_contract")
    provider.create(an_order("cynthus-r2-1", offer, need), "cye_contract")  # it has its slot
    deleted(provider, "cynthus-r1-1")
    assert provider.offers(need)
