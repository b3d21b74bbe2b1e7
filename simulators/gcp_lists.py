"""Compute Engine's lists: filtered, in pages, one scope or all of them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from simulators.gcp_compute_shapes import BASE, invalid, number
from simulators.gcp_filters import compile_filter
from simulators.gcp_http import Answer, Request, Route
from simulators.gcp_state import Doc

_Item = tuple[str, Doc]  # a scope and what is in it
LARGEST_PAGE = 500  # also the usual one: https://cloud.google.com/compute/docs/reference/rest/v1


@dataclass(frozen=True, kw_only=True)
class Collection:
    """One kind of resource that is listed."""

    plural: str  # machineTypes
    singular: str  # machineType
    area: str  # zones, regions or global
    scopes: Callable[[], Sequence[str]]  # the zones or regions there are
    items: Callable[[str], Iterable[Doc]]  # what one scope holds, ready to be shown
    # Which scopes cannot be reached now, and whether the answer says so.
    unreachable: Callable[[], Mapping[str, bool]] = dict

    @property
    def kind(self) -> str:
        """Return the word in `kind`."""
        return f"compute#{self.singular}"


def list_one(request: Request, collection: Collection, scope: str) -> Answer:
    """Answer a list of one zone, one region or the global scope."""
    items = [("", item) for item in _wanted(request, collection.items(scope))]
    found, token = _page(request, items)
    page = [item for _, item in found]
    body: Doc = {
        "id": _id(request),
        "items": page,
        "kind": f"{collection.kind}List",
        "selfLink": _self(request),
    }
    if not page:
        del body["items"]  # an empty list is left out
    if token:
        body["nextPageToken"] = token
    return Answer(json=body)


def list_all(request: Request, collection: Collection) -> Answer:
    """Answer an aggregated list: every scope is there, also those with nothing on this page."""
    unreachable = collection.unreachable()
    names = [f"{collection.area}/{name}" for name in collection.scopes() if name not in unreachable]
    everything = [
        (scope, item)
        for scope in names
        for item in _wanted(request, collection.items(scope.rpartition("/")[2]))
    ]
    page, token = _page(request, everything)
    scopes: dict[str, Doc] = {scope: _nothing(scope) for scope in names}
    for scope, item in page:
        scopes[scope].pop("warning", None)
        scopes[scope].setdefault(collection.plural, []).append(item)
    body: Doc = {
        "id": _id(request),
        "items": scopes,
        "kind": f"{collection.kind}AggregatedList",
        "selfLink": _self(request),
    }
    _confess(body, collection, unreachable)
    if token:
        body["nextPageToken"] = token
    return Answer(json=body)


def _confess(body: Doc, collection: Collection, unreachable: Mapping[str, bool]) -> None:
    told = [f"{collection.area}/{name}" for name, says in unreachable.items() if says]
    for scope in told:
        body["items"][scope] = {
            "warning": {
                "code": "UNREACHABLE",
                "message": f"Scope '{scope}' could not be reached.",
                "data": [{"key": "scope", "value": scope}],
            }
        }
    if told:
        body["unreachables"] = told


def routes_of(project: str, collection: Collection, api: str = "compute") -> list[Route]:
    """Return `list` and, for zones and regions, `aggregatedList`."""
    start = f"/compute/v1/projects/{project}"
    plural = collection.plural

    def one(request: Request) -> Answer:
        return list_one(request, collection, request.args.get("scope", "global"))

    scope = "global" if collection.area == "global" else f"{collection.area}/{{scope}}"
    routes = [
        Route(
            method="GET",
            pattern=f"{start}/{scope}/{plural}",
            handler=one,
            verb=f"{api}.{plural}.list",
        )
    ]
    if collection.area != "global":
        routes.append(
            Route(
                method="GET",
                pattern=f"{start}/aggregated/{plural}",
                handler=lambda request: list_all(request, collection),
                verb=f"{api}.{plural}.aggregatedList",
            )
        )
    return routes


def _wanted(request: Request, items: Iterable[Doc]) -> list[Doc]:
    test = compile_filter(request.params.get("filter", ""))
    return [item for item in items if test(item)]


def _page(request: Request, items: list[_Item]) -> tuple[list[_Item], str]:
    """Return the items after the token's, and the token of the next page.

    A token names the last item shown, so that what comes and goes between two pages makes no
    other item appear twice or never.
    """
    size = _size(request.params.get("maxResults", str(LARGEST_PAGE)))
    start = _start(request.params.get("pageToken", ""))
    rest = sorted((item for item in items if _key(item) > start), key=_key)
    page = rest[:size]
    more = len(rest) > size
    token = base64.urlsafe_b64encode(json.dumps(_key(page[-1])).encode()).decode() if more else ""
    return page, token


def _key(item: _Item) -> tuple[str, str]:
    return item[0], item[1]["name"]


def _size(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > LARGEST_PAGE:
        raise invalid("maxResults", text, f"Value should be between 0 and {LARGEST_PAGE}.")
    return int(text) or LARGEST_PAGE


def _start(token: str) -> tuple[str, str]:
    if not token:
        return "", ""
    try:
        scope, name = json.loads(base64.urlsafe_b64decode(token.encode()))
    except (ValueError, TypeError):
        raise invalid("pageToken", token, "Invalid page token.") from None
    return str(scope), str(name)


def _nothing(scope: str) -> Doc:
    return {
        "warning": {
            "code": "NO_RESULTS_ON_PAGE",
            "message": f"There are no results for scope '{scope}' on this page.",
            "data": [{"key": "scope", "value": scope}],
        }
    }


def _id(request: Request) -> str:
    return request.path.removeprefix("/compute/v1/")


def _self(request: Request) -> str:
    return f"{BASE}/{_id(request)}"


def dated(doc: Doc, *parts: str) -> Doc:
    """Return a thing of the catalogue with the id and the birthday that all of them share."""
    return {"id": number(*parts), "creationTimestamp": "1969-12-31T16:00:00.000-08:00", **doc}
