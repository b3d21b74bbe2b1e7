"""REST: apps, installations, tokens, webhook settings and deliveries."""

from __future__ import annotations

from urllib.parse import urlencode

from simulators import github_shapes as shapes
from simulators import github_webhooks as webhooks
from simulators.github_auth import LEVELS, new_installation_token, repo_of
from simulators.github_http import Answer, ApiError, Call, Route, not_found, page, unprocessable
from simulators.github_state import Doc
from simulators.github_world import ACTIONS_APP_ID

_STATELESS = "x-github-stateless-s2s-token"
_DELIVERY_STATUSES = {"success", "failure"}


def get_app(call: Call) -> Answer:
    """GET /app."""
    app = _app(call)
    count = len(call.store.find("installation", app_id=app["id"]))
    return Answer(json=shapes.app(call.world, app) | {"installations_count": count})


def _app(call: Call) -> Doc:
    if call.caller.app is None:
        raise ApiError(401, "A JSON web token could not be decoded")
    return call.caller.app


def list_installations(call: Call) -> Answer:
    """GET /app/installations."""
    found = call.store.find("installation", app_id=_app(call)["id"])
    return page(call, shapes.listed(call.world, found, shapes.installation))


def _installation(call: Call) -> Doc:
    found = call.store.get("installation", call.number("installation_id"))
    if found is None or found["app_id"] != _app(call)["id"]:
        raise not_found()
    return found


def get_installation(call: Call) -> Answer:
    """GET /app/installations/{installation_id}."""
    return Answer(json=shapes.installation(call.world, _installation(call)))


def create_token(call: Call) -> Answer:
    """POST /app/installations/{installation_id}/access_tokens."""
    installation = _installation(call)
    if installation["suspended_at"]:
        raise ApiError(403, "This installation has been suspended")
    wish = call.json()
    permissions = _granted(installation, wish.get("permissions"))
    repos = _wished_repos(call, installation, wish)
    repo_ids = None if repos is None else [repo["id"] for repo in repos]
    asked = call.headers.get(_STATELESS)
    stateless = asked == "enabled" or (
        asked != "disabled" and bool(call.store.setting("stateless_tokens", False))
    )
    grant: Doc = {"permissions": permissions, "repo_ids": repo_ids}
    token, expires_at = new_installation_token(
        call.world, installation, grant=grant, stateless=stateless
    )
    body: Doc = {
        "token": token,
        "expires_at": expires_at,
        "permissions": permissions,
        "repository_selection": "selected" if repos is not None else installation["selection"],
    }
    if repos is not None:
        body["repositories"] = [shapes.repository(call.world, repo) for repo in repos]
    return Answer(status=201, json=body)


def _granted(installation: Doc, wish: object) -> dict[str, str]:
    have: dict[str, str] = installation["permissions"]
    if wish is None or wish == {}:  # PyGithub sends an empty object for "all"
        return dict(have)
    if not isinstance(wish, dict):
        raise unprocessable("For 'properties/permissions', the value is not an object.")
    for name, level in wish.items():
        if level not in {"read", "write", "admin"}:
            raise unprocessable(f"For 'permissions', {level!r} is not a valid level.")
        if LEVELS.index(have.get(name, "none")) < LEVELS.index(level):
            raise ApiError(
                422,
                "The permissions requested are not granted to this installation.",
                docs="https://docs.github.com/rest/apps/apps",
            )
    return {"metadata": "read", **wish}


def _wished_repos(call: Call, installation: Doc, wish: Doc) -> list[Doc] | None:
    names, ids = wish.get("repositories"), wish.get("repository_ids")
    if names is None and ids is None:
        return None
    if len(names or []) + len(ids or []) > 500:
        raise unprocessable("At most 500 repositories may be named.")
    reachable = call.world.installation_repos(installation)
    chosen = [r for r in reachable if r["name"] in (names or []) or r["id"] in (ids or [])]
    if len(chosen) < len(set(names or [])) + len(set(ids or [])):
        raise ApiError(
            422,
            "There is at least one repository that does not exist or is not accessible to the "
            "parent installation.",
            docs="https://docs.github.com/rest/apps/apps",
        )
    return chosen


