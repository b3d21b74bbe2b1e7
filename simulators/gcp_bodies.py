"""Holds request bodies against the discovery documents before the methods see them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from simulators.gcp_http import Answer, GoogleError, Request, Route
from simulators.gcp_shape import check_shape, described

_DOCUMENTS = {
    "storage": "storage.v1",
    "secretmanager": "secretmanager.v1",
    "iamcredentials": "iamcredentials.v1",
}


def checked(route: Route) -> Route:
    """Return a route that refuses a body which its API does not describe."""
    document = _DOCUMENTS[route.api]
    schema = _requests(document).get(route.verb)
    if schema is None or not route.locked:
        return route

    def answer(request: Request) -> Answer:
        check(request.json(), schema, route.api)
        return route.handler(request)

    return replace(route, handler=answer)


def check(body: Mapping[str, Any], schema: str, api: str) -> None:
    """Refuse a body that is not of a schema, in the words of its API."""
    try:
        check_shape(body, schema, _DOCUMENTS[api])
    except GoogleError as error:
        if api == "storage":
            raise
        raise GoogleError(400, str(error), status="INVALID_ARGUMENT") from None


@cache
def _requests(document: str) -> Mapping[str, str]:
    """Return the schema of each method's body."""
    methods = _methods(described(document))
    return {m["id"]: m["request"]["$ref"] for m in methods if "request" in m}


def _methods(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from node.get("methods", {}).values()
    for inner in node.get("resources", {}).values():
        yield from _methods(inner)
