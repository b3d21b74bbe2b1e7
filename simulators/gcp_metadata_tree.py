"""The metadata of an instance, as the tree below `/computeMetadata/v1`.

Names: https://cloud.google.com/compute/docs/metadata/predefined-metadata-keys
"""

from __future__ import annotations

from simulators.gcp_compute_shapes import last
from simulators.gcp_state import Doc
from simulators.gcp_world import World


def metadata_tree(world: World, instance: Doc) -> Doc:
    """Return what the metadata server of an instance tells at boot."""
    return {"instance": _instance(world, instance), "project": _project(world)}


def _project(world: World) -> Doc:
    return {
        "project-id": world.project,
        "numeric-project-id": int(world.project_number),
        "attributes": {},
    }


def _instance(world: World, instance: Doc) -> Doc:
    number = world.project_number
    zone = last(instance["zone"])
    scheduling = instance["scheduling"]
    return {
        "attributes": {item["key"]: item.get("value", "") for item in items(instance)},
        "cpu-platform": instance["cpuPlatform"],
        "description": instance.get("description", ""),
        "disks": [
            {
                "device-name": disk["deviceName"],
                "index": disk["index"],
                "interface": disk["interface"],
                "mode": disk["mode"],
                "type": "LOCAL-SSD" if disk["type"] == "SCRATCH" else "PERSISTENT-BALANCED",
            }
            for disk in instance["disks"]
        ],
        "guest-attributes": {},
        "hostname": f"{instance['name']}.{zone}.c.{world.project}.internal",
        "id": int(instance["id"]),
        "image": instance["_image"],
        "licenses": [{"id": each} for each in instance["_licenses"]],
        "machine-type": f"projects/{number}/machineTypes/{last(instance['machineType'])}",
        "maintenance-event": "NONE",
        "name": instance["name"],
        "network-interfaces": [_interface(world, each) for each in instance["networkInterfaces"]],
        "preempted": "FALSE",
        "remaining-cpu-time": -1,
        "scheduling": {
            "automatic-restart": str(scheduling["automaticRestart"]).upper(),
            "on-host-maintenance": scheduling["onHostMaintenance"],
            "preemptible": str(scheduling["preemptible"]).upper(),
        },
        "service-accounts": _accounts(instance),
        "tags": instance.get("tags", {}).get("items", []),
        "virtual-clock": {"drift-token": "0"},
        "zone": f"projects/{number}/zones/{zone}",
    }


def items(instance: Doc) -> list[Doc]:
    """Return the keys and values that the instance was ordered with."""
    found: list[Doc] = instance.get("metadata", {}).get("items", [])
    return found


def _interface(world: World, each: Doc) -> Doc:
    return {
        "access-configs": [
            {"external-ip": config.get("natIP", ""), "type": "ONE_TO_ONE_NAT"}
            for config in each.get("accessConfigs", [])
        ],
        "dns-servers": ["169.254.169.254"],
        "forwarded-ips": [],
        "gateway": "10.128.0.1",
        "ip": each["networkIP"],
        "ip-aliases": [],
        "mac": "42:01:" + ":".join(f"{int(part):02x}" for part in each["networkIP"].split(".")),
        "mtu": 1460,
        "network": f"projects/{world.project_number}/networks/{last(each['network'])}",
        "subnetmask": "255.255.240.0",
    }


def _accounts(instance: Doc) -> Doc:
    told: Doc = {}
    for account in instance.get("serviceAccounts", []):
        about = {
            "aliases": ["default"],
            "email": account["email"],
            "scopes": account.get("scopes", []),
        }
        told[account["email"]] = about
        told["default"] = about
    return told
