"""Hold Google's lists beside what is shipped: account, machine types, prices, quotas.

Each step takes the ground, returns what it saw, and raises Differs (or another CynthusError).
"""

from __future__ import annotations

from scripts.gcp_live.ground import Differs, Ground, some
from webhook_server.providers import gcp_shapes
from webhook_server.providers.gcp_machines import GPUS, NAMES, read_catalogue, region_of
from webhook_server.providers.gcp_prices import shipped
from webhook_server.providers.gcp_quota import read_quotas
from webhook_server.providers.gcp_skus import COMPUTE_ENGINE, rates

DEAR = 0.1  # a list price that moved by more than a tenth makes estimates wrong


def see_account(ground: Ground) -> str:
    """Say as whom we act."""
    project = ground.door.project()
    if project.get("name") != ground.settings.gcp_project:
        raise Differs(f"the project should be told by its id, found {project.get('name')!r}")
    return f"project {project['name']}, state folder {ground.settings.state_dir}"


def see_catalogue(ground: Ground) -> str:
    """Hold the machine types beside the shipped table."""
    live = read_catalogue(
        ground.door.machine_types(f'name eq "{NAMES}"'), ground.door.accelerator_types()
    )
    shapes = {one.name: one for zone in live.machines.values() for one in zone}
    known = {one.name: one for one in gcp_shapes.machine_types()}
    wrong = [name for name, shape in known.items() if shapes.get(name, shape) != shape]
    gone = sorted(name for name in known if name not in shapes)
    accelerators = {one.accelerator for one in GPUS}
    strange = sorted({one.accelerator for one in shapes.values() if one.accelerator} - accelerators)
    if wrong or strange:
        raise Differs(
            f"shapes should be as shipped, found others of {some(wrong)}; accelerators that no"
            f" word of a spec names: {some(strange)}"
        )
    text = f"{len(shapes)} machine types in {len(live.zones)} zones"
    return f"{text}; shipped, not seen: {some(gone)}" if gone else text


def see_prices(ground: Ground) -> str:
    """Hold the Billing Catalog beside the shipped table."""
    table = shipped().rates
    live = {
        (region, thing): rate
        for region, thing, rate in rates(
            ground.door.skus(COMPUTE_ENGINE), gcp_shapes.machine_types()
        )
    }
    if not live:
        raise Differs("prices should be read from the Billing Catalog, found none that fits")
    both = [(key, live[key].usd, rate.usd) for key, rate in table.items() if key in live]
    moved = [
        f"{key[1]} in {key[0]} {new}, shipped {old}"
        for key, new, old in both
        if new and old and abs(new / old - 1) > DEAR
    ]
    if moved:
        raise Differs(f"{len(moved)} of {len(both)} moved by over a tenth: {some(moved)}")
    return f"{len(live)} live, {len(both)} also shipped, none moved by over a tenth"


def see_quotas(ground: Ground) -> str:
    """Tell the GPU quotas."""
    quotas = read_quotas(ground.door.regions(), ground.door.project())
    regions = dict.fromkeys(
        region_of(place) if place[-2:-1] == "-" else place for place in ground.settings.gcp_places
    )
    told = [
        f"{region} {quota}"
        for region in regions
        for metric, quota in quotas.regions.get(region, {}).items()
        if metric.endswith("_GPUS") and quota.limit > 0
    ]
    everywhere = quotas.project.get("GPUS_ALL_REGIONS")
    if not quotas.regions:
        raise Differs("quotas should be told with the regions, found none")
    return f"GPUS_ALL_REGIONS: {everywhere or 'not told'}; {some(told)}"
