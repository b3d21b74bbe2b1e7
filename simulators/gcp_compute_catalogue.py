"""Compute Engine's read-only half: projects, regions, zones, types, images, networks."""

from __future__ import annotations

from functools import cache

from simulators import gcp_quotas
from simulators.gcp_catalogue import (
    ACCELERATORS,
    DISK_TYPES,
    IMAGES,
    Image,
    MachineType,
    accelerators_in,
    image,
    machines_in,
    region_of,
    zones,
)
from simulators.gcp_compute_shapes import BASE, link, not_found
from simulators.gcp_http import Answer, GoogleError, Request, Route, no_page
from simulators.gcp_lists import Collection, dated, list_one, routes_of
from simulators.gcp_state import Doc
from simulators.gcp_world import World

# Subnetworks of the automatic network lie in 10.128.0.0/9, one /20 for each region.
_FIRST_SUBNET = (10 << 24) + (128 << 16)


def all_zones() -> list[str]:
    """Return the names of all zones."""
    return [zone for each in zones().values() for zone in each]


def default_account(world: World) -> str:
    """Return the service account that instances have unless told otherwise."""
    return f"{world.project_number}-compute@developer.gserviceaccount.com"


@cache
def _machine(project: str, zone: str, machine: MachineType) -> Doc:
    doc: Doc = {
        "kind": "compute#machineType",
        "name": machine.name,
        "description": f"{machine.cpus} vCPUs {machine.memory_mb // 1024} GB RAM",
        "guestCpus": machine.cpus,
        "memoryMb": machine.memory_mb,
        "imageSpaceGb": 0,
        "maximumPersistentDisks": 128,
        "maximumPersistentDisksSizeGb": "263168",
        "zone": zone,
        "selfLink": link(project, "zones", zone, "machineTypes", machine.name),
        "isSharedCpu": False,
        "architecture": "ARM64" if machine.family == "a4x" else "X86_64",
    }
    if machine.accelerator:
        doc["accelerators"] = [
            {
                "guestAcceleratorType": machine.accelerator,
                "guestAcceleratorCount": machine.gpus,
            }
        ]
    if machine.bundled_ssds:
        doc["bundledLocalSsds"] = {
            "defaultInterface": "NVME",
            "partitionCount": machine.bundled_ssds,
        }
    return dated(doc, "machineType", machine.name)


@cache
def _accelerator(project: str, zone: str, name: str) -> Doc:
    doc: Doc = {
        "kind": "compute#acceleratorType",
        "name": name,
        "description": ACCELERATORS[name].shown,
        "maximumCardsPerInstance": ACCELERATORS[name].most,
        "zone": link(project, "zones", zone),
        "selfLink": link(project, "zones", zone, "acceleratorTypes", name),
    }
    return dated(doc, "acceleratorType", name)


def _disk_type(project: str, zone: str, name: str) -> Doc:
    smallest, usual, largest = DISK_TYPES[name]
    doc: Doc = {
        "kind": "compute#diskType",
        "name": name,
        "description": name,
        "validDiskSize": f"{smallest}GB-{largest}GB",
        "defaultDiskSizeGb": str(usual),
        "zone": link(project, "zones", zone),
        "selfLink": link(project, "zones", zone, "diskTypes", name),
    }
    return dated(doc, "diskType", name)


def _zone(project: str, name: str) -> Doc:
    doc: Doc = {
        "kind": "compute#zone",
        "name": name,
        "description": name,
        "status": "UP",
        "region": link(project, "regions", region_of(name)),
        "selfLink": link(project, "zones", name),
        "availableCpuPlatforms": ["Intel Broadwell", "Intel Cascade Lake", "Intel Skylake"],
        "supportsPzs": False,
    }
    return dated(doc, "zone", name)


def _region(world: World, name: str) -> Doc:
    doc: Doc = {
        "kind": "compute#region",
        "name": name,
        "description": name,
        "status": "UP",
        "zones": [link(world.project, "zones", zone) for zone in zones()[name]],
        "quotas": gcp_quotas.listed(world, name),
        "selfLink": link(world.project, "regions", name),
        "supportsPzs": False,
    }
    return dated(doc, "region", name)


