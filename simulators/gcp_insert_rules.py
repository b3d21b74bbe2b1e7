"""What Compute Engine demands of an instance that is ordered: pure rules, each with its source.

Every rule raises GoogleError in the words of the real service as far as they are known (reported
threads are named), else in like words.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from simulators.gcp_catalogue import N1_CEILINGS, accelerators_in
from simulators.gcp_compute_shapes import NAME, bad_request, invalid, not_found, path_of
from simulators.gcp_insert_parts import check_accounts, check_disks, check_network
from simulators.gcp_labels import check_labels, check_metadata, check_tags
from simulators.gcp_wish import Wish

# 30 s to 120 days: https://cloud.google.com/compute/docs/instances/limit-vm-runtime
SHORTEST_RUN_S, LONGEST_RUN_S = 30, 120 * 86400


def check(wish: Wish) -> None:
    """Refuse an order that the real service refuses before it makes an operation of it."""
    for rule in RULES:
        rule(wish)


def _name(wish: Wish) -> None:
    name = wish.body.get("name", "")
    if not NAME.fullmatch(name):
        why = "Must be a match of regex '(?:[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?)'"
        raise invalid("resource.name", name, why)


def _machine(wish: Wish) -> None:
    machine = wish.machine()
    if not machine.on_demand and not _reserved_or_spot(wish):
        raise bad_request(
            f"Machine type {machine.name} cannot be used with the provisioning model STANDARD. "
            "Use SPOT, FLEX_START or RESERVATION_BOUND."
        )


def _reserved_or_spot(wish: Wish) -> bool:
    # https://cloud.google.com/compute/docs/accelerator-optimized-machines
    model = wish.scheduling.get("provisioningModel")
    affinity = (wish.body.get("reservationAffinity") or {}).get("consumeReservationType")
    return (
        wish.spot
        or model in {"FLEX_START", "RESERVATION_BOUND"}
        or affinity == "SPECIFIC_RESERVATION"
    )


def _accelerators(wish: Wish) -> None:
    asked = wish.body.get("guestAccelerators") or []
    if not asked:
        return
    if len(asked) > 1:
        raise invalid(
            "resource.guestAccelerators", asked, "Only one accelerator type may be attached."
        )
    url = asked[0].get("acceleratorType", "")
    found = re.fullmatch(
        r"(?:projects/[^/]+/)?zones/(?P<zone>[^/]+)/acceleratorTypes/(?P<name>[^/]+)", path_of(url)
    )
    if found is None:
        raise invalid("resource.guestAccelerators[0].acceleratorType", url, "The URL is malformed.")
    if found["zone"] != wish.zone or found["name"] not in accelerators_in(wish.zone):
        raise not_found(wish.project, f"zones/{found['zone']}/acceleratorTypes/{found['name']}")
    count = asked[0].get("acceleratorCount", 0)
    if not isinstance(count, int) or count < 1:
        raise invalid("resource.guestAccelerators[0].acceleratorCount", count, "Must be positive.")
    _fits(wish, found["name"], count)


def _fits(wish: Wish, name: str, count: int) -> None:
    machine = wish.machine()
    if machine.accelerator:  # the built-in ones may be left out, or repeated exactly
        if (machine.accelerator, machine.gpus) != (name, count):
            raise bad_request(
                f"[{machine.name}, {name}] features are not compatible for creating instance."
            )
        return
    ceilings = N1_CEILINGS.get(name, {})
    if machine.family != "n1" or count not in ceilings:
        raise bad_request(
            f"[{machine.name}, {count} {name}] features are not compatible for creating instance."
        )
    cpus, memory_gb = ceilings[count]
    if machine.cpus > cpus or machine.memory_mb > memory_gb * 1024:
        raise bad_request(
            f"Invalid value for guestAccelerators: {count} {name} take at most {cpus} vCPUs and "
            f"{memory_gb} GB of memory, and {machine.name} has {machine.cpus} and "
            f"{machine.memory_mb // 1024}.",
            "invalid",
        )


def _maintenance(wish: Wish) -> None:
    asked = wish.scheduling.get("onHostMaintenance")
    if wish.gpus()[1] and not wish.spot and asked != "TERMINATE":
        # loft-sh/devpod#973, openshift/release#63296
        raise bad_request(
            "Instances with guest accelerators do not support live migration.",
            "unsupportedOperation",
        )
    if wish.machine().family == "e2" and asked == "TERMINATE" and not wish.spot:
        # skypilot-org/skypilot#1006, #1462
        raise bad_request(
            "E2 machine types only support onHostMaintenance MIGRATE unless they are preemptible."
        )
    if wish.spot and asked == "MIGRATE":
        raise invalid(
            "resource.scheduling.preemptible",
            "true",
            "Scheduling must have preemptible be false when OnHostMaintenance is MIGRATE.",
        )


def _spot(wish: Wish) -> None:
    scheduling = wish.scheduling
    if scheduling.get("preemptible") and scheduling.get("provisioningModel") == "STANDARD":
        raise invalid(  # skypilot-org/skypilot#3235
            "resource.scheduling.preemptible",
            "true",
            "Preemptible must be false when the provisioning model is STANDARD.",
        )
    if wish.spot and scheduling.get("automaticRestart"):
        raise invalid(
            "resource.scheduling.preemptible",
            "true",
            "Scheduling must have preemptible be false when AutomaticRestart is true.",
        )
    if scheduling.get("preemptionNoticeDuration") and not wish.spot:
        raise bad_request("preemptionNoticeDuration can only be specified for Spot VMs.")


def _time_limit(wish: Wish) -> None:
    scheduling = wish.scheduling
    action = scheduling.get("instanceTerminationAction")
    limit = scheduling.get("maxRunDuration")
    limited = limit is not None or scheduling.get("terminationTime") is not None
    if action and not limited and scheduling.get("provisioningModel") != "SPOT":
        raise bad_request(
            "instanceTerminationAction can only be specified for Spot VMs or VMs with a limited "
            "runtime."
        )
    if not limited:
        return
    if limit is not None and scheduling.get("terminationTime") is not None:
        raise bad_request("Only one of maxRunDuration and terminationTime may be specified.")
    if not action:
        raise bad_request(
            "instanceTerminationAction must be specified for a VM with a limited runtime."
        )
    if scheduling.get("preemptible") and scheduling.get("provisioningModel") != "SPOT":
        raise bad_request("maxRunDuration is not supported with the legacy preemptible flag.")
    if limit is not None:
        seconds = int(limit.get("seconds", 0))
        if not SHORTEST_RUN_S <= seconds <= LONGEST_RUN_S:
            raise invalid(
                "resource.scheduling.maxRunDuration.seconds",
                seconds,
                f"Must be between {SHORTEST_RUN_S} seconds and 120 days.",
            )


def _flex_start(wish: Wish) -> None:
    scheduling = wish.scheduling
    if scheduling.get("provisioningModel") != "FLEX_START":
        return
    limit = scheduling.get("maxRunDuration")
    if limit is None or int(limit.get("seconds", 0)) > 7 * 86400:
        raise bad_request("FLEX_START needs maxRunDuration of at most 7 days.")
    if scheduling.get("automaticRestart", True):
        raise bad_request("FLEX_START needs automaticRestart to be false.")


RULES: tuple[Callable[[Wish], None], ...] = (
    _name,
    _machine,
    _accelerators,
    _spot,
    _time_limit,
    _flex_start,
    _maintenance,
    check_disks,
    check_network,
    check_accounts,
    lambda wish: check_labels(wish.body.get("labels") or {}),
    lambda wish: check_metadata(wish.body.get("metadata") or {}),
    lambda wish: check_tags((wish.body.get("tags") or {}).get("items") or []),
)
