"""Find what of Google Cloud's machines meets a need, in the order in which to try: pure.

Order: Spot before on demand where the need prefers it; then the places as the user wrote them; in
a place the GPUs as the user prefers them, then the cheapest; equals by zone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_UP, Decimal

from cynthus.frozen import replace
from cynthus.spec import GpuNeed, Resources, Spot
from webhook_server.providers.gcp_machines import (
    CEILINGS,
    GIB,
    GPUS,
    MOST_DISK_GIB,
    Catalogue,
    Gpu,
    MachineType,
    boot_disk_type,
    gpus_named,
    is_spot_only,
    machine_text,
    nearest,
    region_of,
)
from webhook_server.providers.gcp_order import disk_gib
from webhook_server.providers.gcp_prices import ADDRESS_USD, PriceTable
from webhook_server.providers.gcp_quota import Quotas, Verdict, Wanted, judge
from webhook_server.providers.provider import NoCapacity, NothingFits, QuotaExceeded
from webhook_server.runs.lending import Offer

NAME = "gcp"
CLOUD = "Google Cloud"
# What a need that says nothing means: as the smallest G2, which has 4 vCPUs and 16 GB for a GPU.
USUAL_CPU, USUAL_MEMORY = 2, 4 * GIB
USUAL_CPU_A_GPU, USUAL_MEMORY_A_GPU = 4, 12 * GIB
WASTE = 2  # nobody wants to pay more than twice the cheapest for what was not asked for
_UNIT = Decimal("0.000001")


@dataclass(frozen=True, kw_only=True)
class Market:
    """What is lent, for how much, and how much of it this account may have."""

    catalogue: Catalogue
    prices: PriceTable
    quotas: Quotas
    address: bool = False  # each instance has an external one
    #: By the name of a GPU: the driver that comes with it; absent or empty: not known.
    drivers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _Choice:
    """One machine in one zone that meets a need, before money and quotas."""

    zone: str
    machine: MachineType
    gpu: Gpu | None
    gpu_count: int
    rank: int  # of the GPU among those that the user names

    @property
    def attached(self) -> Gpu | None:
        return self.gpu if self.machine.accelerator is None else None


def offers(need: Resources, places: Sequence[str], market: Market) -> list[Offer]:
    """Return what could be lent, best first.

    Raises: NothingFits naming the key of the spec and what there is; QuotaExceeded naming the
    quota; NoCapacity when the quota is only used up at present.
    """
    _check_disk(need)
    zones = _zones(places, market.catalogue)
    choices = _choices(need, zones, market.catalogue)
    sold = [
        (offer, choice)
        for spot in _ways(need)
        for choice in choices
        if spot or not is_spot_only(choice.machine.name)
        for offer in _priced(need, choice, market, spot=spot)
    ]
    if not sold:
        raise NothingFits(_unsold_text(need, choices, market))
    return _within_quota(need, _in_order(sold, zones), market)


def _ways(need: Resources) -> tuple[bool, ...]:
    return {Spot.NEVER: (False,), Spot.ALWAYS: (True,), Spot.PREFER: (True, False)}[need.spot]


# ── places ──────────────────────────────────────────────────────────────────────────────────────


def _zones(places: Sequence[str], catalogue: Catalogue) -> dict[str, int]:
    """Return the zones of the places, each with the number of its place."""
    found: dict[str, int] = {}
    for number, place in enumerate(places):
        for zone in catalogue.zones:
            if place in (zone, region_of(zone)):
                found.setdefault(zone, number)
    if not found:
        regions = sorted({region_of(zone) for zone in catalogue.zones})
        near = nearest(places[0], (*regions, *catalogue.zones)) if places else None
        raise NothingFits(
            f"resources/places: should be regions or zones of {CLOUD}, found {', '.join(places)}"
            f" where it has {', '.join(regions)}.{_did_you_mean(near)}"
        )
    return found


def _did_you_mean(near: str | None) -> str:
    return f" Did you mean {near}?" if near else " Name one of them."


# ── shapes ──────────────────────────────────────────────────────────────────────────────────────


def _check_disk(need: Resources) -> None:
    if disk_gib(need.disk_bytes) > MOST_DISK_GIB:
        most = MOST_DISK_GIB * GIB / 1e9
        raise NothingFits(
            f"resources/disk: should be what {CLOUD} has, found {(need.disk_bytes or 0) / 1e9:.0f}"
            f" GB where it has {most:.0f} GB. Ask for less."
        )


def _choices(need: Resources, zones: dict[str, int], catalogue: Catalogue) -> list[_Choice]:
    """Return what meets the need in these zones; raises NothingFits."""
    roomy = [choice for zone in zones for choice in _with_gpus(need, zone, catalogue)]
    if not roomy:
        raise NothingFits(_no_gpu_text(need, zones, catalogue))
    fitting = [choice for choice in roomy if _has_room(need, choice)]
    if not fitting:
        raise NothingFits(_too_small_text(need, roomy))
    return fitting


def _with_gpus(need: Resources, zone: str, catalogue: Catalogue) -> Iterator[_Choice]:
    """Return the zone's machines with a GPU that the need names, or those without any."""
    machines = catalogue.machines[zone]
    if not need.gpu:
        for machine in machines:
            if machine.accelerator is None:
                yield _Choice(zone=zone, machine=machine, gpu=None, gpu_count=0, rank=0)
    for rank, wanted in enumerate(need.gpu):
        for gpu in gpus_named(wanted.type):
            for count in _counts(gpu, wanted, zone, catalogue):
                for machine in machines:
                    if _carries(machine, gpu, count):
                        yield _Choice(
                            zone=zone, machine=machine, gpu=gpu, gpu_count=count, rank=rank
                        )