def _project(world: World) -> Doc:
    doc: Doc = {
        "kind": "compute#project",
        "name": world.project,
        "commonInstanceMetadata": {"kind": "compute#metadata", "fingerprint": "1rlVyQxC4vE="},
        "quotas": gcp_quotas.listed(world, gcp_quotas.EVERYWHERE),
        "selfLink": f"{BASE}/projects/{world.project}",
        "defaultServiceAccount": default_account(world),
        "xpnProjectStatus": "UNSPECIFIED_XPN_PROJECT_STATUS",
        "defaultNetworkTier": "PREMIUM",
        "vmDnsSetting": "ZONAL_ONLY",
    }
    return dated(doc, "project", world.project)


def _image(each: Image) -> Doc:
    doc: Doc = {
        "kind": "compute#image",
        "name": each.name,
        "family": each.family,
        "description": each.name,
        "sourceType": "RAW",
        "rawDisk": {"source": "", "containerType": "TAR"},
        "status": "READY",
        "archiveSizeBytes": str(each.size_gb * 10**8),
        "diskSizeGb": str(each.size_gb),
        "architecture": "ARM64" if each.arm else "X86_64",
        "licenseCodes": [each.license_id],
        "storageLocations": ["eu", "asia", "us"],
        "labelFingerprint": "42WmSpB8rSM=",
        "selfLink": link(each.project, "global", "images", each.name),
    }
    return dated(doc, "image", each.project, each.name)


def subnetwork(project: str, region: str) -> Doc:
    """Return the automatic subnetwork of a region."""
    at = _FIRST_SUBNET + (list(zones()).index(region) << 12)
    start = f"{at >> 24}.{(at >> 16) & 255}.{(at >> 8) & 255}"
    doc: Doc = {
        "kind": "compute#subnetwork",
        "name": "default",
        "network": link(project, "global", "networks", "default"),
        "ipCidrRange": f"{start}.0/20",
        "gatewayAddress": f"{start}.1",
        "region": link(project, "regions", region),
        "selfLink": link(project, "regions", region, "subnetworks", "default"),
        "privateIpGoogleAccess": True,
        "purpose": "PRIVATE",
        "stackType": "IPV4_ONLY",
        "fingerprint": "Vbi0bUvVwlY=",
    }
    return dated(doc, "subnetwork", region)


def collections(world: World) -> list[Collection]:
    """Return everything of the catalogue that is listed by zone or region."""
    project = world.project
    return [
        Collection(
            plural="machineTypes",
            singular="machineType",
            area="zones",
            scopes=all_zones,
            items=lambda zone: [
                _machine(project, zone, each)
                for each in machines_in(existing_zone(world, zone)).values()
            ],
        ),
        Collection(
            plural="acceleratorTypes",
            singular="acceleratorType",
            area="zones",
            scopes=all_zones,
            items=lambda zone: [
                _accelerator(project, zone, name)
                for name in accelerators_in(existing_zone(world, zone))
            ],
        ),
        Collection(
            plural="diskTypes",
            singular="diskType",
            area="zones",
            scopes=all_zones,
            items=lambda zone: [
                _disk_type(project, existing_zone(world, zone), name) for name in DISK_TYPES
            ],
        ),
        Collection(
            plural="subnetworks",
            singular="subnetwork",
            area="regions",
            scopes=lambda: list(zones()),
            items=lambda region: [subnetwork(project, existing_region(world, region))],
        ),
    ]


def existing_zone(world: World, zone: str) -> str:
    """Return the zone; refuses one that does not exist, as Compute Engine does."""
    if zone not in zones().get(region_of(zone), ()):
        raise not_found(world.project, f"zones/{zone}")
    return zone


def existing_region(world: World, region: str) -> str:
    """Return the region; refuses one that does not exist, as Compute Engine does."""
    if region not in zones():
        raise not_found(world.project, f"regions/{region}")
    return region


