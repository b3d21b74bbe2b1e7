"""Who may call what: the gate in front of Storage, Secret Manager and the IAM Credentials API.

By default nobody needs a token, as with the emulators Google ships; a token that is shown is
always checked. `POST /_sim/settings {"auth": true}` asks everybody for one.
"""

from __future__ import annotations

from urllib.parse import unquote

from simulators.gcp_accounts import default_account
from simulators.gcp_http import Answer, GoogleError, Request, Route
from simulators.gcp_identity import bearer, issue_access
from simulators.gcp_signed_urls import is_signed
from simulators.gcp_state import Doc
from simulators.gcp_storage_refusals import InXmlError
from simulators.gcp_world import World

_ROOT = "https://www.googleapis.com/auth/"
_ALL = f"{_ROOT}cloud-platform"
# Scopes as the discovery documents list them; the second set is enough for reading.
_SCOPES = {
    "storage": (
        {"devstorage.full_control", "devstorage.read_write"},
        {"devstorage.read_only", "cloud-platform.read-only"},
    ),
    "compute": ({"compute"}, {"compute.readonly"}),
    "secretmanager": (set[str](), set[str]()),
    "iamcredentials": ({"iam"}, set[str]()),
}
_ACTS = {"insert": "create", "patch": "update", "copy": "create", "rewrite": "create"}
_ACTS |= {"compose": "create", "addVersion": "add", "download": "get"}


def routes(world: World) -> list[Route]:
    """Put the gate up; return the endpoint that hands out tokens."""
    world.settings["auth"] = False
    world.faults.kinds.add("denied")
    world.gates.append(lambda request, route: _check(world, request, route))

    def token(request: Request) -> Answer:
        wish = request.json()
        scopes = wish.get("scopes", [_ALL])
        life_s = int(wish.get("life_s", 3599))
        return Answer(
            status=201,
            json=issue_access(world, wish.get("account") or default_account(world), scopes, life_s),
        )

    return [Route(method="POST", pattern="/_sim/tokens", handler=token)]


def _check(world: World, request: Request, route: Route) -> None:
    try:
        _admit(world, request, route)
    except GoogleError as error:
        if route.verb.startswith("storage.xml."):
            raise InXmlError(error) from None
        raise


def _admit(world: World, request: Request, route: Route) -> None:
    if route.api not in _SCOPES or is_signed(request.query) or "upload_id=" in request.query:
        return  # a signature and the id of an upload are rights of their own
    with world.lock:
        caller = bearer(world, request)
        if caller is None and world.store.setting("auth", False):
            raise _nobody(route)
        if caller is not None and not _in_scope(caller["scopes"], request, route):
            raise _too_narrow(route)
        principal = caller["account"] if caller else ""
        facts = {**request.args, "principal": principal, "path": unquote(request.path)}
        facts |= {"api": route.api, "verb": route.verb, "permission": permission(route.verb)}
        if world.faults.take("denied", facts):
            raise denied(route.api, permission(route.verb), principal)


def _in_scope(scopes: list[str], request: Request, route: Route) -> bool:
    writing, reading = _SCOPES[route.api]
    enough = writing | (reading if request.method in {"GET", "HEAD"} else set())
    return bool(set(scopes) & ({_ALL} | {_ROOT + name for name in enough}))


def permission(verb: str) -> str:
    """Return the IAM permission that a method needs, by Google's naming."""
    *place, act = verb.split(".")
    if place[:2] == ["storage", "xml"]:
        place = ["storage", "objects"]
    if place[0] == "secretmanager":
        place = ["secretmanager", "versions" if act in {"access", "addVersion"} else place[-1]]
    if place[0] == "iamcredentials":
        place = ["iam", "serviceAccounts"]
        act = {"generateAccessToken": "getAccessToken", "generateIdToken": "getOpenIdToken"}.get(
            act, act
        )
    return ".".join([*place, _ACTS.get(act, act)])


def denied(api: str, permission: str, principal: str) -> GoogleError:
    """Return the refusal of somebody who lacks a permission, as each API words it."""
    told = f"Permission '{permission}' denied on resource (or it may not exist)."
    if api == "storage":
        who = principal or "Anonymous caller"
        place = "Google Cloud Storage object" if "objects" in permission else "Cloud Storage bucket"
        return GoogleError(
            403,
            f"{who} does not have {permission} access to the {place}. {told}",
            reason="forbidden",
        )
    info: Doc = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "IAM_PERMISSION_DENIED",
        "domain": "iam.googleapis.com",
        "metadata": {"permission": permission},
    }
    return GoogleError(403, told, status="PERMISSION_DENIED", details=[info])


def _nobody(route: Route) -> GoogleError:
    if route.api == "storage":
        needed = permission(route.verb)
        return GoogleError(
            401,
            f"Anonymous caller does not have {needed} access to the Google Cloud Storage object. "
            f"Permission '{needed}' denied on resource (or it may not exist).",
            reason="required",
        )
    return GoogleError(
        401,
        "Request is missing required authentication credential. Expected OAuth 2 access token, "
        "login cookie or other valid authentication credential. See "
        "https://developers.google.com/identity/sign-in/web/devconsole-project.",
        reason="required" if route.api == "compute" else None,
        status="UNAUTHENTICATED",
    )


def _too_narrow(route: Route) -> GoogleError:
    if route.api == "storage":
        return GoogleError(
            403, "Provided scope(s) are not authorized", reason="insufficientPermissions"
        )
    info: Doc = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "ACCESS_TOKEN_SCOPE_INSUFFICIENT",
        "domain": "googleapis.com",
        "metadata": {"method": route.verb},
    }
    return GoogleError(
        403,
        "Request had insufficient authentication scopes.",
        reason="insufficientPermissions" if route.api == "compute" else None,
        status="PERMISSION_DENIED",
        details=[info],
    )
