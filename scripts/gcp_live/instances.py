"""Order instances, look at them as Google keeps them, have them taken back, give them back.

Each step takes the ground, returns what it saw, and raises Differs (or another CynthusError).
"""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from typing import Any

from cynthus.spec import GpuNeed, Resources, Spot
from scripts.gcp_live.ground import LIFE, Differs, Ground, some
from webhook_server.providers.gcp_client import ApiError
from webhook_server.providers.gcp_order import Surroundings, instance
from webhook_server.providers.gcp_refusals import of_order
from webhook_server.providers.provider import Fate, InstanceNotFound, Misconfigured
from webhook_server.runs.lending import Order

DRIVER_S = 900.0  # the driver's own limit of the boot is below it
PREEMPTED_S = 300.0  # the simulated event begins within a minute, then the guest shuts down
_CPU = Resources(cpu=1, memory_bytes=2 << 30)
_SPOT = replace(_CPU, spot=Spot.ALWAYS)
_GPU = Resources(gpu=(GpuNeed("t4"), GpuNeed("l4")), spot=Spot.PREFER)
_TAKEN = 409  # HTTP


def see_refusal(ground: Ground) -> str:
    """Order something with a fault in it."""
    zone = ground.provider.offers(_CPU)[0].place
    try:
        ground.door.insert_instance(zone, {"name": "Not-A-Name"}, str(uuid.uuid4()))
    except ApiError as error:
        meaning = of_order(error, zone)
        if not isinstance(meaning, Misconfigured):
            raise Differs(f"should end a run, found {type(meaning).__name__}: {error}") from error
        return f"HTTP {error.status} {', '.join(error.reasons)}: ends a run at once"
    raise Differs("an order with a fault should be refused, found it taken")


def see_create(ground: Ground) -> str:
    """Order the cheapest machine and wait until it runs."""
    begin = time.monotonic()
    order = ground.machine("cpu", _CPU)
    offer = order.offer
    return (
        f"{order.name}: {offer.machine} in {offer.place} runs after"
        f" {time.monotonic() - begin:.0f} s, ${offer.usd_per_hour} an hour"
    )


def see_shape(ground: Ground) -> str:
    """Look at what Google made of the order."""
    order = ground.machine("cpu", _CPU)
    found: Any = ground.door.instance(order.offer.place, order.name) or {}
    scheduling = found.get("scheduling", {})
    wanted = {
        "maxRunDuration": int(LIFE.total_seconds()),
        "instanceTerminationAction": "DELETE",
        "automaticRestart": False,
        "external addresses": int(bool(ground.settings.gcp_external_ip)),
        "disks that stay": 0,
        "vTPM": True,
        "account": ground.settings.gcp_service_account,
    }
    seen = {
        "maxRunDuration": int(scheduling.get("maxRunDuration", {}).get("seconds", 0)),
        "instanceTerminationAction": scheduling.get("instanceTerminationAction"),
        "automaticRestart": scheduling.get("automaticRestart", False),
        "external addresses": sum(
            len(one.get("accessConfigs", ())) for one in found.get("networkInterfaces", ())
        ),
        "disks that stay": sum(not one.get("autoDelete") for one in found.get("disks", ())),
        "vTPM": found.get("shieldedInstanceConfig", {}).get("enableVtpm"),
        "account": next((one["email"] for one in found.get("serviceAccounts", ())), ""),
    }
    wrong = [f"{k} should be {v}, found {seen[k]}" for k, v in wanted.items() if seen[k] != v]
    if wrong:
        raise Differs("; ".join(wrong))
    return "hard end, no restart, no address, disk goes along, vTPM, least account"


def see_repeat(ground: Ground) -> str:
    """Order the same again."""
    order = ground.machine("cpu", _CPU)
    again = ground.provider.create(order, "")
    alike = [one for one in ground.provider.list() if one.name == order.name]
    if len(alike) != 1:
        raise Differs(f"there should be one {order.name}, found {len(alike)}")
    return f"the same order again is the same instance: {again.detail or again.fate}"


