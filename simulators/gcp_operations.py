"""Operations: how Compute Engine tells what became of a request, and what it did by itself."""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from simulators.gcp_catalogue import zones
from simulators.gcp_compute_catalogue import all_zones, existing_region, existing_zone
from simulators.gcp_compute_shapes import invalid, link, not_found, number, shown
from simulators.gcp_http import Answer, Request, Route
from simulators.gcp_lists import Collection, routes_of
from simulators.gcp_state import Doc
from simulators.gcp_world import World

# https://cloud.google.com/compute/docs/reference/rest/v1/zoneOperations/wait: two minutes.
LONGEST_WAIT_S = 120.0
# How long a request id is remembered is not stated; nobody should count on more than this.
REQUEST_ID_MEMORY_S = 3600.0
_NO_UUID = "00000000-0000-0000-0000-000000000000"


def begin(world: World, request: Request, verb: str, scope: str, target: tuple[str, str]) -> Doc:
    """Write down a new operation on a target (its link and id), not yet done.

    `scope` is `zones/us-central1-a` or `regions/us-central1`.
    """
    request_id = request.params.get("requestId", "")
    now = world.now()
    doc = _new(world, f"operation-{int(now * 1000)}-{_tail()}", verb, scope, target)
    doc |= {"status": "RUNNING", "progress": 0, "user": _user(world), "startTime": world.stamp()}
    if request_id:
        doc["clientOperationId"] = request_id
        world.store.put(
            "request-id",
            request_id,
            {
                "operation": key(doc),
                "verb": verb,
                "target": target[0],
                "until": now + REQUEST_ID_MEMORY_S,
            },
        )
    return _kept(world, doc)


def system(world: World, verb: str, scope: str, target: tuple[str, str], message: str) -> Doc:
    """Write down what Compute Engine did of its own accord: done as soon as it is told."""
    name = f"systemevent-{int(world.now() * 1000)}-{_tail()}"
    doc = _new(world, name, verb, scope, target)
    now = world.stamp()
    doc |= {
        "status": "DONE",
        "progress": 100,
        "user": "system",
        "startTime": now,
        "endTime": now,
        "statusMessage": message,
    }
    return _kept(world, doc)


def _new(world: World, name: str, verb: str, scope: str, target: tuple[str, str]) -> Doc:
    area, _, place = scope.partition("/")
    doc: Doc = {
        "kind": "compute#operation",
        "id": number(name),
        "name": name,
        "operationType": verb,
        "insertTime": world.stamp(),
        "targetLink": target[0],
        "targetId": target[1],
        "selfLink": link(world.project, scope, "operations", name),
        "_scope": scope,
    }
    doc["zone" if area == "zones" else "region"] = link(world.project, area, place)
    return doc


def _tail() -> str:
    return f"{secrets.token_hex(7)[:13]}-{secrets.token_hex(4)}-{secrets.token_hex(4)}"


def _user(world: World) -> str:
    return f"control-plane@{world.project}.iam.gserviceaccount.com"


def key(doc: Mapping[str, Any]) -> str:
    """Return what an operation is kept under."""
    return f"{doc['_scope']}/{doc['name']}"


def _kept(world: World, doc: Doc) -> Doc:
    return world.store.put("operation", key(doc), doc)


def repeated(world: World, request: Request, verb: str, target: str) -> Doc | None:
    """Return the operation that this very request began before; None: it is new.

    Raises GoogleError 400 for an id that is no UUID, is zero, or was used for something else.
    """
    request_id = request.params.get("requestId")
    if request_id is None:
        return None
    try:
        good = str(uuid.UUID(request_id)) == request_id.lower() and request_id != _NO_UUID
    except ValueError:
        good = False
    if not good:
        raise invalid("requestId", request_id, "Must be a valid UUID other than zero.")
    seen = world.store.get("request-id", request_id)
    if seen is None or seen["until"] < world.now():
        return None
    if (seen["verb"], seen["target"]) != (verb, target):
        raise invalid("requestId", request_id, "The request ID was used for another request.")
    return world.store.get("operation", seen["operation"])


