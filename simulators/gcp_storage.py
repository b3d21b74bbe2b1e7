"""The simulated Cloud Storage: all of its routes."""

from __future__ import annotations

from dataclasses import replace

from simulators.gcp_accounts import public_keys
from simulators.gcp_bodies import checked
from simulators.gcp_field_masks import masked
from simulators.gcp_http import Answer, Request, Route
from simulators.gcp_storage_batch import Batch
from simulators.gcp_storage_buckets import Buckets
from simulators.gcp_storage_copies import Copies
from simulators.gcp_storage_intake import Intake
from simulators.gcp_storage_lifecycle import Lifecycle
from simulators.gcp_storage_objects import Objects
from simulators.gcp_storage_parts import Parts
from simulators.gcp_storage_sessions import Sessions
from simulators.gcp_storage_state import Shelf
from simulators.gcp_storage_uploads import Uploads
from simulators.gcp_storage_xml import XmlObjects
from simulators.gcp_world import World

# docs/gcp_simulator.md says what each does and what it is matched by.
FAULTS = ("corrupt", "download_cut", "kms_denied", "session_lost", "upload_cut")


def routes(world: World) -> list[Route]:
    """Return the JSON interface, uploads, batches, and the XML interface behind all others."""
    world.faults.kinds |= set(FAULTS)
    shelf = Shelf(world)
    intake, objects = Intake(shelf), Objects(shelf)
    sessions = Sessions(intake)
    plain = [*Buckets(shelf).routes(), *objects.routes(), *Copies(shelf).routes()]
    json_routes = [_partial(checked(route)) for route in plain]
    xml = XmlObjects(intake, objects, sessions, lambda account: public_keys(world, account))
    return [
        *json_routes,
        *(_partial(route) for route in Uploads(intake, sessions).routes()),
        *Batch(world, json_routes).routes(),
        *Lifecycle(shelf, Parts(intake)).routes(),
        *xml.routes(),
    ]


def _partial(route: Route) -> Route:
    """Return a route that answers only what `fields` in the query asks for."""

    def answer(request: Request) -> Answer:
        found = route.handler(request)
        fields = request.params.get("fields")
        if not fields or found.json is None:
            return found
        return replace(found, json=masked(found.json, fields))

    return replace(route, handler=answer)