def _counts(gpu: Gpu, wanted: GpuNeed, zone: str, catalogue: Catalogue) -> list[int]:
    """Return the smallest number of cards that is lent and enough, if there is one.

    Never twice as many as asked for: eight H100 for one would be a bill, not an offer.
    """
    enough = [count for count in _lent(gpu, zone, catalogue) if count >= wanted.count]
    return [count for count in enough[:1] if count < 2 * wanted.count]


def _lent(gpu: Gpu, zone: str, catalogue: Catalogue) -> list[int]:
    """Return the numbers of cards that one machine of the zone may have."""
    if gpu.accelerator in CEILINGS:
        most = catalogue.attachable.get(zone, {}).get(gpu.accelerator, 0)
        return sorted(count for count in CEILINGS[gpu.accelerator] if count <= most)
    return sorted(
        {
            machine.gpu_count
            for machine in catalogue.machines[zone]
            if machine.accelerator == gpu.accelerator
        }
    )


def _carries(machine: MachineType, gpu: Gpu, count: int) -> bool:
    if gpu.accelerator not in CEILINGS:
        return machine.accelerator == gpu.accelerator and machine.gpu_count == count
    most_cpu, most_gib = CEILINGS[gpu.accelerator][count]
    return (
        machine.name.startswith("n1-")
        and machine.cpu <= most_cpu
        and machine.memory_bytes <= most_gib * GIB
    )


def _has_room(need: Resources, choice: _Choice) -> bool:
    cpu, memory = _least(need, choice)
    return choice.machine.cpu >= cpu and choice.machine.memory_bytes >= memory


def _least(need: Resources, choice: _Choice) -> tuple[int, int]:
    """Return the vCPUs and bytes that a need means; built-in GPUs come with enough of both."""
    if choice.machine.accelerator is not None:
        return need.cpu or 0, need.memory_bytes or 0
    if choice.gpu_count == 0:
        return need.cpu or USUAL_CPU, need.memory_bytes or USUAL_MEMORY
    # The ceiling of some cards is below what is usual for them.
    most_cpu, most_gib = (
        CEILINGS[choice.gpu.accelerator][choice.gpu_count] if choice.gpu else (0, 0)
    )
    return (
        need.cpu or min(most_cpu, USUAL_CPU_A_GPU * choice.gpu_count),
        need.memory_bytes or min(most_gib * GIB, USUAL_MEMORY_A_GPU * choice.gpu_count),
    )


