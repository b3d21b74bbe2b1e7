"""Bad days on demand: what `/_sim/faults` switches on."""

from __future__ import annotations

import re

from simulators.github_http import ApiError
from simulators.github_state import Doc
from simulators.github_world import World

ANSWER_KINDS = ("error", "drop_answer", "hang", "starter", "truncated_json", "html")
WEBHOOK_KINDS = (
    "webhook_drop",
    "webhook_lose",
    "webhook_duplicate",
    "webhook_delay",
    "webhook_reorder",
)


def add(world: World, wish: Doc) -> Doc:
    """Switch a fault on; it strikes `times` times (once unless told, -1 for ever)."""
    kind = wish.get("kind", "error")
    if kind not in (*ANSWER_KINDS, *WEBHOOK_KINDS):
        raise ApiError(
            422, f"kind: should be one of {ANSWER_KINDS + WEBHOOK_KINDS}, found {kind!r}"
        )
    match = wish.get("match") or {}
    try:
        re.compile(match.get("path", ""))
    except re.error as error:
        raise ApiError(422, f"match/path: should be a regular expression: {error}") from None
    fault = {
        "kind": kind,
        "match": match,
        "status": wish.get("status", 502),
        "headers": wish.get("headers") or {},
        "body": wish.get("body"),
        "delay_s": wish.get("delay_s", 30.0),
        "times": wish.get("times", 1),
        "struck": 0,
    }
    return world.store.put("fault", fault)


def clear(world: World) -> None:
    """Switch every fault off."""
    for fault in world.store.find("fault"):
        world.store.delete("fault", fault["id"])


def answer_fault(world: World, method: str, path: str) -> Doc | None:
    """Return the fault that strikes this request, and count it."""
    for fault in world.store.find("fault"):
        match = fault["match"]
        if fault["kind"] not in ANSWER_KINDS or _spent(fault):
            continue
        if match.get("method", method).upper() == method and re.search(match.get("path", ""), path):
            return _strike(world, fault)
    return None


def webhook_fault(world: World, event: str, action: str | None) -> Doc | None:
    """Return the fault that strikes this delivery, and count it."""
    for fault in world.store.find("fault"):
        match = fault["match"]
        if fault["kind"] not in WEBHOOK_KINDS or _spent(fault):
            continue
        if match.get("event", event) == event and match.get("action", action) == action:
            return _strike(world, fault)
    return None


def _spent(fault: Doc) -> bool:
    return bool(0 <= fault["times"] <= fault["struck"])


def _strike(world: World, fault: Doc) -> Doc:
    fault["struck"] += 1
    return world.store.put("fault", fault)
