"""The `instances` of Compute Engine: every method that ordering, watching and ending needs."""

from __future__ import annotations

from collections.abc import Callable

from simulators import gcp_instances_control, gcp_quotas
from simulators import gcp_operations as operations
from simulators.gcp_changes import check_new_labels, check_new_metadata, check_new_scheduling
from simulators.gcp_compute_catalogue import all_zones, existing_zone
from simulators.gcp_compute_shapes import (
    already_exists,
    bad_request,
    fingerprint,
    invalid,
    last,
    link,
    not_found,
    shown,
)
from simulators.gcp_http import Answer, GoogleError, Request, Route
from simulators.gcp_insert_fate import KINDS, STOCKOUT, facts, failure_of, no_quota
from simulators.gcp_insert_rules import check
from simulators.gcp_instance_shapes import (
    address_of,
    instance_of,
    metadata_of,
    new_disks,
    scheduling_of,
)
from simulators.gcp_interruptions import Interruptions
from simulators.gcp_life import STARTING, Life, key
from simulators.gcp_lists import Collection, routes_of
from simulators.gcp_played import Played
from simulators.gcp_shape import check_shape
from simulators.gcp_state import Doc
from simulators.gcp_wish import Wish
from simulators.gcp_world import World

# 20 minutes: longer than anybody waits for an operation.
_STUCK_S = 1200.0
_Change = Callable[[Doc, Request, str], None]


