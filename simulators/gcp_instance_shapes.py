"""From an order to the instance and the disks that Compute Engine then shows: pure."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from simulators.gcp_catalogue import DISK_TYPES, Image
from simulators.gcp_compute_catalogue import default_account, subnetwork
from simulators.gcp_compute_shapes import fingerprint, last, link, number
from simulators.gcp_insert_parts import boot_image
from simulators.gcp_state import Doc
from simulators.gcp_wish import Wish
from simulators.gcp_world import World


def instance_of(world: World, wish: Wish) -> Doc:
    """Return the new instance, in no state yet, filled with what was left out."""
    body = copy.deepcopy(dict(wish.body))
    name, zone, project = body["name"], wish.zone, world.project
    count = world.store.count("instance")
    image = boot_image(wish, "resource.disks[0]", body["disks"][0].get("initializeParams") or {})
    doc: Doc = {
        **body,
        "kind": "compute#instance",
        "id": number("instance", project, zone, name, str(count), str(world.now())),
        "creationTimestamp": world.stamp(),
        "zone": link(project, "zones", zone),
        "selfLink": link(project, "zones", zone, "instances", name),
        "machineType": link(project, "zones", zone, "machineTypes", wish.machine().name),
        "cpuPlatform": "Intel Cascade Lake",
        "scheduling": scheduling_of(body.get("scheduling") or {}),
        "disks": [_attached(wish, index, disk, image) for index, disk in enumerate(body["disks"])],
        "networkInterfaces": [
            _interface(wish, index, each, count)
            for index, each in enumerate(body["networkInterfaces"])
        ],
        "serviceAccounts": [
            {**each, "email": _email(world, each["email"])}
            for each in body.get("serviceAccounts") or []
        ],
        "labels": body.get("labels") or {},
        "labelFingerprint": fingerprint(body.get("labels") or {}),
        "metadata": metadata_of(body.get("metadata") or {}),
        "tags": {"fingerprint": fingerprint(body.get("tags")), **(body.get("tags") or {})},
        "canIpForward": body.get("canIpForward", False),
        "deletionProtection": body.get("deletionProtection", False),
        "startRestricted": False,
        "shieldedInstanceConfig": {
            "enableSecureBoot": False,
            "enableVtpm": True,
            "enableIntegrityMonitoring": True,
            **(body.get("shieldedInstanceConfig") or {}),
        },
        "shieldedInstanceIntegrityPolicy": {"updateAutoLearnPolicy": True},
        "resourceStatus": {},
        "lastStartTimestamp": world.stamp(),
        "status": "PROVISIONING",
    }
    doc["fingerprint"] = fingerprint(doc)
    doc |= _gpus(wish) | _own(world, name, zone, image)
    return doc


def _own(world: World, name: str, zone: str, image: Image) -> Doc:
    # Machines are told apart by name alone; in two zones one name is possible, if rare.
    taken = {each["_machine"] for each in world.store.all("instance").values()}
    return {
        "_machine": f"{name}-{zone}" if name in taken else name,
        "_image": f"projects/{image.project}/global/images/{image.name}",
        "_licenses": [image.license_id],
        "_turn": 0,
        "_starting": "",
        "_deletes": [],
        "_booted": False,
        "_visible_at": 0,
    }


def _email(world: World, email: str) -> str:
    return default_account(world) if email == "default" else email


def _gpus(wish: Wish) -> Doc:
    name, count = wish.gpus()
    if not count:
        return {}
    url = link(wish.project, "zones", wish.zone, "acceleratorTypes", name)
    return {"guestAccelerators": [{"acceleratorType": url, "acceleratorCount": count}]}


def scheduling_of(asked: Mapping[str, Any]) -> Doc:
    """Return the scheduling with what Compute Engine takes when nothing is said."""
    spot = asked.get("provisioningModel") == "SPOT" or bool(asked.get("preemptible"))
    return {
        "onHostMaintenance": "TERMINATE" if spot else "MIGRATE",
        "automaticRestart": not spot,
        "provisioningModel": "SPOT" if spot else "STANDARD",
        **asked,
        "preemptible": spot,
    }


def metadata_of(asked: Mapping[str, Any]) -> Doc:
    """Return metadata with its kind and fingerprint."""
    items = asked.get("items") or []
    return {"kind": "compute#metadata", "fingerprint": fingerprint(items), "items": items}


def _attached(wish: Wish, index: int, disk: Mapping[str, Any], image: Image) -> Doc:
    scratch = disk.get("type") == "SCRATCH"
    doc: Doc = {
        "kind": "compute#attachedDisk",
        "type": "SCRATCH" if scratch else "PERSISTENT",
        "mode": disk.get("mode", "READ_WRITE"),
        "deviceName": disk.get("deviceName")
        or (f"local-ssd-{index}" if scratch else f"persistent-disk-{index}"),
        "index": index,
        "boot": bool(disk.get("boot")),
        "autoDelete": bool(disk.get("autoDelete")) or scratch,
        "interface": disk.get("interface", "SCSI"),
        "diskSizeGb": _size(disk, image),
    }
    if not scratch:
        doc["source"] = link(wish.project, "zones", wish.zone, "disks", _disk_name(wish, index))
        doc |= _encryption(disk)
    if disk.get("boot"):
        doc["licenses"] = [link(image.project, "global", "licenses", image.family)]
        doc["architecture"] = "ARM64" if image.arm else "X86_64"
        doc["guestOsFeatures"] = [{"type": "UEFI_COMPATIBLE"}, {"type": "GVNIC"}]
    return doc


def _encryption(disk: Mapping[str, Any]) -> Doc:
    """Return which version of a key encrypts the disk: the first, here nobody rotates."""
    key = (disk.get("diskEncryptionKey") or {}).get("kmsKeyName")
    return {"diskEncryptionKey": {"kmsKeyName": f"{key}/cryptoKeyVersions/1"}} if key else {}


def _size(disk: Mapping[str, Any], image: Image) -> str:
    parameters = disk.get("initializeParams") or {}
    if disk.get("type") == "SCRATCH":
        return "375"
    smallest = image.size_gb if disk.get("boot") else _usual(parameters)
    return str(parameters.get("diskSizeGb") or disk.get("diskSizeGb") or smallest)


def _usual(parameters: Mapping[str, Any]) -> int:
    return DISK_TYPES[last(parameters.get("diskType") or "pd-standard")][1]


def _disk_name(wish: Wish, index: int) -> str:
    disk = wish.body["disks"][index]
    told: str = (disk.get("initializeParams") or {}).get("diskName") or last(disk.get("source", ""))
    if told:
        return told
    name: str = wish.body["name"]
    return name if index == 0 else f"{name}-{index}"


def new_disks(world: World, wish: Wish, instance: Doc) -> list[Doc]:
    """Return the persistent disks that come with an instance, attached to it."""
    made = []
    for asked, disk in zip(wish.body["disks"], instance["disks"], strict=True):
        if disk["type"] == "SCRATCH" or asked.get("source"):
            continue
        parameters = asked.get("initializeParams") or {}
        name = last(disk["source"])
        doc = disk_of(
            world,
            wish.zone,
            {
                "name": name,
                "sizeGb": disk["diskSizeGb"],
                "type": last(parameters.get("diskType") or "pd-standard"),
                "labels": parameters.get("labels") or {},
            },
        )
        doc |= _encryption(asked)
        doc["users"] = [instance["selfLink"]]
        if disk["boot"]:
            doc["sourceImage"] = link(*instance["_image"].split("/", 2)[1:])
        made.append(doc)
    return made


def disk_of(world: World, zone: str, asked: Mapping[str, Any]) -> Doc:
    """Return a persistent disk; `type` is the name of its type."""
    project, name, labels = world.project, asked["name"], asked.get("labels") or {}
    return {
        "kind": "compute#disk",
        "id": number("disk", zone, name, str(world.now())),
        "name": name,
        "description": asked.get("description", ""),
        "sizeGb": str(asked["sizeGb"]),
        "type": link(project, "zones", zone, "diskTypes", asked["type"]),
        "zone": link(project, "zones", zone),
        "status": "READY",
        "creationTimestamp": world.stamp(),
        "selfLink": link(project, "zones", zone, "disks", name),
        "labels": labels,
        "labelFingerprint": fingerprint(labels),
        "physicalBlockSizeBytes": "4096",
        "users": [],
    }


def address_of(world: World, region: str, body: Mapping[str, Any]) -> Doc:
    """Return a reserved address."""
    project, name = world.project, body["name"]
    labels = body.get("labels") or {}
    return {
        "kind": "compute#address",
        "id": number("address", region, name, str(world.now())),
        "name": name,
        "description": body.get("description", ""),
        "address": f"198.51.100.{1 + world.store.count('address') % 254}",  # RFC 5737: no real one
        "addressType": body.get("addressType", "EXTERNAL"),
        "networkTier": body.get("networkTier", "PREMIUM"),
        "status": "RESERVED",
        "region": link(project, "regions", region),
        "selfLink": link(project, "regions", region, "addresses", name),
        "creationTimestamp": world.stamp(),
        "labels": labels,
        "labelFingerprint": fingerprint(labels),
    }


def _interface(wish: Wish, index: int, each: Mapping[str, Any], count: int) -> Doc:
    subnet = subnetwork(wish.project, wish.region)
    first, second, third, _ = subnet["gatewayAddress"].split(".")
    # Addresses are given out in turn and taken up again after a /20, less the reserved ones.
    at = 2 + count % 4090
    doc: Doc = {
        "kind": "compute#networkInterface",
        "name": f"nic{index}",
        "network": subnet["network"],
        "subnetwork": subnet["selfLink"],
        "networkIP": f"{first}.{second}.{int(third) + (at >> 8)}.{at & 255}",
        "stackType": each.get("stackType", "IPV4_ONLY"),
        "fingerprint": fingerprint([wish.body["name"], index]),
    }
    if each.get("nicType"):
        doc["nicType"] = each["nicType"]
    if each.get("accessConfigs"):
        doc["accessConfigs"] = [_access(config, count) for config in each["accessConfigs"]]
    return doc


def _access(config: Mapping[str, Any], count: int) -> Doc:
    return {
        "kind": "compute#accessConfig",
        "type": "ONE_TO_ONE_NAT",
        "name": config.get("name") or "External NAT",
        "natIP": config.get("natIP") or f"203.0.113.{1 + count % 254}",  # RFC 5737: no real one
        "networkTier": config.get("networkTier", "PREMIUM"),
    }