def fail(world: World, operation: str, failure: Mapping[str, Any]) -> None:
    """End an operation with an error: it is DONE, and nothing of it may have happened.

    `failure` has `code` and `message`, perhaps `details`, and the HTTP status it stands for.
    """
    error: Doc = {"code": failure["code"], "message": failure["message"]}
    if failure.get("details"):
        error["errorDetails"] = list(failure["details"])
    status = int(failure.get("http", 503))
    finish(
        world,
        operation,
        error={"errors": [error]},
        httpErrorStatusCode=status,
        httpErrorMessage=HTTPStatus(status).phrase.upper(),
    )


def finish(world: World, operation: str, **more: Any) -> None:
    """End an operation; one that is held back by a fault ends when that is over."""
    doc = world.store.get("operation", operation)
    if doc is None or doc["status"] == "DONE":
        return
    stuck_until = doc.get("_stuck_until", 0)
    if stuck_until > world.now():
        world.later(stuck_until - world.now(), "operation.end", key=operation, more=more)
        return
    doc |= {"status": "DONE", "progress": 100, "endTime": world.stamp(), **more}
    _kept(world, doc)
    world.changed.notify_all()


def hold(world: World, operation: Doc, seconds: float, status: str) -> None:
    """Keep an operation from ending for a while, whatever becomes of its target meanwhile."""
    operation |= {"_stuck_until": world.now() + seconds, "status": status}
    _kept(world, operation)


def routes(world: World) -> list[Route]:
    """Return the routes of zone and region operations."""
    world.on("operation.end", lambda event: finish(world, event["key"], **event["more"]))
    return [
        *_routes(world, "zones", "zoneOperations"),
        *_routes(world, "regions", "regionOperations"),
    ]


def _routes(world: World, area: str, api: str) -> list[Route]:
    check = existing_zone if area == "zones" else existing_region

    def items(scope: str) -> list[Doc]:
        wanted = f"{area}/{check(world, scope)}"
        found = world.store.all("operation").values()
        return [shown(doc) for doc in found if doc["_scope"] == wanted]

    def find(request: Request) -> Doc:
        scope, name = request.args["scope"], request.args["name"]
        path = f"{area}/{check(world, scope)}"
        doc = world.store.get("operation", f"{path}/{name}")
        if doc is None:
            raise not_found(world.project, f"{path}/operations/{name}")
        return doc

    def get(request: Request) -> Answer:
        return Answer(json=shown(find(request)))

    def wait(request: Request) -> Answer:
        until = time.monotonic() + float(world.store.setting("longest_wait_s", LONGEST_WAIT_S))
        request.body()
        with world.lock:
            world.run_due()
            doc = find(request)
            while doc["status"] != "DONE" and time.monotonic() < until:
                world.changed.wait(until - time.monotonic())
                doc = find(request)
            return Answer(json=shown(doc))

    def forget(request: Request) -> Answer:
        doc = find(request)
        world.store.delete("operation", key(doc))
        return Answer(status=204)

    collection = Collection(
        plural="operations",
        singular="operation",
        area=area,
        scopes=all_zones if area == "zones" else lambda: list(zones()),
        items=items,
    )
    start = f"/compute/v1/projects/{world.project}/{area}/{{scope}}/operations"
    one = f"{start}/{{name}}"
    listing = routes_of(world.project, collection)[0]
    world.settings["longest_wait_s"] = LONGEST_WAIT_S
    return [
        Route(
            method="GET",
            pattern=listing.pattern,
            handler=listing.handler,
            verb=f"compute.{api}.list",
        ),
        Route(method="GET", pattern=one, handler=get, verb=f"compute.{api}.get"),
        Route(method="DELETE", pattern=one, handler=forget, verb=f"compute.{api}.delete"),
        Route(
            method="POST",
            pattern=f"{one}/wait",
            handler=wait,
            verb=f"compute.{api}.wait",
            locked=False,
        ),
    ]
