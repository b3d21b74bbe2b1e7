"""Turn an order into the instance resource that Compute Engine is asked for: pure.

Fields: https://cloud.google.com/compute/docs/reference/rest/v1/instances. The hard end by
`maxRunDuration` holds even when this server never comes back:
https://cloud.google.com/compute/docs/instances/limit-vm-runtime
"""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from webhook_server.providers.gcp_machines import (
    GIB,
    boot_disk_type,
    region_of,
    taken_apart,
)
from webhook_server.providers.provider import Misconfigured
from webhook_server.runs.lending import Order

# A driver, Docker and a CUDA image of 10 GB, unpacked beside its compressed layers.
USUAL_DISK_GIB = 50
SHORTEST, LONGEST = timedelta(seconds=30), timedelta(days=120)  # limit-vm-runtime
NAME = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")  # RFC 1035
MOST_LABELS = 64  # https://cloud.google.com/compute/docs/labeling-resources#requirements
LABEL_PLANE = "cynthus-control-plane"
LABEL_RUN, LABEL_ATTEMPT, LABEL_RANK = "cynthus-run", "cynthus-attempt", "cynthus-rank"
LABEL_REPOSITORY = "cynthus-repository"
RESERVED = "cynthus"  # keys of users may not begin so
TAG = "cynthus"  # for the firewall rules of a network of one's own
# Reading alone, for pulling images; the identity token needs no scope. What the account may do is
# bounded by its roles besides. https://developers.google.com/identity/protocols/oauth2/scopes
SCOPES = (
    "https://www.googleapis.com/auth/devstorage.read_only",
    "https://www.googleapis.com/auth/cloud-platform.read-only",
)
_NAMESPACE = uuid.UUID("6d1b8a53-8f0e-5f0c-9a53-6f2f6f6b9f10")  # any, but always the same
_LABEL_VALUE = re.compile(r"[a-z0-9_-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What the server's settings say of every instance."""

    control_plane: str
    image: str
    network: str
    subnetwork: str
    service_account: str
    external_ip: bool
    secure_boot: bool  # only where every driver is signed
    kms_key: str = ""  # encrypts disks; empty: Google's own keys


def request_id(control_plane: str, name: str) -> str:
    """Return the id that makes repeated inserts of one name one insert: the same after a crash."""
    return str(uuid.uuid5(_NAMESPACE, f"{control_plane}/{name}"))


def instance(order: Order, around: Surroundings, user_data: str) -> dict[str, Any]:
    """Return the body of `instances.insert`; nothing in it is secret.

    Raises: Misconfigured for a name or machine that cannot be ordered.
    """
    if not NAME.fullmatch(order.name):
        raise Misconfigured(f"instance name {order.name!r}: should match {NAME.pattern}")
    machine, gpu, gpu_count = _machine(order)
    zone = order.offer.place
    body: dict[str, Any] = {
        "name": order.name,
        "description": f"Cynthus: run {order.run_id}, attempt {order.attempt}",
        "machineType": f"zones/{zone}/machineTypes/{machine}",
        "labels": labels(order, around.control_plane),
        "disks": [_boot_disk(order, around, machine)],
        "networkInterfaces": [_network(zone, around)],
        "scheduling": _scheduling(order),
        "metadata": {"items": _metadata(user_data)},
        "tags": {"items": [TAG]},
        "shieldedInstanceConfig": {
            "enableSecureBoot": around.secure_boot,
            "enableVtpm": True,
            "enableIntegrityMonitoring": True,
        },
    }
    if gpu is not None:
        # Machine types with built-in GPUs bring them, and their local SSDs, by themselves.
        body["guestAccelerators"] = [
            {
                "acceleratorType": f"zones/{zone}/acceleratorTypes/{gpu.accelerator}",
                "acceleratorCount": gpu_count,
            }
        ]
    if around.service_account:
        body["serviceAccounts"] = [{"email": around.service_account, "scopes": list(SCOPES)}]
    return body


def _machine(order: Order) -> tuple[str, Any, int]:
    try:
        return taken_apart(order.offer.machine)
    except ValueError as error:
        raise Misconfigured(f"{order.name}: {error}") from error


def disk_gib(disk_bytes: int | None) -> int:
    """Return the size of the boot disk in GiB, Google's unit."""
    return max(USUAL_DISK_GIB, math.ceil((disk_bytes or 0) / GIB))


def _boot_disk(order: Order, around: Surroundings, machine: str) -> dict[str, Any]:
    # https://cloud.google.com/compute/docs/disks/customer-managed-encryption
    key = {"diskEncryptionKey": {"kmsKeyName": around.kms_key}} if around.kms_key else {}
    return {
        **key,
        "boot": True,
        "autoDelete": True,
        "mode": "READ_WRITE",
        "type": "PERSISTENT",
        "initializeParams": {
            # The instance's own name, so that it is found when its instance left it behind.
            "diskName": order.name,
            "diskSizeGb": str(disk_gib(order.need.disk_bytes)),
            "diskType": f"zones/{order.offer.place}/diskTypes/{boot_disk_type(machine)}",
            "sourceImage": around.image,
            "labels": labels(order, around.control_plane),
        },
    }


def _network(zone: str, around: Surroundings) -> dict[str, Any]:
    interface: dict[str, Any] = {"network": around.network}
    if around.subnetwork:
        whole = "/" in around.subnetwork
        interface["subnetwork"] = (
            around.subnetwork
            if whole
            else f"regions/{region_of(zone)}/subnetworks/{around.subnetwork}"
        )
    if around.external_ip:
        interface["accessConfigs"] = [{"name": "External NAT", "type": "ONE_TO_ONE_NAT"}]
    return interface


def _scheduling(order: Order) -> dict[str, Any]:
    spot = order.offer.spot
    # Without TERMINATE the API answers 400 "Instances with guest accelerators do not support live
    # migration"; Spot never migrates; an E2 without Spot must not have it.
    terminate = spot or order.offer.gpu_count > 0
    return {
        "provisioningModel": "SPOT" if spot else "STANDARD",
        "onHostMaintenance": "TERMINATE" if terminate else "MIGRATE",
        # An instance that starts anew would run an attempt that was given up.
        "automaticRestart": False,
        # For Spot and for the end of the time alike; STOP would keep a disk that costs.
        "instanceTerminationAction": "DELETE",
        "maxRunDuration": {"seconds": str(math.ceil(_life(order.max_life).total_seconds()))},
    }


def _life(max_life: timedelta) -> timedelta:
    return min(max(max_life, SHORTEST), LONGEST)


def _metadata(user_data: str) -> list[dict[str, str]]:
    # Everybody who may look at the instance, and every process in it, reads these.
    items = {
        "user-data": user_data,
        "block-project-ssh-keys": "TRUE",
        "serial-port-enable": "FALSE",
    }
    return [{"key": key, "value": value} for key, value in items.items()]


# ── labels ──────────────────────────────────────────────────────────────────────────────────────


def labels(order: Order, control_plane: str) -> dict[str, str]:
    """Return the labels of all that is made for an order: ours, then the spec's as they fit."""
    ours = {
        LABEL_PLANE: plane_label(control_plane),
        LABEL_REPOSITORY: str(order.repository_id),
        LABEL_RUN: _sanitised(order.run_id),
        LABEL_ATTEMPT: str(order.attempt),
        LABEL_RANK: str(order.rank),
    }
    theirs = {_label_key(key): _sanitised(value) for key, value in order.labels}
    kept = [(key, value) for key, value in theirs.items() if not key.startswith(RESERVED)]
    return ours | dict(kept[: MOST_LABELS - len(ours)])


def plane_label(control_plane: str) -> str:
    """Return the control plane's id as a label's value.

    Raises: Misconfigured when it could not be told from another's.
    """
    if not control_plane or not _LABEL_VALUE.fullmatch(control_plane):
        raise Misconfigured(f"control plane id {control_plane!r}: should be a label's value")
    return control_plane


def _label_key(key: str) -> str:
    plain = _sanitised(key).lstrip("_-0123456789")
    return plain or "label"


def _sanitised(text: str) -> str:
    return re.sub(r"[^a-z0-9_-]", "_", text.lower())[:63]


def is_of(resource: Mapping[str, Any], control_plane: str) -> bool:
    """Say whether a resource carries this control plane's mark."""
    return bool(resource.get("labels", {}).get(LABEL_PLANE) == control_plane)


def is_for(resource: Mapping[str, Any], order: Order, control_plane: str) -> bool:
    """Say whether a resource was made for this very order."""
    wanted = labels(order, control_plane)
    held = resource.get("labels", {})
    keys = (LABEL_PLANE, LABEL_RUN, LABEL_ATTEMPT, LABEL_RANK)
    return all(held.get(key) == wanted[key] for key in keys)
