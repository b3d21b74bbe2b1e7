"""The Cloud Billing Catalog: `services.skus.list` of Compute Engine."""

from __future__ import annotations

import base64

from simulators.gcp_http import Answer, GoogleError, Request, Route
from simulators.gcp_skus import SERVICE, skus
from simulators.gcp_world import World

# https://cloud.google.com/billing/docs/reference/rest/v1/services.skus/list
LARGEST_PAGE = 5000


def _refused(message: str, code: int = 400, status: str = "INVALID_ARGUMENT") -> GoogleError:
    return GoogleError(code, message, status=status)


def _list(request: Request) -> Answer:
    if f"services/{request.args['service']}" != SERVICE:
        raise _refused("Requested entity was not found.", 404, "NOT_FOUND")
    params = request.params
    if params.get("currencyCode", "USD") != "USD":
        raise _refused("The simulated catalogue is in USD.")
    size = params.get("pageSize", "0")
    if not size.isdigit() or int(size) > LARGEST_PAGE:
        raise _refused(f"page_size must be between 0 and {LARGEST_PAGE}, got {size}.")
    start = _start(params.get("pageToken", ""))
    end = start + (int(size) or LARGEST_PAGE)
    token = base64.urlsafe_b64encode(str(end).encode()).decode() if end < len(skus()) else ""
    return Answer(json={"skus": list(skus()[start:end]), "nextPageToken": token})


def _start(token: str) -> int:
    if not token:
        return 0
    try:
        return int(base64.urlsafe_b64decode(token.encode()))
    except ValueError:
        raise _refused("Invalid page token.") from None


def routes(_: World) -> list[Route]:
    """Return it."""
    return [
        Route(
            method="GET",
            pattern="/v1/services/{service}/skus",
            handler=_list,
            verb="cloudbilling.services.skus.list",
        )
    ]