class Instances:
    """The methods, on a world and the lives in it."""

    def __init__(self, world: World, life: Life) -> None:
        self._world = world
        self._life = life

    # reading ------------------------------------------------------------------------------

    def visible(self, zone: str) -> list[Doc]:
        """Return the instances of a zone as they are shown."""
        existing_zone(self._world, zone)
        now = self._world.now()
        return [
            shown(doc)
            for name, doc in self._world.store.all("instance").items()
            if name.startswith(f"{zone}/") and doc["_visible_at"] <= now
        ]

    def find(self, request: Request) -> Doc:
        """Return the instance a request names; refuses one that cannot be seen."""
        zone, name = existing_zone(self._world, request.args["zone"]), request.args["name"]
        doc = self._world.store.get("instance", f"{zone}/{name}")
        if doc is None or doc["_visible_at"] > self._world.now():
            raise not_found(self._world.project, f"zones/{zone}/instances/{name}")
        return doc

    def get(self, request: Request) -> Answer:
        """Answer instances.get."""
        return Answer(json=shown(self.find(request)))

    def serial(self, request: Request) -> Answer:
        """Answer instances.getSerialPortOutput: of port 1, from `start` on."""
        doc, params = self.find(request), request.params
        port, start = params.get("port", "1"), params.get("start", "0")
        if not port.isdigit() or not 1 <= int(port) <= 4:
            raise invalid("port", port, "Must be between 1 and 4.")
        if not start.lstrip("-").isdigit():
            raise invalid("start", start, "Must be a number.")
        text = self._world.machines.serial(doc["_machine"]) if port == "1" else ""
        data = text.encode()
        begin = min(max(int(start), 0), len(data))
        return Answer(
            json={
                "kind": "compute#serialPortOutput",
                "contents": data[begin:].decode(errors="replace"),
                "start": str(begin),
                "next": str(len(data)),
                "selfLink": f"{doc['selfLink']}/serialPort",
            }
        )

    # ordering -----------------------------------------------------------------------------

    def insert(self, request: Request) -> Answer:
        """Answer instances.insert."""
        world, zone = self._world, existing_zone(self._world, request.args["zone"])
        body = request.json()
        for name in ("sourceInstanceTemplate", "sourceMachineImage"):
            if name in request.params:
                raise GoogleError(501, f"{name}: is not simulated.", reason="notImplemented")
        check_shape(body, "Instance")
        wish = Wish(body=body, project=world.project, zone=zone)
        target = link(world.project, "zones", zone, "instances", str(body.get("name", "")))
        before = operations.repeated(world, request, "insert", target)
        if before is not None:
            return Answer(json=shown(before))
        check(wish)
        self._refuse_taken(wish)
        doc = instance_of(world, wish)
        failure = failure_of(world, wish, doc)
        operation = self._begin(request, "insert", doc)
        if self._held(operation, facts(wish)):
            return Answer(json=shown(operation))
        hidden = world.faults.take("invisible", facts(wish))
        doc["_visible_at"] = world.now() + float(hidden.get("seconds", 5)) if hidden else 0
        for disk in new_disks(world, wish, doc):
            world.store.put("disk", f"{zone}/{disk['name']}", disk)
        self._life.launch(doc, operations.key(operation), failure)
        return Answer(json=shown(operation))

    def _refuse_taken(self, wish: Wish) -> None:
        store, name = self._world.store, wish.body["name"]
        if store.get("instance", f"{wish.zone}/{name}"):
            raise already_exists(wish.project, f"zones/{wish.zone}/instances/{name}")
        for index, disk in enumerate(wish.body["disks"]):
            if disk.get("type") == "SCRATCH":
                continue
            told = (disk.get("initializeParams") or {}).get("diskName")
            source = last(disk.get("source", ""))
            made = told or (name if index == 0 else f"{name}-{index}")
            exists = store.get("disk", f"{wish.zone}/{source or made}")
            if source and exists is None:
                raise not_found(wish.project, f"zones/{wish.zone}/disks/{source}")
            if not source and exists is not None:
                raise already_exists(wish.project, f"zones/{wish.zone}/disks/{made}")

    def _begin(self, request: Request, verb: str, doc: Doc) -> Doc:
        scope, target = f"zones/{last(doc['zone'])}", (doc["selfLink"], doc["id"])
        return operations.begin(self._world, request, verb, scope, target)

    def _held(self, operation: Doc, about: Doc) -> bool:
        """Hold an operation back by a `stuck` fault; say whether nothing else may happen."""
        fault = self._world.faults.take("stuck", about)
        if fault is None:
            return False
        seconds, status = float(fault.get("seconds", _STUCK_S)), fault.get("status", "PENDING")
        operations.hold(self._world, operation, seconds, status)
        inert = not fault.get("effect", True)
        if inert:
            operations.fail(self._world, operations.key(operation), _TIMED_OUT)
        return inert

    # changing -----------------------------------------------------------------------------

    def change(self, verb: str, act: _Change) -> Callable[[Request], Answer]:
        """Return the handler of a method that begins an operation on an instance."""

        def handle(request: Request) -> Answer:
            before = self.before(request, verb)
            if before is not None:
                return Answer(json=shown(before))
            doc = self.find(request)
            self._may(verb, doc)
            operation = self._begin(request, verb, doc)
            if not self._held(operation, self._about(doc, verb)):
                act(doc, request, operations.key(operation))
            return Answer(json=shown(operation))

        return handle

    def before(self, request: Request, verb: str) -> Doc | None:
        """Return the operation that this very request began when it came before."""
        world, zone = self._world, existing_zone(self._world, request.args["zone"])
        target = link(world.project, "zones", zone, "instances", request.args["name"])
        return operations.repeated(world, request, verb, target)

    def _about(self, doc: Doc, verb: str) -> Doc:
        zone = last(doc["zone"])
        return {
            "verb": f"compute.instances.{verb}",
            "name": doc["name"],
            "zone": zone,
            "region": zone.rpartition("-")[0],
            "machine_type": last(doc["machineType"]),
        }

    def _may(self, verb: str, doc: Doc) -> None:
        allowed = _ALLOWED.get(verb)
        if allowed is not None and doc["status"] not in allowed:
            raise bad_request(
                f"Instance is in state {doc['status']}, in which {verb} is not possible.",
                "resourceNotReady",
            )
        if verb == "delete" and doc["deletionProtection"]:
            raise bad_request(
                "Invalid resource usage: 'Resource cannot be deleted if it's protected against "
                "deletion. Deletion protection can be disabled by setting deletionProtection "
                "field on the resource.'.",
                "invalidResourceUsage",
            )
        if verb == "suspend" and doc.get("guestAccelerators"):
            raise bad_request("Suspending an instance with guest accelerators is not supported.")

    def delete(self, doc: Doc, _: Request, operation: str) -> None:
        """Begin to delete; what the faults say stays behind."""
        world, about = self._world, self._about(doc, "delete")
        refused = world.faults.take("delete_fails", about)
        if refused:
            failure = {
                "code": refused.get("code", "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE"),
                "message": refused.get("message", f"'{doc['selfLink']}' is in use."),
                "http": refused.get("http", 400),
            }
            self._life.refuse_delete(doc, operation, failure)
            return
        if world.faults.take("leaves_disk", about):
            for disk in doc["disks"]:
                disk["autoDelete"] = False
        if world.faults.take("leaves_address", about):
            kept = address_of(
                world, about["region"], {"name": doc["name"], "labels": doc["labels"]}
            )
            world.store.put("address", f"{about['region']}/{doc['name']}", kept)
        ending = bool(doc["_deletes"])
        doc["_deletes"].append(operation)
        if ending:
            world.store.put("instance", key(doc), doc)
        elif doc["status"] in {"TERMINATED", "SUSPENDED"}:
            self._life.shut(doc, "gone", grace_s=0)
        else:
            self._life.shut(doc, "gone")

    def stop(self, doc: Doc, _: Request, operation: str) -> None:
        """Begin to stop."""
        self._life.shut(doc, "TERMINATED", operation=operation)

    def start(self, doc: Doc, _: Request, operation: str) -> None:
        """Begin to start what is stopped; it may find no capacity, or no quota."""
        world, failure = self._world, None
        if world.faults.take("stockout", self._about(doc, "start")):
            zone = last(doc["zone"])
            failure = {
                "code": STOCKOUT,
                "message": f"The zone 'projects/{world.project}/zones/{zone}' does not have enough "
                "resources available to fulfill the request.  Try a different zone, or try again "
                "later.",
            }
        short = gcp_quotas.shortage(world, doc, new=False)
        if short:
            failure = no_quota(world, *short, how="operation")
        if failure:
            failure["leaves"] = "stopped"
        self._life.launch(doc, operation, failure)

    def set_labels(self, doc: Doc, request: Request, operation: str) -> None:
        """Replace the labels."""
        body = request.json()
        doc["labels"] = body.get("labels") or {}
        doc["labelFingerprint"] = fingerprint(doc["labels"])
        self._done(doc, operation)

    def set_metadata(self, doc: Doc, request: Request, operation: str) -> None:
        """Replace the metadata; the instance sees it at once."""
        before = {item["key"]: item.get("value", "") for item in doc["metadata"]["items"]}
        doc["metadata"] = metadata_of(request.json())
        after = {item["key"]: item.get("value", "") for item in doc["metadata"]["items"]}
        for name in sorted({*before, *after}):
            if before.get(name) != after.get(name):
                self._life.tell(doc, f"instance/attributes/{name}", after.get(name))
        self._done(doc, operation)

    def set_scheduling(self, doc: Doc, request: Request, operation: str) -> None:
        """Replace the scheduling."""
        doc["scheduling"] = scheduling_of(request.json())
        self._done(doc, operation)

    def _done(self, doc: Doc, operation: str) -> None:
        self._world.store.put("instance", key(doc), doc)
        self._world.later(0, "operation.end", key=operation, more={})