def routes(world: World) -> list[Route]:
    """Return them."""
    made = _top_routes(world) + _image_routes() + _foreign(world)
    for collection in collections(world):
        made += routes_of(world.project, collection)
        made.append(_get_route(world, collection))
    return made


def _get_route(world: World, collection: Collection) -> Route:
    def get(request: Request) -> Answer:
        scope, name = request.args["scope"], request.args["name"]
        for item in collection.items(scope):
            if item["name"] == name:
                return Answer(json=item)
        path = f"{collection.area}/{scope}/{collection.plural}/{name}"
        raise not_found(world.project, path)

    start = f"/compute/v1/projects/{world.project}/{collection.area}"
    return Route(
        method="GET",
        pattern=f"{start}/{{scope}}/{collection.plural}/{{name}}",
        handler=get,
        verb=f"compute.{collection.plural}.get",
    )


def _foreign(world: World) -> list[Route]:
    """Return what answers for projects that are not ours: they cannot be told from none."""

    def refuse(request: Request) -> Answer:
        project = request.args["project"]
        if project == world.project:
            return no_page()
        raise GoogleError(
            404, f"The resource 'projects/{project}' was not found", reason="notFound"
        )

    pattern = "/compute/v1/projects/{project}/{rest...}"
    return [
        Route(method=each, pattern=pattern, handler=refuse) for each in ("GET", "POST", "DELETE")
    ]


def _top_routes(world: World) -> list[Route]:
    start = f"/compute/v1/projects/{world.project}"
    all_of_zones = Collection(
        plural="zones",
        singular="zone",
        area="global",
        scopes=list,
        items=lambda _: [_zone(world.project, name) for name in all_zones()],
    )
    all_of_regions = Collection(
        plural="regions",
        singular="region",
        area="global",
        scopes=list,
        items=lambda _: [_region(world, name) for name in zones()],
    )

    def zone(request: Request) -> Answer:
        return Answer(json=_zone(world.project, existing_zone(world, request.args["zone"])))

    def region(request: Request) -> Answer:
        return Answer(json=_region(world, existing_region(world, request.args["region"])))

    def listed(collection: Collection) -> Route:
        return Route(
            method="GET",
            pattern=f"{start}/{collection.plural}",
            handler=lambda request: list_one(request, collection, ""),
            verb=f"compute.{collection.plural}.list",
        )

    return [
        Route(
            method="GET",
            pattern=start,
            handler=lambda _: Answer(json=_project(world)),
            verb="compute.projects.get",
        ),
        listed(all_of_zones),
        Route(
            method="GET", pattern=f"{start}/zones/{{zone}}", handler=zone, verb="compute.zones.get"
        ),
        listed(all_of_regions),
        Route(
            method="GET",
            pattern=f"{start}/regions/{{region}}",
            handler=region,
            verb="compute.regions.get",
        ),
    ]


def _image_routes() -> list[Route]:
    def get(request: Request) -> Answer:
        project, name = request.args["project"], request.args["name"]
        found = image(project, name)
        if found is None or found.name != name:
            raise not_found(project, f"global/images/{name}")
        return Answer(json=_image(found))

    def newest(request: Request) -> Answer:
        project, family = request.args["project"], request.args["family"]
        found = image(project, family)
        if found is None or found.family != family:
            raise not_found(project, f"global/images/family/{family}")
        return Answer(json=_image(found))

    def listed(request: Request) -> Answer:
        project = request.args["project"]
        collection = Collection(
            plural="images",
            singular="image",
            area="global",
            scopes=list,
            items=lambda _: [_image(each) for each in IMAGES if each.project == project],
        )
        return list_one(request, collection, "")

    start = "/compute/v1/projects/{project}/global/images"
    return [
        Route(method="GET", pattern=start, handler=listed, verb="compute.images.list"),
        Route(
            method="GET",
            pattern=f"{start}/family/{{family}}",
            handler=newest,
            verb="compute.images.getFromFamily",
        ),
        Route(method="GET", pattern=f"{start}/{{name}}", handler=get, verb="compute.images.get"),
    ]
