"""REST: the versions of a container package; what a registry push leaves there is control.

https://docs.github.com/rest/packages/packages
"""

from __future__ import annotations

from urllib.parse import unquote

from simulators.github_auth import allowed
from simulators.github_http import Answer, ApiError, Call, Route, not_found, page
from simulators.github_state import Doc


def _package(call: Call, need: str) -> Doc:
    """Return the package of the path, or 404 where it or such an owner is not."""
    owner = call.world.find_account(call.args["owner"])
    kind = "Organization" if call.path.startswith("/orgs/") else "User"
    name = unquote(call.args["package_name"])
    found = owner and call.store.first("package", owner_id=owner["id"], name=name)
    if not owner or owner["type"] != kind or not found or call.args["package_type"] != "container":
        raise not_found()
    allowed(call, call.store.must("repo", found["repo_id"]), need)
    return found


def list_versions(call: Call) -> Answer:
    """GET /orgs/{org}/packages/{package_type}/{package_name}/versions, the newest first."""
    package = _package(call, "packages:read")
    found = call.store.find("package_version", package_id=package["id"])
    newest = sorted(found, key=lambda version: (version["created_at"], version["id"]), reverse=True)
    return page(call, [_shape(call, version) for version in newest])


def delete_version(call: Call) -> Answer:
    """DELETE …/versions/{package_version_id}; the last one goes only with its package."""
    package = _package(call, "packages:write")
    versions = call.store.find("package_version", package_id=package["id"])
    wanted = call.number("package_version_id")
    if all(version["id"] != wanted for version in versions):
        raise not_found()
    if len(versions) == 1:
        message = "You cannot delete the last version of a package. Delete the package instead."
        raise ApiError(400, message)
    call.store.delete("package_version", wanted)
    return Answer(status=204)


def add_version(call: Call) -> Answer:
    """POST /_sim/package_versions {owner, package, repo, name, tags, created_at}."""
    wish = call.json()
    owner = call.world.account(wish["owner"])
    account, _, short = wish["repo"].partition("/")
    repo = call.world.find_repo(account, short)
    if repo is None:
        raise ApiError(404, f"repo: there is no repository {wish['repo']!r}.")
    package = call.store.first(
        "package", owner_id=owner["id"], name=wish["package"]
    ) or call.store.put(
        "package", {"owner_id": owner["id"], "name": wish["package"], "repo_id": repo["id"]}
    )
    version = call.store.put(
        "package_version",
        {
            "package_id": package["id"],
            "name": wish["name"],
            "tags": wish.get("tags", []),
            "created_at": wish.get("created_at") or call.store.stamp(),
        },
    )
    return Answer(status=201, json={"id": version["id"]})


def _shape(call: Call, version: Doc) -> Doc:
    package = call.store.must("package", version["package_id"])
    owner = call.store.must("account", package["owner_id"])
    page_url = f"{call.store.base_url}/{owner['login']}/packages/container/{package['name']}"
    return {
        "id": version["id"],
        "name": version["name"],
        "url": f"{call.url}/{version['id']}",
        "package_html_url": page_url,
        "html_url": f"{page_url}/{version['id']}",
        "created_at": version["created_at"],
        "updated_at": version["created_at"],
        "metadata": {"package_type": "container", "container": {"tags": version["tags"]}},
    }


_VERSIONS = "{owner}/packages/{package_type}/{package_name}/versions"
ROUTES = tuple(
    route
    for start in ("orgs", "users")
    for route in (
        Route(method="GET", template=f"/{start}/{_VERSIONS}", handler=list_versions),
        Route(
            method="DELETE",
            template=f"/{start}/{_VERSIONS}/{{package_version_id}}",
            handler=delete_version,
        ),
    )
)
CONTROL_ROUTES = (Route(method="POST", template="/package_versions", handler=add_version),)
