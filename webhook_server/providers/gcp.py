"""Lend virtual machines of Google Cloud's Compute Engine.

Every verb asks the service; what is remembered (which zone has a name, the lists of what can be
had) only saves questions, and a server that has just started knows as much as one that has not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from cynthus.errors import UserError
from cynthus.frozen import replace
from cynthus.spec import Resources
from webhook_server.providers import gcp_shapes
from webhook_server.providers.gcp_boot import BootConfig, BootKind, boot_kind, user_data
from webhook_server.providers.gcp_client import (
    Account,
    ApiError,
    Door,
    NoCredentials,
    PartialList,
    Resource,
)
from webhook_server.providers.gcp_costs import disk_usd, instance_usd
from webhook_server.providers.gcp_drivers import promised_drivers
from webhook_server.providers.gcp_fate import Found, absent, described, explains_itself
from webhook_server.providers.gcp_kept import Kept
from webhook_server.providers.gcp_machines import NAMES, Catalogue, read_catalogue
from webhook_server.providers.gcp_memory import Memory
from webhook_server.providers.gcp_offers import CLOUD, Market, offers
from webhook_server.providers.gcp_offers import NAME as PROVIDER
from webhook_server.providers.gcp_order import (
    LABEL_PLANE,
    NAME,
    Surroundings,
    instance,
    is_for,
    is_of,
    plane_label,
    request_id,
)
from webhook_server.providers.gcp_prices import ADDRESS_USD, PriceTable, read, shipped, write
from webhook_server.providers.gcp_quota import NONE_TOLD, Quotas, read_quotas
from webhook_server.providers.gcp_refusals import failed, of_operation, of_order, of_reading
from webhook_server.providers.gcp_skus import COMPUTE_ENGINE, rates
from webhook_server.providers.provider import (
    Fate,
    Instance,
    InstanceNotFound,
    Misconfigured,
    ProviderRefusal,
    ProviderUnavailable,
)
from webhook_server.runs.lending import Offer, Order
from webhook_server.settings import Settings

CATALOGUE_FOR_S = 3600.0  # machine types come and go over months
QUOTAS_FOR_S = 30.0  # they change with every instance; an order that is late is refused anyway
PRICES_FOR_S = 60.0  # a refreshed file is taken up without a restart
_CONFLICT, _FORBIDDEN = 409, 403  # HTTP


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What the provider is told by the server's settings."""

    around: Surroundings
    boot: BootConfig
    drivers: Mapping[str, str]  # by the name of a GPU: as `promised_drivers` returns them
    places: tuple[str, ...]
    prices_file: Path  # written by `refresh_prices`; absent: the prices that are shipped


def opened(
    settings: Settings, server_url: str, control_plane: str, *, clock: Callable[[], float]
) -> Gcp:
    """Return the provider that the settings describe; asks nothing yet.

    Raises: UserError naming the setting.
    """
    if not settings.gcp_service_account:
        raise UserError(
            "CYNTHUS_GCP_SERVICE_ACCOUNT: should name the service account of the instances, found"
            " nothing. Without one they cannot prove what they are. Make one that may read the"
            " image registry and nothing else."
        )
    kind = boot_kind(settings.gcp_image)
    drivers = promised_drivers(
        settings.gcp_image, settings.gcp_driver, installed=kind is BootKind.COS
    )
    ground = Ground(
        around=Surroundings(
            control_plane=control_plane,
            image=settings.gcp_image,
            network=settings.gcp_network,
            subnetwork=settings.gcp_subnetwork,
            service_account=settings.gcp_service_account,
            external_ip=bool(settings.gcp_external_ip),
            # Its drivers are signed; those of an Ubuntu image of one's own may not be.
            secure_boot=kind is BootKind.COS,
            kms_key=settings.gcp_kms_key,
        ),
        boot=BootConfig(
            server_url=server_url,
            control_plane=control_plane,
            agent_image=settings.gcp_agent_image,
            kind=kind,
        ),
        drivers=drivers,
        places=settings.gcp_places,
        prices_file=settings.state_dir / "gcp_prices.csv",
    )
    account = Account(
        project=settings.gcp_project,
        compute_url=settings.gcp_compute_url,
        billing_url=settings.gcp_billing_url,
    )
    return Gcp(ground, Door(account), clock)


