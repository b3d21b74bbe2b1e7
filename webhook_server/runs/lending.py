"""What a provider lends, what it is asked for, how it refuses: data only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from cynthus.spec import Resources


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What a provider could lend now."""

    provider: str
    place: str  # zone, node or "this machine"
    machine: str  # the vendor's machine type
    gpu_type: str | None
    gpu_count: int
    cpu: int
    memory_bytes: int
    usd_per_hour: Decimal
    spot: bool = False
    price_source: str = ""  # where the price is from and of when; "": certain
    quota: str = ""  # "3 of 8 NVIDIA_L4_GPUS free"; "": not asked or not told
    warm: str = ""  # the provider's name of an instance that waits already; "": a new one
    warm_run: str = ""  # the run that kept it, to be told to people
    driver: str = ""  # the NVIDIA driver an instance will have, or its branch; "": not known


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a provider is asked to create; the name makes it safe to repeat."""

    name: str  # cynthus-<run>-<attempt>, of a gang cynthus-<run>-<attempt>-<rank>
    run_id: str
    attempt: int
    repository_id: int
    offer: Offer
    need: Resources
    max_life: timedelta  # the provider's own hard end of the instance
    rank: int = 0  # among the instances of a gang
    labels: tuple[tuple[str, str], ...] = ()  # the spec's own, copied to what is lent


class Gone(StrEnum):
    """What the provider said when it was asked for the instance."""

    PRESENT = "present"
    ABSENT = "absent"  #: "not found", a complete answer
    UNKNOWN = "unknown"  #: the provider could not be asked


class Fate(StrEnum):
    """What became of an instance, as far as its provider tells."""

    STARTING = "starting"  #: ordered, not yet executing
    RUNNING = "running"
    STOPPED = "stopped"  #: by hand, or by itself: it costs its disk until it is deleted
    SUSPENDED = "suspended"
    PREEMPTED = "preempted"  #: the owner took it back
    HOST_ERROR = "host_error"
    ENDING = "ending"  #: being deleted


class Scope(StrEnum):
    """How far a refusal reaches, so that the next try goes elsewhere."""

    ZONE = "zone"
    REGION = "region"
    EVERYWHERE = "everywhere"


class Denial(StrEnum):
    """Why an order was not met."""

    NO_CAPACITY = "no_capacity"
    QUOTA = "quota"
    MISCONFIGURED = "misconfigured"  #: our own fault: no other place would take the order either


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A provider's no to one order, and how far it reaches."""

    denial: Denial
    text: str
    scope: Scope = Scope.ZONE
    elsewhere: tuple[str, ...] = ()  # places that, says the provider, have it


@dataclass(frozen=True, kw_only=True)
class CoolDown:
    """A place that refused a kind of machine, and until when nobody asks it again."""

    provider: str
    place: str  # a zone or a region
    machine: str
    spot: bool
    until: datetime
    denial: Denial = Denial.NO_CAPACITY
    text: str = ""
