"""The control endpoints under `/_sim/` that every API shares: faults, clock, settings."""

from __future__ import annotations

from simulators.gcp_http import Answer, GoogleError, Request, Route
from simulators.gcp_world import World


def routes(world: World) -> list[Route]:
    """Return them."""

    def add_fault(request: Request) -> Answer:
        return Answer(status=201, json=world.faults.add(request.json()))

    def list_faults(_: Request) -> Answer:
        return Answer(json=world.faults.listed())

    def clear_faults(_: Request) -> Answer:
        world.faults.clear()
        return Answer(status=204)

    def clock(request: Request) -> Answer:
        seconds = request.json().get("advance_s", 0)
        if not isinstance(seconds, int | float):
            raise GoogleError(400, f"advance_s: should be a number of seconds, found {seconds!r}")
        if request.json().get("hold"):
            world.hold()
        world.advance(seconds)
        return Answer(json={"now": world.now(), "stamp": world.stamp()})

    def settings(request: Request) -> Answer:
        for name, value in request.json().items():
            if name not in world.settings:
                raise GoogleError(400, f"{name}: there are {sorted(world.settings)}")
            world.store.set(name, value)
        return Answer(
            json={name: world.store.setting(name, usual) for name, usual in world.settings.items()}
        )

    return [
        Route(method="POST", pattern="/_sim/faults", handler=add_fault),
        Route(method="GET", pattern="/_sim/faults", handler=list_faults),
        Route(method="DELETE", pattern="/_sim/faults", handler=clear_faults),
        Route(method="POST", pattern="/_sim/clock", handler=clock),
        Route(method="POST", pattern="/_sim/settings", handler=settings),
    ]