# ── money and order ─────────────────────────────────────────────────────────────────────────────


def _priced(need: Resources, choice: _Choice, market: Market, *, spot: bool) -> Iterator[Offer]:
    usd = _usd(need, choice, market, spot=spot)
    if usd is None:
        return
    yield Offer(
        provider=NAME,
        place=choice.zone,
        machine=machine_text(choice.machine.name, choice.attached, choice.gpu_count),
        gpu_type=choice.gpu.name if choice.gpu else None,
        gpu_count=choice.gpu_count,
        cpu=choice.machine.cpu,
        memory_bytes=choice.machine.memory_bytes,
        usd_per_hour=usd.quantize(_UNIT, ROUND_UP),
        spot=spot,
        price_source=market.prices.source,
        driver=market.drivers.get(choice.gpu.name, "") if choice.gpu else "",
    )


def _usd(need: Resources, choice: _Choice, market: Market, *, spot: bool) -> Decimal | None:
    """Return USD per hour of one instance with its disk and address; None: not known."""
    region, machine = region_of(choice.zone), choice.machine.name
    host = market.prices.machine(region, machine, spot=spot)
    gpus: Decimal | None = Decimal(0)
    if choice.attached is not None:
        gpus = market.prices.gpus(region, choice.attached, choice.gpu_count, spot=spot)
    if host is None or gpus is None:
        return None
    disk = market.prices.disk(region, boot_disk_type(machine), disk_gib(need.disk_bytes))
    return host + gpus + disk + (ADDRESS_USD if market.address else 0)


def _in_order(
    sold: Sequence[tuple[Offer, _Choice]], zones: dict[str, int]
) -> list[tuple[Offer, _Choice]]:
    """Return them best first, without those that the same GPUs in the same zone make a waste."""
    cheapest: dict[object, Decimal] = {}
    for offer, choice in sold:
        kind = _kind(offer, choice)
        cheapest[kind] = min(offer.usd_per_hour, cheapest.get(kind, offer.usd_per_hour))

    def key(pair: tuple[Offer, _Choice]) -> tuple[bool, int, int, Decimal, str]:
        offer, choice = pair
        return (not offer.spot, zones[choice.zone], choice.rank, offer.usd_per_hour, choice.zone)

    return sorted(
        (pair for pair in sold if pair[0].usd_per_hour <= WASTE * cheapest[_kind(*pair)]), key=key
    )


def _kind(offer: Offer, choice: _Choice) -> object:
    return offer.spot, choice.zone, choice.rank, offer.gpu_type


# ── quotas ──────────────────────────────────────────────────────────────────────────────────────


def _within_quota(
    need: Resources, sold: Sequence[tuple[Offer, _Choice]], market: Market
) -> list[Offer]:
    judged = [(offer, _judged(need, offer, choice, market)) for offer, choice in sold]
    open_ones = [
        replace(offer, quota=verdict.text) for offer, verdict in judged if verdict.lacking is None
    ]
    if open_ones:
        return open_ones
    # One that is used up at present comes back by itself; else the first says what to ask for.
    used_up = next((pair for pair in judged if not pair[1].never), None)
    if used_up is not None:
        raise NoCapacity(_quota_text(*used_up, "is used up at present"), scope=used_up[1].scope)
    offer, verdict = judged[0]
    raise QuotaExceeded(
        _quota_text(offer, verdict, "is too small") + " Ask Google to raise it.",
        scope=verdict.scope,
    )


def _judged(need: Resources, offer: Offer, choice: _Choice, market: Market) -> Verdict:
    wanted = Wanted(
        family=choice.machine.name.partition("-")[0],
        cpu=choice.machine.cpu,
        gpu=choice.gpu,
        gpu_count=choice.gpu_count,
        disk_type=boot_disk_type(choice.machine.name),
        disk_gib=disk_gib(need.disk_bytes),
        spot=offer.spot,
        address=market.address,
        instances=need.nodes,
    )
    return judge(market.quotas, region_of(choice.zone), wanted)


