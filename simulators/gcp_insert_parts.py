"""What Compute Engine demands of an instance's disks, network and service account: pure rules."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from simulators.gcp_catalogue import DISK_TYPES, Image, image, takes_disk
from simulators.gcp_compute_shapes import bad_request, invalid, not_found, path_of
from simulators.gcp_wish import Wish

_SCOPE = re.compile(r"https://www\.googleapis\.com/auth/[a-z._-]+")
_ACCOUNT = re.compile(r"default|[^@\s/]+@[^@\s/]+\.[^@\s/]+")


def check_disks(wish: Wish) -> None:
    """Refuse disks that the machine, the image or the disk's type rules out."""
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
    if not takes_disk(wish.machine(), kind):
        raise bad_request(f"{kind} disk type cannot be used by {wish.machine().name} machine type.")
    if disk.get("source"):
        return
    _encryption(wish, at, disk)
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


_KEY = re.compile(r"projects/[^/]+/locations/([^/]+)/keyRings/[^/]+/cryptoKeys/[^/]+(/.*)?")


def _encryption(wish: Wish, at: str, disk: Mapping[str, Any]) -> None:
    """Refuse a key that is none, or that lies in another region.

    https://cloud.google.com/compute/docs/disks/customer-managed-encryption#restrictions
    """
    key = (disk.get("diskEncryptionKey") or {}).get("kmsKeyName")
    if key is None:
        return
    found = _KEY.fullmatch(key)
    if found is None:
        raise invalid(f"{at}.diskEncryptionKey.kmsKeyName", key, "The name is malformed.")
    if found[1] not in {"global", wish.zone.rpartition("-")[0]}:
        raise bad_request(
            f"Cloud KMS key {key} cannot be used: its location is not the disk's region."
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


def check_network(wish: Wish) -> None:
    """Refuse interfaces on networks that are not there."""
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


def check_accounts(wish: Wish) -> None:
    """Refuse more than one service account, and what is no account or scope."""
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
