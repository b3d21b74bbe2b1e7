"""Control endpoints that make something happen to an instance: `/_sim/instances/…`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from simulators import gcp_quotas
from simulators.gcp_http import Answer, GoogleError, Request, Route
from simulators.gcp_interruptions import Interruptions
from simulators.gcp_life import Life
from simulators.gcp_machines import Machines, PlayError
from simulators.gcp_state import Doc
from simulators.gcp_world import World

_Deed = Callable[[Doc, Doc], None]  # with the instance and the body of the request


def routes(world: World, life: Life, interruptions: Interruptions) -> list[Route]:
    """Return them."""
    deeds: Mapping[str, _Deed] = {
        **_by_the_cloud(interruptions),
        **_to_the_machine(world.machines, life),
    }

    def listed(_: Request) -> Answer:
        return Answer(json=list(world.store.all("instance").values()))

    def do(request: Request) -> Answer:
        deed = deeds.get(request.args["deed"])
        if deed is None:
            raise GoogleError(404, f"{request.args['deed']}: there are {sorted(deeds)}")
        doc = _find(world, request.args["name"])
        try:
            deed(doc, request.json())
        except PlayError as error:
            raise GoogleError(501, str(error)) from error
        return Answer(json={"status": doc["status"]})

    def serial(request: Request) -> Answer:
        doc = _find(world, request.args["name"])
        return Answer(json={"contents": world.machines.serial(doc["_machine"])})

    def set_quota(request: Request) -> Answer:
        wish = request.json()
        for name in ("metric", "limit"):
            if name not in wish:
                raise GoogleError(400, f"{name}: is missing; there are region, metric, limit.")
        region = wish.get("region", gcp_quotas.EVERYWHERE)
        gcp_quotas.set_limit(world, region, wish["metric"], float(wish["limit"]))
        return Answer(json={"region": region, "quotas": gcp_quotas.listed(world, region)})

    one = "/_sim/instances/{name}"
    return [
        Route(method="GET", pattern="/_sim/instances", handler=listed),
        Route(method="GET", pattern=f"{one}/serial", handler=serial),
        Route(method="POST", pattern=f"{one}/{{deed}}", handler=do),
        Route(method="POST", pattern="/_sim/quotas", handler=set_quota),
    ]


def _find(world: World, name: str) -> Doc:
    for doc in world.store.all("instance").values():
        if doc["name"] == name:
            return doc
    raise GoogleError(404, f"{name}: there is no such instance.")


def _by_the_cloud(interruptions: Interruptions) -> dict[str, _Deed]:
    return {
        "preempt": lambda doc, _: interruptions.preempt(doc),
        "host_error": lambda doc, _: interruptions.host_error(doc),
        "maintain": lambda doc, _: interruptions.maintain(doc),
        "vanish": lambda doc, _: interruptions.vanish(doc),
        "guest_off": lambda doc, _: interruptions.guest_off(doc),
    }


def _to_the_machine(machines: Machines, life: Life) -> dict[str, _Deed]:
    """Return what is done to a machine at once, so that a test may rely on it."""
    return {
        "write": lambda doc, wish: life.tell(doc, wish["path"], wish["value"]),
        "freeze": lambda doc, _: machines.freeze(doc["_machine"], frozen=True),
        "thaw": lambda doc, _: machines.freeze(doc["_machine"], frozen=False),
        "cut": lambda doc, _: machines.cut(doc["_machine"], cut=True),
        "join": lambda doc, _: machines.cut(doc["_machine"], cut=False),
        "slow": lambda doc, wish: machines.slow(doc["_machine"], wish.get("kbit")),
        "fill": lambda doc, _: machines.fill(doc["_machine"], full=True),
        "clear": lambda doc, _: machines.fill(doc["_machine"], full=False),
        "unplug": lambda doc, _: machines.power_off(doc["_machine"]),
    }