def _quota_text(offer: Offer, verdict: Verdict, fault: str) -> str:
    metric = verdict.lacking.metric if verdict.lacking else ""
    return (
        f"{offer.place}: the account's quota {metric} {fault} for {offer.machine}:"
        f" {verdict.lacking}."
    )


# ── why nothing fits ────────────────────────────────────────────────────────────────────────────


def _no_gpu_text(need: Resources, zones: dict[str, int], catalogue: Catalogue) -> str:
    """Tell why no machine in these zones has the GPUs."""
    wanted = " or ".join(f"{gpu.count} x {gpu.type}" for gpu in need.gpu)
    known = sorted(gpu.name for gpu in GPUS)
    strangers = [gpu.type for gpu in need.gpu if not gpus_named(gpu.type)]
    if len(strangers) == len(need.gpu):
        near = nearest(strangers[0], known)
        return (
            f"resources/gpu: should be what {CLOUD} has, found {wanted} where it has"
            f" {', '.join(known)}.{_did_you_mean(near)}"
        )
    here = sorted({region_of(zone) for zone in zones})
    there = sorted(
        {region_of(zone) for zone in catalogue.zones if any(_with_gpus(need, zone, catalogue))}
    )
    if there:
        return (
            f"resources/places: should be where {CLOUD} has {wanted}, found {', '.join(here)}"
            f" where it has none. It has them in {', '.join(there)}."
        )
    return (
        f"resources/gpu: should be what one machine of {CLOUD} has, found {wanted} where it has"
        f" {_numbers_text(need, catalogue)}. Ask for such a number, or for several nodes."
    )


def _numbers_text(need: Resources, catalogue: Catalogue) -> str:
    models = {gpu for wanted in need.gpu for gpu in gpus_named(wanted.type)}
    told = []
    for gpu in sorted(models, key=lambda gpu: gpu.name):
        numbers = {count for zone in catalogue.zones for count in _lent(gpu, zone, catalogue)}
        if numbers:
            told.append(f"{', '.join(map(str, sorted(numbers)))} x {gpu.name}")
    return " or ".join(told) or "none"


def _too_small_text(need: Resources, roomy: Sequence[_Choice]) -> str:
    most_cpu = max(choice.machine.cpu for choice in roomy)
    most_bytes = max(choice.machine.memory_bytes for choice in roomy)
    told = []
    if (need.cpu or 0) > most_cpu:
        told.append(("cpu", f"{need.cpu}", f"{most_cpu}"))
    if (need.memory_bytes or 0) > most_bytes:
        told.append(
            ("memory", f"{(need.memory_bytes or 0) / 1e9:.1f} GB", f"{most_bytes / 1e9:.1f} GB")
        )
    told = told or [("memory", f"{need.cpu} vCPUs and {need.memory_bytes} bytes", "not both")]
    return "\n".join(
        f"resources/{key}: should be what {CLOUD} has, found {asked} where it has {there}."
        " Ask for less."
        for key, asked, there in told
    )


def _unsold_text(need: Resources, choices: Sequence[_Choice], market: Market) -> str:
    """Tell why what would fit is not offered: only as Spot, or without a known price."""
    as_spot = [
        choice
        for choice in choices
        if is_spot_only(choice.machine.name) and _usd(need, choice, market, spot=True) is not None
    ]
    if need.spot is Spot.NEVER and as_spot:
        return (
            f"resources/spot: should be true or prefer for {_machines_text(as_spot)}, found false"
            " where it has them as Spot only. Write `spot: prefer`."
        )
    return (
        f"resources/gpu: should be something with a known price, found {_machines_text(choices)}"
        f" where it has none ({market.prices.source}). The server's operator can refresh the"
        " prices."
    )


def _machines_text(choices: Sequence[_Choice]) -> str:
    return ", ".join(sorted({choice.machine.name for choice in choices}))