def revoke_token(call: Call) -> Answer:
    """DELETE /installation/token."""
    if not call.caller.is_integration:
        raise ApiError(401, "Requires authentication")
    token = call.store.first("token", token=call.caller.token)
    if token:
        call.store.delete("token", token["id"])
    return Answer(status=204)


def list_repos(call: Call) -> Answer:
    """GET /installation/repositories."""
    if call.caller.kind != "installation" or call.caller.installation is None:
        raise ApiError(
            403,
            "You must authenticate with an installation access token in order to list "
            "repositories for an installation.",
        )
    wanted = call.caller.repo_ids
    repos = [
        repo
        for repo in call.world.installation_repos(call.caller.installation)
        if wanted is None or repo["id"] in wanted
    ]
    answer = page(call, shapes.listed(call.world, repos, shapes.repository), key="repositories")
    selection = call.caller.installation["selection"] if wanted is None else "selected"
    body: Doc = answer.json
    return Answer(json={**body, "repository_selection": selection}, headers=answer.headers)


def repo_installation(call: Call) -> Answer:
    """GET /repos/{owner}/{repo}/installation."""
    repo = repo_of(call)
    found = call.world.installation_for(repo, _app(call)["id"])
    if found is None:
        raise not_found()
    return Answer(json=shapes.installation(call.world, found))


def account_installation(call: Call) -> Answer:
    """GET /users/{owner}/installation and /orgs/{owner}/installation."""
    account = call.world.find_account(call.args["owner"])
    app = _app(call)
    found = account and call.store.first("installation", app_id=app["id"], account_id=account["id"])
    if not found:
        raise not_found()
    return Answer(json=shapes.installation(call.world, found))


def suspend(call: Call) -> Answer:
    """PUT /app/installations/{installation_id}/suspended."""
    installation = _installation(call)
    suspend_installation(call, installation, on=True)
    return Answer(status=204)


def unsuspend(call: Call) -> Answer:
    """DELETE /app/installations/{installation_id}/suspended."""
    installation = _installation(call)
    suspend_installation(call, installation, on=False)
    return Answer(status=204)


def suspend_installation(call: Call, installation: Doc, *, on: bool) -> None:
    """Suspend or resume, and tell the app."""
    world, store = call.world, call.store
    installation |= {
        "suspended_at": store.stamp() if on else None,
        "suspended_by_id": installation["account_id"] if on else None,
        "updated_at": store.stamp(),
    }
    store.put("installation", installation)
    payload = {
        "action": "suspend" if on else "unsuspend",
        "installation": shapes.installation(world, installation),
        "sender": shapes.user(world, store.must("account", installation["account_id"])),
    }
    webhooks.emit_to(world, installation, "installation", payload)


def get_hook(call: Call) -> Answer:
    """GET /app/hook/config."""
    return Answer(json=_hook(_app(call)))


def _hook(app: Doc) -> Doc:
    hook = app["hook"]
    shown = {name: hook[name] for name in ("content_type", "insecure_ssl", "url")}
    return shown | ({"secret": "********"} if hook["secret"] else {})


def update_hook(call: Call) -> Answer:
    """PATCH /app/hook/config."""
    app, wish = _app(call), call.json()
    names = ("url", "content_type", "secret", "insecure_ssl")
    app["hook"] |= {name: str(wish[name]) for name in names if name in wish}
    call.store.put("app", app)
    return Answer(json=_hook(app))