class Gcp:
    """The provider `gcp`."""

    name = PROVIDER

    def __init__(self, ground: Ground, door: Door, clock: Callable[[], float]) -> None:
        self._ground = ground
        self._door = door
        self._plane = plane_label(ground.around.control_plane)
        self._memory = Memory(clock)
        self._price_table = Kept(self._read_prices, PRICES_FOR_S, clock)
        self._catalogue = Kept(self._read_catalogue, CATALOGUE_FOR_S, clock)
        self._quotas = Kept(self._read_quotas, QUOTAS_FOR_S, clock)

    # ── the five verbs ───────────────────────────────────────────────────────────────────────

    def offers(self, need: Resources) -> list[Offer]:
        """Return what could be lent in the need's places, best first."""
        market = Market(
            catalogue=self._catalogue.get(),
            prices=self._price_table.get(),
            quotas=self._quotas.get(),
            address=self._ground.around.external_ip,
            drivers=self._ground.drivers,
        )
        return offers(need, need.places or self._ground.places, market)

    def create(self, order: Order, enrol_secret: str) -> Instance:  # noqa: ARG002 - see below
        """Order the instance once; by its request id a repeated order is the same order.

        No secret goes with it: metadata can be read by many. The agent proves itself by the
        instance's identity token.
        """
        zone = order.offer.place
        body = instance(order, self._ground.around, self._user_data(order))
        try:
            operation = self._door.insert_instance(zone, body, request_id(self._plane, order.name))
        except ApiError as error:
            if error.status == _CONFLICT:
                return self._adopted(order)
            raise of_order(error, zone) from error
        except NoCredentials as error:
            raise Misconfigured(str(error)) from error
        self._memory.remember(order.name, zone, seen=False)
        if failed(operation):
            raise of_operation(operation, zone)
        return Instance(
            name=order.name,
            place=zone,
            alive=True,
            detail=f"insert {operation.get('status', '')}",
            fate=Fate.STARTING,
            usd_per_hour=order.offer.usd_per_hour,
            vendor_id=str(operation.get("targetId", "")),
        )

    def get(self, name: str) -> Instance:
        """Return the instance, asking the operations where its status does not say why."""
        found = self._find(name)
        return self._absent(name) if found is None else self._described(found)

    def list(self) -> list[Instance]:
        """Return all instances with our mark, and disks and addresses that none of them has."""
        condition = f"labels.{LABEL_PLANE}={self._plane}"
        with _reading("list"):
            instances = self._door.instances(condition)
            disks = self._door.disks(condition)
            addresses = self._door.addresses(condition)
        found = [self._found(zone, resource) for zone, resource in instances]
        held = {str(one.resource["name"]) for one in found}
        self._memory.forget_all_but(held)
        return [
            *(described(one) for one in found),
            *(self._left_disk(*pair) for pair in disks if not _is_held(pair[1], held)),
            *(_left_address(*pair) for pair in addresses if not _is_held(pair[1], held)),
        ]

    def delete(self, name: str) -> None:
        """Delete the instance, or what it left; raises InstanceNotFound once nothing is left."""
        found = self._find(name)
        if found is not None:
            with _reading("delete"):
                self._door.delete_instance(found.zone, name)
            return
        if self._delete_left(name):
            return
        recorded = self._recorded(name)
        try:
            self._told_absent(name, *recorded)  # an insert under way, or not listed yet
        except InstanceNotFound:
            raise
        except ProviderRefusal as refusal:  # its insert failed, whatever for, and left nothing
            raise InstanceNotFound(f"{name}: {refusal}") from refusal

    # ── prices ───────────────────────────────────────────────────────────────────────────────

    def refresh_prices(self, today: date) -> int:
        """Fetch Google's own list prices and keep them in a file; return how many there are.

        Safe to repeat. Raises: ProviderUnavailable, Misconfigured.
        """
        with _reading("prices"):
            skus = list(self._door.skus(COMPUTE_ENGINE))
        found = list(rates(skus, gcp_shapes.machine_types()))
        if not found:
            raise ProviderUnavailable(f"{CLOUD}, prices: none of them could be used")
        text = write(f"Cloud Billing Catalog of {today}", found)
        path = self._ground.prices_file
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_text(text, "utf-8")
        fresh.replace(path)  # in one step: nobody reads half a table
        return len(found)

    def _read_prices(self) -> PriceTable:
        path = self._ground.prices_file
        try:
            return read(path.read_text("utf-8"))
        except FileNotFoundError:
            return shipped()
        except (OSError, ValueError) as error:
            # A broken file of prices must not hide what exists; the next refresh writes it anew.
            known = shipped()
            return replace(known, source=f"{known.source} ({path.name} is broken: {error})")

    # ── what can be had ──────────────────────────────────────────────────────────────────────

    def _read_catalogue(self) -> Catalogue:
        with _reading("machine types"):
            try:
                machine_types = self._door.machine_types(f'name eq "{NAMES}"')
                return read_catalogue(machine_types, self._door.accelerator_types())
            except ApiError as error:
                if error.status == _FORBIDDEN:  # whoever may only order still can
                    return gcp_shapes.fallback()
                raise

    def _read_quotas(self) -> Quotas:
        with _reading("quotas"):
            try:
                return read_quotas(self._door.regions(), self._door.project())
            except ApiError as error:
                if error.status == _FORBIDDEN:
                    return NONE_TOLD
                raise

    # ── ordering ─────────────────────────────────────────────────────────────────────────────

    def _user_data(self, order: Order) -> str:
        boot = replace(
            self._ground.boot,
            driver=order.offer.driver,
            gpu_count=order.offer.gpu_count,
            nodes=order.need.nodes,
        )
        return user_data(order.name, order.max_life, boot)

    def _adopted(self, order: Order) -> Instance:
        """Return what already has the order's name: our own earlier try, or somebody else's."""
        zone = order.offer.place
        with _reading("get"):
            resource = self._door.instance(zone, order.name)
        if resource is None:
            raise ProviderUnavailable(f"{zone}: the name {order.name} is taken, by nothing yet")
        if not is_for(resource, order, self._plane):
            raise Misconfigured(
                f"{zone}: the name {order.name} is taken by an instance that this server did not"
                " make for this run. Delete it, or give this server a project of its own."
            )
        self._memory.remember(order.name, zone, seen=True)
        return self._described(self._found(zone, resource))

    # ── looking ──────────────────────────────────────────────────────────────────────────────

    def _find(self, name: str) -> Found | None:
        """Return the instance with our mark, wherever it is."""
        if not NAME.fullmatch(name):
            raise InstanceNotFound(f"{CLOUD} has no instance {name!r}: it is no name there")
        known = self._memory.of(name)
        with _reading("get"):
            if known is not None:
                resource = self._door.instance(known.zone, name)
                pairs = [] if resource is None else [(known.zone, resource)]
            else:
                pairs = self._door.instances(f"name={name}")
        ours = [self._found(*pair) for pair in pairs if is_of(pair[1], self._plane)]
        if pairs and not ours:
            raise InstanceNotFound(f"{CLOUD} has no {name!r} of this server: it is another's")
        return ours[0] if ours else None

    def _found(self, zone: str, resource: Resource) -> Found:
        self._memory.remember(str(resource["name"]), zone, seen=True)
        usd = instance_usd(zone, resource, self._price_table.get())
        return Found(zone=zone, resource=resource, usd_per_hour=usd)

    def _described(self, found: Found) -> Instance:
        if explains_itself(found.resource):
            return described(found)
        name = str(found.resource["name"])
        return described(found, self._operations(name, found.zone)[1])

    def _operations(self, name: str, zone: str) -> tuple[str, Sequence[Resource]]:
        """Return the zone and all operations on an instance of this name; no zone: in any."""
        condition = f'targetLink eq ".*/instances/{name}"'
        with _reading("operations"):
            if zone:
                return zone, self._door.operations(zone, condition)
            pairs = self._door.operations_everywhere(condition)
        return (pairs[0][0] if pairs else ""), [operation for _, operation in pairs]

    def _absent(self, name: str) -> Instance:
        return self._told_absent(name, *self._recorded(name))

    def _recorded(self, name: str) -> tuple[str, Sequence[Resource]]:
        known = self._memory.of(name)
        return self._operations(name, known.zone if known else "")

    def _told_absent(self, name: str, zone: str, operations: Sequence[Resource]) -> Instance:
        known = self._memory.of(name)
        if known is None and zone:
            known = self._memory.remember(name, zone, seen=False)
        return absent(name, zone, operations, may_be_hidden=self._memory.may_be_hidden(known))

    # ── what is left behind ──────────────────────────────────────────────────────────────────

    def _delete_left(self, name: str) -> bool:
        """Delete disks and addresses of that name; say whether there are any."""
        condition = f"name={name}"
        with _reading("delete"):
            disks = [p for p in self._door.disks(condition) if is_of(p[1], self._plane)]
            addresses = [p for p in self._door.addresses(condition) if is_of(p[1], self._plane)]
            for zone, disk in disks:
                if not disk.get("users"):  # an instance that ends takes its disk along
                    self._door.delete_disk(zone, name)
            for region, _ in addresses:
                self._door.delete_address(region, name)
        return bool(disks or addresses)

    def _left_disk(self, zone: str, disk: Resource) -> Instance:
        return Instance(
            name=str(disk["name"]),
            place=zone,
            alive=False,
            detail="a disk without its instance",
            fate=Fate.STOPPED,
            kind="disk",
            usd_per_hour=disk_usd(zone, disk, self._price_table.get()),
            vendor_id=str(disk.get("id", "")),
        )


def _left_address(region: str, address: Resource) -> Instance:
    return Instance(
        name=str(address["name"]),
        place=region,
        alive=False,
        detail="an address without its instance",
        fate=Fate.STOPPED,
        kind="address",
        usd_per_hour=ADDRESS_USD,
        vendor_id=str(address.get("id", "")),
    )


def _is_held(resource: Resource, names: AbstractSet[str]) -> bool:
    """Say whether one of these instances has the disk or address: its cost is counted there."""
    users = {str(user).rpartition("/")[2] for user in resource.get("users", ())}
    return bool(users & names)


@contextlib.contextmanager
def _reading(what: str) -> Iterator[None]:
    """Translate what the door raises: whatever was said, nothing is known."""
    try:
        yield
    except ApiError as error:
        raise of_reading(error, what) from error
    except (NoCredentials, PartialList) as error:
        raise ProviderUnavailable(str(error)) from error