_TIMED_OUT = {"code": "INTERNAL_ERROR", "message": "Internal error. Please try again.", "http": 500}
# States in which a method is possible at all; others take any.
_ALLOWED = {
    "start": {"TERMINATED", "STOPPED"},
    "stop": {"RUNNING", *STARTING},
    "suspend": {"RUNNING"},
    "resume": {"SUSPENDED"},
    "simulateMaintenanceEvent": {"RUNNING"},
}


def unreachable(world: World, verb: str) -> dict[str, bool]:
    """Return the zones that a list leaves out by a `partial_list` fault, and if it says so."""
    fault = world.faults.take("partial_list", {"verb": verb})
    if fault is None:
        return {}
    return {zone: bool(fault.get("warning", True)) for zone in fault["zones"]}


def routes(world: World) -> list[Route]:
    """Return them, and what makes days bad for instances."""
    world.faults.kinds |= {
        *KINDS,
        "invisible",
        "stuck",
        "delete_fails",
        "leaves_disk",
        "leaves_address",
        "partial_list",
        "no_driver",
    }
    world.settings["quota_answer"] = "operation"
    life = Life(world)
    interruptions = Interruptions(world, life)
    world.starters.append(Played(world, life, interruptions).begin)
    api = Instances(world, life)
    control = gcp_instances_control.routes(world, life, interruptions)
    collection = Collection(
        plural="instances",
        singular="instance",
        area="zones",
        scopes=all_zones,
        items=api.visible,
        unreachable=lambda: unreachable(world, "compute.instances.aggregatedList"),
    )
    start = f"/compute/v1/projects/{world.project}/zones/{{zone}}/instances"
    one = f"{start}/{{name}}"
    made = [
        *control,
        *routes_of(world.project, collection),
        _route("POST", start, "insert", api.insert),
        _route("GET", one, "get", api.get),
        _route("GET", f"{one}/serialPort", "getSerialPortOutput", api.serial),
        _route("DELETE", one, "delete", api.change("delete", api.delete)),
    ]
    for verb, act in _changes(api, interruptions).items():
        made.append(_route("POST", f"{one}/{verb}", verb, api.change(verb, act)))
    for verb, look, act in (
        ("setLabels", check_new_labels, api.set_labels),
        ("setMetadata", check_new_metadata, api.set_metadata),
        ("setScheduling", check_new_scheduling, api.set_scheduling),
    ):
        made.append(_route("POST", f"{one}/{verb}", verb, _looked(api, verb, look, act)))
    return made


def _changes(api: Instances, interruptions: Interruptions) -> dict[str, _Change]:
    return {
        "stop": api.stop,
        "start": api.start,
        "suspend": lambda doc, _, operation: interruptions.suspend(doc, operation),
        "resume": lambda doc, _, operation: interruptions.resume(doc, operation),
        "simulateMaintenanceEvent": lambda doc, _, operation: interruptions.maintain(
            doc, operation
        ),
    }


def _looked(
    api: Instances, verb: str, look: Callable[[Doc, Doc], None], act: _Change
) -> Callable[[Request], Answer]:
    handle = api.change(verb, act)

    def checked(request: Request) -> Answer:
        # A repeated request was looked at the first time; the fingerprint has moved on since.
        if api.before(request, verb) is None:
            look(api.find(request), request.json())
        return handle(request)

    return checked


def _route(method: str, pattern: str, verb: str, handler: Callable[[Request], Answer]) -> Route:
    return Route(method=method, pattern=pattern, handler=handler, verb=f"compute.instances.{verb}")
