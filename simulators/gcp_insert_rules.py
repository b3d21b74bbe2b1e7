"""What Compute Engine demands of an instance that is ordered: pure rules, each with its source.

Every rule raises GoogleError in the words of the real service as far as they are known (reported
threads are named), else in like words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from simulators.gcp_catalogue import (
    DISK_TYPES,
    HYPERDISK_ONLY,
    N1_CEILINGS,
    NO_HYPERDISK_BALANCED,
    Image,
    MachineType,
    accelerators_in,
    image,
    machines_in,
)
from simulators.gcp_compute_shapes import NAME, bad_request, invalid, last, not_found, path_of

# 30 s to 120 days: https://cloud.google.com/compute/docs/instances/limit-vm-runtime
SHORTEST_RUN_S, LONGEST_RUN_S = 30, 120 * 86400
# https://cloud.google.com/compute/docs/metadata/setting-custom-metadata#limitations
LARGEST_METADATA_VALUE, LARGEST_METADATA = 256 << 10, 512 << 10
_METADATA_KEY = re.compile(r"[a-zA-Z0-9-_]{1,128}")
# https://cloud.google.com/compute/docs/labeling-resources: letters of any language, no capitals.
MOST_LABELS = 64
MOST_TAGS = 64
_SCOPE = re.compile(r"https://www\.googleapis\.com/auth/[a-z._-]+")
_ACCOUNT = re.compile(r"default|[^@\s/]+@[^@\s/]+\.[^@\s/]+")


@dataclass(frozen=True, kw_only=True)
class Wish:
    """An instance that is asked for, and where."""

    body: Mapping[str, Any]
    project: str
    zone: str

    @property
    def region(self) -> str:
        """Return the region of the zone."""
        return self.zone.rpartition("-")[0]

    @property
    def scheduling(self) -> Mapping[str, Any]:
        """Return the part that says when it may end."""
        found: Mapping[str, Any] = self.body.get("scheduling") or {}
        return found

    @property
    def spot(self) -> bool:
        """Say whether it may be preempted."""
        return self.scheduling.get("provisioningModel") == "SPOT" or bool(
            self.scheduling.get("preemptible")
        )

    def machine(self) -> MachineType:
        """Return the machine type; refuses one that the zone does not have."""
        return machine_type(self)

    def gpus(self) -> tuple[str, int]:
        """Return model and number of the GPUs it is to have, attached or built in."""
        machine = self.machine()
        if machine.accelerator:
            return machine.accelerator, machine.gpus
        for each in self.body.get("guestAccelerators") or []:
            return last(each["acceleratorType"]), int(each["acceleratorCount"])
        return "", 0


def check(wish: Wish) -> None:
    """Refuse an order that the real service refuses before it makes an operation of it."""
    for rule in RULES:
        rule(wish)


def _name(wish: Wish) -> None:
    name = wish.body.get("name", "")
    if not NAME.fullmatch(name):
        why = "Must be a match of regex '(?:[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?)'"
        raise invalid("resource.name", name, why)


def machine_type(wish: Wish) -> MachineType:
    """Return the machine type a wish names by a partial or full URL.

    Raises GoogleError 400 for a bare name, 404 for a type that the zone does not have.
    """
    url = wish.body.get("machineType", "")
    found = re.fullmatch(
        r"(?:projects/[^/]+/)?zones/(?P<zone>[^/]+)/machineTypes/(?P<name>[^/]+)", path_of(url)
    )
    if found is None:
        raise invalid("resource.machineType", url, "The URL is malformed.")
    if found["zone"] != wish.zone:
        raise invalid("resource.machineType", url, f"Machine type must be in zone '{wish.zone}'.")
    known = machines_in(wish.zone).get(found["name"])
    if known is None:
        raise not_found(wish.project, f"zones/{wish.zone}/machineTypes/{found['name']}")
    return known


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
    if wish.gpus()[1] and asked != "TERMINATE":
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


def _disks(wish: Wish) -> None:
    disks = wish.body.get("disks") or []
    boot = [disk for disk in disks if disk.get("boot")]
    if not disks or len(boot) != 1 or disks[0] is not boot[0]:
        raise invalid("resource.disks", disks, "The first disk must be the one boot disk.")
    for index, disk in enumerate(disks):
        _disk(wish, f"resource.disks[{index}]", disk)


def _disk(wish: Wish, at: str, disk: Mapping[str, Any]) -> None:
    parameters = disk.get("initializeParams") or {}
    kind = _disk_type(wish, at, parameters)
    if disk.get("type") == "SCRATCH":
        if kind != "local-ssd":
            raise invalid(f"{at}.initializeParams.diskType", kind, "SCRATCH needs local-ssd.")
        if wish.machine().family == "e2":
            raise bad_request(f"[{wish.machine().name}, local-ssd] features are not compatible.")
        return
    family = wish.machine().family
    hyper = kind.startswith("hyperdisk")
    if (family in HYPERDISK_ONLY and not hyper) or (hyper and family in NO_HYPERDISK_BALANCED):
        raise bad_request(f"{kind} disk type cannot be used by {wish.machine().name} machine type.")
    if disk.get("source"):
        return
    source = boot_image(wish, at, parameters) if disk.get("boot") else None
    size = parameters.get("diskSizeGb", disk.get("diskSizeGb"))
    smallest, _, largest = DISK_TYPES[kind]
    if source is not None and size is not None and int(size) < source.size_gb:
        raise invalid(
            f"{at}.initializeParams.diskSizeGb",
            size,
            f"Requested disk size cannot be smaller than the image size ({source.size_gb} GB)",
        )
    if size is not None and not smallest <= int(size) <= largest:
        raise invalid(
            f"{at}.initializeParams.diskSizeGb",
            size,
            f"Disk size must be between {smallest} GB and {largest} GB.",
        )


def _disk_type(wish: Wish, at: str, parameters: Mapping[str, Any]) -> str:
    url = parameters.get("diskType")
    if not url:
        return "pd-standard"
    found = re.fullmatch(
        r"(?:projects/[^/]+/)?zones/(?P<zone>[^/]+)/diskTypes/(?P<name>[^/]+)", path_of(url)
    )
    if found is None or found["zone"] != wish.zone:
        raise invalid(f"{at}.initializeParams.diskType", url, "The URL is malformed.")
    if found["name"] not in DISK_TYPES:
        raise not_found(wish.project, f"zones/{wish.zone}/diskTypes/{found['name']}")
    return found["name"]


def boot_image(wish: Wish, at: str, parameters: Mapping[str, Any]) -> Image:
    """Return the image that a boot disk is made from."""
    url = parameters.get("sourceImage", "")
    found = re.fullmatch(
        r"(?:projects/(?P<project>[^/]+)/)?global/images/(?P<family>family/)?(?P<name>[^/]+)",
        path_of(url),
    )
    if found is None:
        raise invalid(f"{at}.initializeParams.sourceImage", url, "The URL is malformed.")
    project = found["project"] or wish.project
    known = image(project, found["name"])
    if known is None or (known.family == found["name"]) != bool(found["family"]):
        path = f"global/images/{found['family'] or ''}{found['name']}"
        raise not_found(project, path)
    if known.arm != (wish.machine().family == "a4x"):
        raise invalid(
            f"{at}.initializeParams.sourceImage", url, "The architecture does not fit the machine."
        )
    return known


def _network(wish: Wish) -> None:
    interfaces = wish.body.get("networkInterfaces") or []
    if not interfaces:
        raise invalid(
            "resource.networkInterfaces", [], "At least one network interface is required."
        )
    for index, each in enumerate(interfaces):
        _interface(wish, f"resource.networkInterfaces[{index}]", each)


def _interface(wish: Wish, at: str, each: Mapping[str, Any]) -> None:
    network, subnet = each.get("network"), each.get("subnetwork")
    if network:
        found = re.fullmatch(
            r"(?:projects/[^/]+/)?global/networks/(?P<name>[^/]+)", path_of(network)
        )
        if found is None:
            raise invalid(f"{at}.network", network, "The URL is malformed.")
        if found["name"] != "default":
            raise not_found(wish.project, f"global/networks/{found['name']}")
    if subnet:
        found = re.fullmatch(
            r"(?:projects/[^/]+/)?regions/(?P<region>[^/]+)/subnetworks/(?P<name>[^/]+)",
            path_of(subnet),
        )
        if found is None or found["region"] != wish.region:
            raise invalid(f"{at}.subnetwork", subnet, "The URL is malformed.")
        if found["name"] != "default":
            raise not_found(wish.project, f"regions/{wish.region}/subnetworks/{found['name']}")
    access = each.get("accessConfigs") or []
    if len(access) > 1:
        raise invalid(f"{at}.accessConfigs", access, "At most one access config is supported.")


def _accounts(wish: Wish) -> None:
    accounts = wish.body.get("serviceAccounts") or []
    if len(accounts) > 1:
        raise invalid(
            "resource.serviceAccounts", accounts, "At most one service account is supported."
        )
    for account in accounts:
        at = "resource.serviceAccounts[0]"
        if not _ACCOUNT.fullmatch(account.get("email", "")):
            raise invalid(f"{at}.email", account.get("email", ""), "Invalid service account.")
        for index, scope in enumerate(account.get("scopes") or []):
            if not _SCOPE.fullmatch(scope):
                raise invalid(f"{at}.scopes[{index}]", scope, "Invalid scope.")


def check_labels(labels: Mapping[str, Any]) -> None:
    """Refuse labels that break the limits."""
    at = "resource.labels"
    if len(labels) > MOST_LABELS:
        raise invalid(at, "", f"There may be at most {MOST_LABELS} labels.")
    for name, value in labels.items():
        if not _label(name) or not name[:1].isalpha():
            raise invalid(
                at,
                "",
                f"Label key '{name}' violates format constraints. The key must start with a "
                "lowercase character, can only contain lowercase letters, numeric characters, "
                "underscores and dashes. The key can be at most 63 characters long. "
                "International characters are allowed.",
            )
        if value and not _label(value):
            raise invalid(
                at,
                "",
                f"Label value '{value}' violates format constraints. The value can only contain "
                "lowercase letters, numeric characters, underscores and dashes. The value can be "
                "at most 63 characters long. International characters are allowed.",
            )


def _label(text: str) -> bool:
    return 0 < len(text) <= 63 and all(
        each in "_-" or (each.isalnum() and each == each.lower()) for each in text
    )


def check_metadata(metadata: Mapping[str, Any]) -> None:
    """Refuse metadata that breaks the limits."""
    at, total = "resource.metadata", 0
    seen: set[str] = set()
    for index, item in enumerate(metadata.get("items") or []):
        name, value = item.get("key", ""), item.get("value", "")
        if not _METADATA_KEY.fullmatch(name):
            raise invalid(f"{at}.items[{index}].key", name, "Must match '[a-zA-Z0-9-_]{1,128}'.")
        if name in seen:
            raise invalid(f"{at}.items[{index}].key", name, "Duplicate metadata key.")
        seen.add(name)
        size = len(value.encode())
        total += size
        if size > LARGEST_METADATA_VALUE:
            raise bad_request(
                f"Metadata value for key '{name}' is too large: maximum size "
                f"{LARGEST_METADATA_VALUE} character(s); actual size {size}.",
                "metadataTooLarge",
            )
    if total > LARGEST_METADATA:
        raise bad_request(f"Metadata is too large: {total} bytes.", "metadataTooLarge")


def _tags(wish: Wish) -> None:
    tags = (wish.body.get("tags") or {}).get("items") or []
    if len(tags) > MOST_TAGS:
        raise invalid("resource.tags", "", f"There may be at most {MOST_TAGS} tags.")
    for index, tag in enumerate(tags):
        if not NAME.fullmatch(tag):
            raise invalid(f"resource.tags.items[{index}]", tag, "Must be a match of RFC 1035.")


RULES: tuple[Callable[[Wish], None], ...] = (
    _name,
    _machine,
    _accelerators,
    _spot,
    _time_limit,
    _flex_start,
    _maintenance,
    _disks,
    _network,
    _accounts,
    lambda wish: check_labels(wish.body.get("labels") or {}),
    lambda wish: check_metadata(wish.body.get("metadata") or {}),
    _tags,
)