def list_deliveries(call: Call) -> Answer:
    """GET /app/hook/deliveries: pages by cursor."""
    status = call.params.get("status")
    if status is not None and status not in _DELIVERY_STATUSES:
        raise unprocessable(f"For 'status', {status!r} is not one of success, failure.")
    found = webhooks.log(call.world, _app(call)["id"])
    if status:
        found = [d for d in found if (200 <= d["status_code"] < 400) == (status == "success")]
    before = _cursor(call)
    if before is not None:
        found = [d for d in found if d["id"] < before]
    text = call.params.get("per_page", "30")
    size = min(int(text), 100) if text.isascii() and text.isdigit() and text != "0" else 30
    part, rest = found[:size], found[size:]
    headers = {}
    if rest:
        query = urlencode({**call.params, "cursor": f"v1_{part[-1]['id']}"})
        headers["Link"] = f'<{call.url}?{query}>; rel="next"'
    return Answer(json=[webhooks.item(d) for d in part], headers=headers)


def _cursor(call: Call) -> int | None:
    text = call.params.get("cursor")
    if text is None:
        return None
    digits = text.removeprefix("v1_")
    if not digits.isascii() or not digits.isdigit():
        raise ApiError(400, "Invalid cursor")
    return int(digits)


def _delivery(call: Call) -> Doc:
    app, wanted = _app(call), call.number("delivery_id")
    found = [d for d in webhooks.log(call.world, app["id"]) if d["id"] == wanted]
    if not found:
        raise not_found()
    return found[0]


def get_delivery(call: Call) -> Answer:
    """GET /app/hook/deliveries/{delivery_id}."""
    return Answer(json=webhooks.full(call.world, _delivery(call)))


def redeliver(call: Call) -> Answer:
    """POST /app/hook/deliveries/{delivery_id}/attempts."""
    webhooks.redeliver(call.world, _delivery(call))
    return Answer(status=202, json={})


def get_app_by_slug(call: Call) -> Answer:
    """GET /apps/{app_slug}."""
    app = call.store.first("app", slug=call.args["app_slug"])
    if app is None or (app["id"] != ACTIONS_APP_ID and call.caller.kind == "anonymous"):
        raise not_found()
    return Answer(json=shapes.app(call.world, app))


ROUTES = (
    Route(method="GET", template="/app", handler=get_app, app_only=True),
    Route(method="GET", template="/app/installations", handler=list_installations, app_only=True),
    Route(
        method="GET",
        template="/app/installations/{installation_id}",
        handler=get_installation,
        app_only=True,
    ),
    Route(
        method="POST",
        template="/app/installations/{installation_id}/access_tokens",
        handler=create_token,
        app_only=True,
    ),
    Route(
        method="PUT",
        template="/app/installations/{installation_id}/suspended",
        handler=suspend,
        app_only=True,
    ),
    Route(
        method="DELETE",
        template="/app/installations/{installation_id}/suspended",
        handler=unsuspend,
        app_only=True,
    ),
    Route(method="DELETE", template="/installation/token", handler=revoke_token),
    Route(method="GET", template="/installation/repositories", handler=list_repos),
    Route(
        method="GET",
        template="/repos/{owner}/{repo}/installation",
        handler=repo_installation,
        app_only=True,
    ),
    Route(
        method="GET",
        template="/users/{owner}/installation",
        handler=account_installation,
        app_only=True,
    ),
    Route(
        method="GET",
        template="/orgs/{owner}/installation",
        handler=account_installation,
        app_only=True,
    ),
    Route(method="GET", template="/app/hook/config", handler=get_hook, app_only=True),
    Route(method="PATCH", template="/app/hook/config", handler=update_hook, app_only=True),
    Route(method="GET", template="/app/hook/deliveries", handler=list_deliveries, app_only=True),
    Route(
        method="GET",
        template="/app/hook/deliveries/{delivery_id}",
        handler=get_delivery,
        app_only=True,
    ),
    Route(
        method="POST",
        template="/app/hook/deliveries/{delivery_id}/attempts",
        handler=redeliver,
        app_only=True,
    ),
    Route(method="GET", template="/apps/{app_slug}", handler=get_app_by_slug),
)
