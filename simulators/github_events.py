"""The feed of events that start workflows, read by the Actions simulator."""

from __future__ import annotations

from simulators.github_state import Doc
from simulators.github_world import World


def note(world: World, event: str, payload: Doc) -> None:
    """Append an event to the feed."""
    world.store.put("event", {"event": event, "payload": payload, "at": world.store.stamp()})


def since(world: World, after: int) -> list[Doc]:
    """Return the events that came after a sequence number, oldest first."""
    return [
        {"seq": e["id"], "event": e["event"], "payload": e["payload"]}
        for e in world.store.find("event")
        if e["id"] > after
    ]