def see_taken(ground: Ground) -> str:
    """Order under a name that is taken."""
    order = ground.planned(_CPU)
    zone = order.offer.place
    body = _as_ordered(ground, order)
    # By request ids of their own: as by a server that has lost the memory of its order.
    ground.door.insert_instance(zone, body, str(uuid.uuid4()))
    try:
        ground.door.insert_instance(zone, body, str(uuid.uuid4()))
    except ApiError as error:
        if error.status != _TAKEN:
            raise Differs(f"a name that is taken should be told by 409, found {error}") from error
    else:
        raise Differs("a second order under one name should be refused, found it taken")
    if not ground.provider.create(order, "").vendor_id:
        raise Differs("what has our labels should be adopted with its number, found none")
    try:
        ground.provider.create(replace(order, attempt=order.attempt + 1000), "")
    except Misconfigured:
        ground.delete(order.name)
        return "409; adopted by the labels of its own attempt, and by no others"
    raise Differs("an instance of another attempt should not be adopted, found that it was")


def _as_ordered(ground: Ground, order: Order) -> dict[str, Any]:
    """Return the instance that our provider would order, without what boots in it."""
    around = Surroundings(
        control_plane=ground.plane,
        image=ground.settings.gcp_image,
        network=ground.settings.gcp_network,
        subnetwork=ground.settings.gcp_subnetwork,
        service_account="",
        external_ip=False,
        secure_boot=False,
    )
    return instance(order, around, "#cloud-config")


def see_list(ground: Ground) -> str:
    """List all zones."""
    order = ground.machine("cpu", _CPU)
    listed = {one.name: one for one in ground.provider.list()}
    if order.name not in listed:
        raise Differs(f"the list of all zones should show {order.name}, found {sorted(listed)}")
    return f"{len(listed)} with this check's label, ${listed[order.name].usd_per_hour} an hour"


def see_delete(ground: Ground) -> str:
    """Delete until "not found"."""
    order = ground.machine("cpu", _CPU)
    begin = time.monotonic()
    last = ground.delete(order.name)
    del ground.made["cpu"]
    try:
        ground.provider.get(order.name)
    except InstanceNotFound:
        return f"gone after {time.monotonic() - begin:.0f} s: {last}"
    raise Differs(f"{order.name} should stay gone, found it again")


def see_preempt(ground: Ground) -> str:
    """Have a Spot machine taken back."""
    order = ground.machine("spot", _SPOT)
    begin = time.monotonic()
    _client(ground).simulate_maintenance_event_unary(
        project=ground.settings.gcp_project, zone=order.offer.place, instance=order.name
    )

    def taken_back() -> Fate | None:
        try:
            fate = ground.provider.get(order.name).fate
        except InstanceNotFound as gone:
            return gone.fate or Fate.STOPPED
        return None if fate in {Fate.RUNNING, Fate.STARTING, Fate.ENDING} else fate

    fate = ground.until(f"{order.name} should be taken back", PREEMPTED_S, taken_back)
    if fate is not Fate.PREEMPTED:
        raise Differs(f"the operations should say preempted, found {fate}")
    del ground.made["spot"]
    return f"told as preempted after {time.monotonic() - begin:.0f} s"


def see_gpu(ground: Ground) -> str:
    """Boot a machine with a GPU until its driver is ready."""
    order = ground.machine("gpu", _GPU)
    begin = time.monotonic()

    def driven() -> str | None:
        text = _client(ground).get_serial_port_output(
            project=ground.settings.gcp_project, zone=order.offer.place, instance=order.name
        )
        lines = [line for line in text.contents.splitlines() if "cynthus: " in line]
        if any("mark driver_ready" in line for line in lines):
            return "; ".join(line.partition("cynthus: ")[2] for line in lines)
        if any("GPU driver:" in line for line in lines):
            raise Differs(lines[-1].partition("cynthus: ")[2])
        return None

    told = ground.until("the GPU driver should be ready", DRIVER_S, driven)
    return f"{order.offer.machine}: after {time.monotonic() - begin:.0f} s: {told}"


def _client(ground: Ground) -> Any:
    """Return Google's client for what our provider never asks."""
    import google.auth
    from google.api_core.client_options import ClientOptions
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import compute_v1

    url = ground.settings.gcp_compute_url
    return compute_v1.InstancesClient(
        client_options=ClientOptions(api_endpoint=url or None),
        credentials=AnonymousCredentials() if url else google.auth.default()[0],
    )


def see_leftovers(ground: Ground) -> str:
    """Delete what the steps have left running, and look that nothing is there."""
    for kind, order in list(ground.made.items()):
        ground.delete(order.name)
        del ground.made[kind]
    left = [f"{one.kind} {one.name} in {one.place}" for one in ground.provider.list()]
    if left:
        raise Differs(f"nothing should be left, found {some(left)}")
    return "no instance, disk or address with this check's label"
