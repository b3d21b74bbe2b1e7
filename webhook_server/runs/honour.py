"""Say what of a spec this server cannot do yet, so that nothing is ignored in silence: pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from cynthus.spec import Spec, Spot

NAMES_SHOWN = 5  # enough to recognise one's own file


@dataclass(frozen=True, kw_only=True)
class Powers:
    """What a provider's instances can do beyond running the command. Absent: said, never faked."""

    data: bool = False  # staging, read-only at its mount
    gangs: bool = False  # several instances, all or none
    checkpoints: bool = False  # saved, and restored on the next attempt
    spot: bool = False
    places: bool = False
    keep_warm: bool = False
    labels: bool = False
    longest: timedelta | None = None  # the server's own limit of `max_duration`


def refusal(spec: Spec, powers: Powers) -> str | None:
    """Return why the run cannot be done as it is meant, or None when it can."""
    return "\n".join(_refusals(spec, powers)) or None


def _refusals(spec: Spec, powers: Powers) -> Iterator[str]:
    nodes = spec.resources.nodes
    if spec.data and not powers.data:
        names = ", ".join(source.name for source in spec.data[:NAMES_SHOWN])
        more = f" and {len(spec.data) - NAMES_SHOWN} more" if len(spec.data) > NAMES_SHOWN else ""
        yield (
            f"data: should be absent, since this server cannot stage data yet, found {names}{more}."
            " Remove it and fetch the files in `run`."
        )
    if nodes > 1 and not powers.gangs:
        yield (
            "resources/nodes: should be 1, since this server cannot run on several instances yet,"
            f" found {nodes}. Write `nodes: 1`."
        )


def notices(spec: Spec, powers: Powers) -> tuple[str, ...]:
    """Return what the run goes without, although its spec asks for it."""
    return tuple(_notices(spec, powers))


def _notices(spec: Spec, powers: Powers) -> Iterator[str]:
    if spec.checkpoint is not None and not powers.checkpoints:
        yield (
            f"checkpoint: this server does not save {spec.checkpoint.path} yet; a repeated attempt"
            " begins anew"
        )
    idle = [name for name, wanted in _without_effect(spec, powers) if wanted]
    if idle:
        verb = "has" if len(idle) == 1 else "have"
        yield f"{', '.join(idle)}: {verb} no effect on this provider's instances"
    longest = powers.longest
    if longest is not None and spec.resources.max_duration > longest:
        yield f"resources/max_duration: this server allows {longest} at most, and ends the run then"


def _without_effect(spec: Spec, powers: Powers) -> Iterator[tuple[str, bool]]:
    need = spec.resources
    yield "resources/spot", need.spot is not Spot.NEVER and not powers.spot
    yield "resources/places", bool(need.places) and not powers.places
    yield "keep_warm", bool(spec.keep_warm) and not powers.keep_warm
    yield "labels", bool(spec.labels) and not powers.labels
