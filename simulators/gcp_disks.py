"""Compute Engine's disks and addresses: what instances leave behind, and what it costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from simulators import gcp_operations as operations
from simulators.gcp_catalogue import DISK_TYPES, zones
from simulators.gcp_compute_catalogue import all_zones, existing_region, existing_zone
from simulators.gcp_compute_shapes import (
    NAME,
    already_exists,
    bad_request,
    invalid,
    last,
    link,
    not_found,
    shown,
)
from simulators.gcp_http import Answer, Request, Route
from simulators.gcp_instance_shapes import address_of, disk_of
from simulators.gcp_instances import unreachable
from simulators.gcp_labels import check_labels
from simulators.gcp_lists import Collection, routes_of
from simulators.gcp_shape import check_shape
from simulators.gcp_state import Doc
from simulators.gcp_world import World


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """Disks or addresses: what differs between them."""

    singular: str
    plural: str
    area: str
    schema: str
    check: Callable[[World, str], str]
    make: Callable[[World, str, Doc], Doc]


def _new_disk(world: World, zone: str, body: Doc) -> Doc:
    kind = last(body.get("type") or "pd-standard")
    if kind not in DISK_TYPES:
        raise not_found(world.project, f"zones/{zone}/diskTypes/{kind}")
    smallest, usual, largest = DISK_TYPES[kind]
    size = int(body.get("sizeGb") or usual)
    if not smallest <= size <= largest:
        why = f"Disk size must be between {smallest} GB and {largest} GB."
        raise invalid("resource.sizeGb", size, why)
    return disk_of(world, zone, {**body, "type": kind, "sizeGb": size})


_KINDS = (
    _Kind(
        singular="disk",
        plural="disks",
        area="zones",
        schema="Disk",
        check=existing_zone,
        make=_new_disk,
    ),
    _Kind(
        singular="address",
        plural="addresses",
        area="regions",
        schema="Address",
        check=existing_region,
        make=address_of,
    ),
)


def routes(world: World) -> list[Route]:
    """Return them."""
    world.on("gone", lambda event: _gone(world, event))
    return [route for kind in _KINDS for route in _routes(world, kind)]


def _routes(world: World, kind: _Kind) -> list[Route]:
    scopes = all_zones if kind.area == "zones" else lambda: list(zones())
    collection = Collection(
        plural=kind.plural,
        singular=kind.singular,
        area=kind.area,
        scopes=scopes,
        items=lambda scope: _items(world, kind, scope),
        unreachable=lambda: unreachable(world, f"compute.{kind.plural}.aggregatedList"),
    )
    start = f"/compute/v1/projects/{world.project}/{kind.area}/{{scope}}/{kind.plural}"
    one = f"{start}/{{name}}"
    handlers = {
        ("GET", one, "get"): lambda request: Answer(json=shown(_find(world, kind, request))),
        ("POST", start, "insert"): lambda request: _insert(world, kind, request),
        ("DELETE", one, "delete"): lambda request: _delete(world, kind, request),
    }
    return routes_of(world.project, collection) + [
        Route(method=method, pattern=path, handler=handler, verb=f"compute.{kind.plural}.{verb}")
        for (method, path, verb), handler in handlers.items()
    ]


def _items(world: World, kind: _Kind, scope: str) -> list[Doc]:
    start = f"{kind.check(world, scope)}/"
    found = world.store.all(kind.singular).items()
    return [shown(doc) for name, doc in found if name.startswith(start)]


def _find(world: World, kind: _Kind, request: Request) -> Doc:
    scope, name = kind.check(world, request.args["scope"]), request.args["name"]
    doc = world.store.get(kind.singular, f"{scope}/{name}")
    if doc is None:
        raise not_found(world.project, f"{kind.area}/{scope}/{kind.plural}/{name}")
    return doc


def _insert(world: World, kind: _Kind, request: Request) -> Answer:
    scope, body = kind.check(world, request.args["scope"]), request.json()
    check_shape(body, kind.schema)
    name = body.get("name", "")
    target = link(world.project, kind.area, scope, kind.plural, name)
    before = operations.repeated(world, request, "insert", target)
    if before is not None:
        return Answer(json=shown(before))
    if not NAME.fullmatch(name):
        why = "Must be a match of regex '(?:[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?)'"
        raise invalid("resource.name", name, why)
    check_labels(body.get("labels") or {})
    if world.store.get(kind.singular, f"{scope}/{name}"):
        raise already_exists(world.project, f"{kind.area}/{scope}/{kind.plural}/{name}")
    doc = world.store.put(kind.singular, f"{scope}/{name}", kind.make(world, scope, body))
    return _operated(world, kind, request, "insert", doc)


def _delete(world: World, kind: _Kind, request: Request) -> Answer:
    scope, name = request.args["scope"], request.args["name"]
    target = link(world.project, kind.area, scope, kind.plural, name)
    before = operations.repeated(world, request, "delete", target)
    if before is not None:
        return Answer(json=shown(before))
    doc = _find(world, kind, request)
    users = doc.get("users") or []
    if users:
        raise bad_request(
            f"The {kind.singular} resource "
            f"'projects/{world.project}/{kind.area}/{scope}/{kind.plural}/{name}' is already being "
            f"used by '{users[0]}'",
            "resourceInUseByAnotherResource",
        )
    return _operated(world, kind, request, "delete", doc)


def _operated(world: World, kind: _Kind, request: Request, verb: str, doc: Doc) -> Answer:
    scope = f"{kind.area}/{request.args['scope']}"
    target = (doc["selfLink"], doc["id"])
    operation = operations.begin(world, request, verb, scope, target)
    where = f"{request.args['scope']}/{doc['name']}" if verb == "delete" else ""
    world.later(
        world.delay("stopping_s") if verb == "delete" else 0,
        "gone",
        kind=kind.singular,
        where=where,
        operation=operations.key(operation),
    )
    return Answer(json=shown(operation))


def _gone(world: World, event: Doc) -> None:
    if event["where"]:
        world.store.delete(event["kind"], event["where"])
    operations.finish(world, event["operation"])
