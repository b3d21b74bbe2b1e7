"""The manifest flow: a person makes a GitHub App out of what another site wrote down.

https://docs.github.com/apps/sharing-github-apps/registering-a-github-app-from-a-manifest
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from datetime import timedelta
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from simulators import github_shapes as shapes
from simulators import github_webhooks as webhooks
from simulators.github_http import Answer, Call, Route, not_found
from simulators.github_state import Doc, Json, moment, stamp
from simulators.github_world import World

CODE_LIFE = timedelta(hours=1)
LONGEST_NAME = 34  # characters; GitHub's form says so
MOST_CALLBACKS = 10
# Event → permissions of which any lets it come: https://docs.github.com/webhooks (availability).
# `installation` and its like come to every App unasked, and may not be asked for.
_BACKED_BY = {
    "check_run": ("checks",),
    "check_suite": ("checks",),
    "create": ("contents",),
    "delete": ("contents",),
    "issue_comment": ("issues", "pull_requests"),
    "issues": ("issues",),
    "pull_request": ("pull_requests",),
    "push": ("contents",),
    "release": ("contents",),
    "repository": ("metadata",),
    "repository_dispatch": ("contents",),
    "status": ("statuses",),
    "workflow_job": ("actions",),
    "workflow_run": ("actions",),
}
_RESOURCES = frozenset(
    {
        "actions", "administration", "checks", "contents", "deployments", "environments", "issues",
        "members", "metadata", "packages", "pages", "pull_requests", "secrets", "statuses",
        "workflows",
    }
)  # fmt: skip
_NOT_A_MANIFEST = "The configuration does not appear to be a valid GitHub App manifest."


def faults(world: World, manifest: Json) -> Iterator[str]:
    """Tell what GitHub's page finds wrong, in its words."""
    if not isinstance(manifest, dict):
        yield _NOT_A_MANIFEST
        return
    yield from _url_faults(world, manifest)
    yield from _name_faults(world, manifest)
    yield from _permission_faults(manifest)
    yield from _event_faults(manifest)


def _url_faults(world: World, manifest: Doc) -> Iterator[str]:
    hook = manifest.get("hook_attributes")
    if not _is_url(manifest.get("url")) or (hook is not None and not _is_url(hook.get("url"))):
        yield '"url" wasn\'t supplied.'
    elif hook is not None and not world.store.setting("local_hooks", False):
        host = urlsplit(hook["url"]).hostname
        if host in {"localhost", "127.0.0.1", "::1"}:
            yield (
                "Hook url is not supported because it isn't reachable over the public Internet"
                f" ({host})"
            )
    if not _is_url(manifest.get("redirect_url")):
        yield '"redirect_url" wasn\'t supplied.'
    if len(manifest.get("callback_urls") or []) > MOST_CALLBACKS:
        yield f"Callback urls: at most {MOST_CALLBACKS} may be given"


def _is_url(value: Json) -> bool:
    return isinstance(value, str) and value.startswith(("https://", "http://"))


def _name_faults(world: World, manifest: Doc) -> Iterator[str]:
    name = str(manifest.get("name") or "")
    if len(name) > LONGEST_NAME:
        yield f"Name is too long (maximum is {LONGEST_NAME} characters)"
    if name and any(app["name"].lower() == name.lower() for app in world.store.find("app")):
        yield "Name is already taken"


def _permission_faults(manifest: Doc) -> Iterator[str]:
    for name, level in (manifest.get("default_permissions") or {}).items():
        if name not in _RESOURCES:
            yield f"Default permission records resource is not included in the list: {name}"
        elif level not in {"read", "write", "admin"}:
            yield f"Default permission records action is not included in the list: {level}"


def _event_faults(manifest: Doc) -> Iterator[str]:
    events = manifest.get("default_events") or []
    unknown = [event for event in events if event not in _BACKED_BY]
    if unknown:
        yield f"Default events unsupported: {' and '.join(unknown)}"
    granted = {"metadata", *(manifest.get("default_permissions") or {})}
    bare = [event for event in events if granted.isdisjoint(_BACKED_BY.get(event, ()))]
    if bare:
        yield f"Default events are not supported by permissions: {' and '.join(bare)}"


def read(text: str) -> Json:
    """Return the manifest in a form's field; None where there is none."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def create(world: World, owner: Doc, manifest: Doc) -> str:
    """Make the App, tell its webhook, and return the code for its keys."""
    hook = manifest.get("hook_attributes") or {}
    app, pem = world.create_app(
        {
            "owner": owner["login"],
            "name": manifest.get("name") or "",
            "external_url": manifest["url"],
            "webhook_url": hook.get("url", "") if hook.get("active", True) else "",
            "webhook_secret": secrets.token_hex(20),
            "permissions": manifest.get("default_permissions"),
            "events": manifest.get("default_events"),
        }
    )
    app |= {"setup_url": manifest.get("setup_url") or "", "public": bool(manifest.get("public"))}
    app["created_at"] = app["updated_at"] = world.store.stamp()
    world.store.put("app", app)
    code = secrets.token_hex(20)
    expires_at = stamp(world.store.now() + CODE_LIFE)
    kept = {"code": code, "app_id": app["id"], "pem": pem, "expires_at": expires_at}
    world.store.put("manifest_code", kept)
    webhooks.emit_ping(world, app)
    return code


def with_query(url: str, **more: str) -> str:
    """Return a URL with parameters added to those it has."""
    parts = urlsplit(url)
    query = urlencode([*parse_qsl(parts.query, keep_blank_values=True), *more.items()])
    return urlunsplit(parts._replace(query=query))


def convert(call: Call) -> Answer:
    """POST /app-manifests/{code}/conversions: the App's keys, to whoever has the code, once."""
    found = call.store.first("manifest_code", code=call.args["code"])
    if found is None or moment(found["expires_at"]) <= call.store.now():
        raise not_found("https://docs.github.com/rest/apps/apps")
    call.store.delete("manifest_code", found["id"])
    app = call.store.must("app", found["app_id"])
    keys = {
        "client_secret": secrets.token_hex(20),
        "webhook_secret": app["hook"]["secret"] or None,
        "pem": found["pem"],
    }
    return Answer(status=201, json=shapes.app(call.world, app) | keys)


ROUTES = (Route(method="POST", template="/app-manifests/{code}/conversions", handler=convert),)
