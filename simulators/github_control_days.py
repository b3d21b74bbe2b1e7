"""Control endpoints under `/_sim/` that look behind the scenes or make a day bad."""

from __future__ import annotations

from simulators import github_events as events
from simulators import github_faults as faults
from simulators import github_oidc as oidc
from simulators.github_http import Answer, ApiError, Call, Route
from simulators.github_limits import DEFAULTS
from simulators.github_webhooks import UNSENT


def forge(call: Call) -> Answer:
    """POST /_sim/oidc {claims, ttl?, header?}: a token with any claims, rightly signed."""
    wish = call.json()
    token = oidc.forged(
        call.world,
        wish.get("claims") or {},
        float(wish.get("ttl", oidc.LIFE_S)),
        wish.get("header"),
    )
    return Answer(status=201, json={"value": token})


def rotate(call: Call) -> Answer:
    """POST /_sim/oidc/rotate {forget?: drop the old keys}."""
    key = oidc.rotate(call.world, forget=bool(call.json().get("forget", False)))
    return Answer(status=201, json={"kid": key["kid"]})


def list_deliveries(call: Call) -> Answer:
    """GET /_sim/deliveries: every delivery, also those not yet sent, oldest first."""
    return Answer(json=call.store.find("delivery"))


def count_deliveries(call: Call) -> Answer:
    """GET /_sim/deliveries/count?app_id=ID: how many of an app are under way and were answered."""
    found = call.store.find("delivery", app_id=int(call.params["app_id"]))
    unsent = sum(delivery["state"] in UNSENT for delivery in found)
    answered = sum(bool(delivery["status_code"]) for delivery in found)
    return Answer(json={"unsent": unsent, "answered": answered})


def list_requests(call: Call) -> Answer:
    """GET /_sim/requests?after=ID: the log of REST requests, oldest first."""
    after = int(call.params.get("after", 0))
    return Answer(json=[r for r in call.store.find("request") if r["id"] > after])


def clear_requests(call: Call) -> Answer:
    """DELETE /_sim/requests."""
    for request in call.store.find("request"):
        call.store.delete("request", request["id"])
    return Answer(status=204)


def add_fault(call: Call) -> Answer:
    """POST /_sim/faults {match, kind, status?, headers?, body?, times?, delay_s?}."""
    return Answer(status=201, json=faults.add(call.world, call.json()))


def list_faults(call: Call) -> Answer:
    """GET /_sim/faults: with how often each has struck."""
    return Answer(json=call.store.find("fault"))


def clear_faults(call: Call) -> Answer:
    """DELETE /_sim/faults."""
    faults.clear(call.world)
    return Answer(status=204)


def shift_clock(call: Call) -> Answer:
    """POST /_sim/clock {advance_s | shift_s, identity_s?}: the simulator's time.

    Log, rate limits and installation tokens follow it; signed tokens follow `identity_s`.
    """
    wish = call.json()
    shift = float(call.store.setting("clock_shift_s", 0.0))
    if "shift_s" in wish:
        shift = float(wish["shift_s"])
    shift += float(wish.get("advance_s", 0))
    call.store.set_setting("clock_shift_s", shift)
    if "identity_s" in wish:
        call.store.set_setting("identity_shift_s", float(wish["identity_s"]))
    call.world.wake()
    return Answer(json={"shift_s": shift, "now": call.store.stamp()})


def set_limits(call: Call) -> Answer:
    """POST /_sim/limits {installation?, points_per_minute?, …}: see github_limits."""
    limits = call.store.setting("limits", {}) | call.json()
    unknown = set(limits) - set(DEFAULTS)
    if unknown:
        raise ApiError(422, f"limits: {sorted(unknown)} are unknown; there are {sorted(DEFAULTS)}.")
    call.store.set_setting("limits", limits)
    for budget in call.store.find("budget"):
        call.store.delete("budget", budget["id"])
    return Answer(json=DEFAULTS | limits)


def set_settings(call: Call) -> Answer:
    """POST /_sim/settings {stateless_tokens?, asset_downloads?: redirect|direct, …}.

    `local_hooks` lets manifests name webhooks on this machine, which GitHub refuses; `viewer` is
    who is signed in on the pages about Apps.
    """
    wish = call.json()
    for name in ("stateless_tokens", "asset_downloads", "local_hooks", "viewer"):
        if name in wish:
            call.store.set_setting(name, wish[name])
    return Answer(json=wish)


def list_events(call: Call) -> Answer:
    """GET /_sim/events?after=SEQ&wait=SECONDS: what starts workflows (waits in github_sim)."""
    return Answer(json=events.since(call.world, int(call.params.get("after", 0))))


ROUTES = (
    Route(method="POST", template="/oidc", handler=forge),
    Route(method="POST", template="/oidc/rotate", handler=rotate),
    Route(method="GET", template="/deliveries", handler=list_deliveries),
    Route(method="GET", template="/deliveries/count", handler=count_deliveries),
    Route(method="GET", template="/requests", handler=list_requests),
    Route(method="DELETE", template="/requests", handler=clear_requests),
    Route(method="POST", template="/faults", handler=add_fault),
    Route(method="GET", template="/faults", handler=list_faults),
    Route(method="DELETE", template="/faults", handler=clear_faults),
    Route(method="POST", template="/clock", handler=shift_clock),
    Route(method="POST", template="/limits", handler=set_limits),
    Route(method="POST", template="/settings", handler=set_settings),
    Route(method="GET", template="/events", handler=list_events),
)
