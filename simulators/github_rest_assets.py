"""REST: files attached to releases."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from simulators import github_shapes_work as work
from simulators.github_auth import allowed, repo_of
from simulators.github_http import Answer, ApiError, Call, Route, invalid, not_found, page
from simulators.github_state import Doc

LARGEST_BYTES = (2 << 30) - 1  # https://docs.github.com/repositories (About releases)
MOST_ASSETS = 1000


def sanitised(name: str) -> str:
    """Return the name GitHub gives a file: special characters become dots."""
    clean = re.sub(r"\.{2,}", ".", re.sub(r"[^A-Za-z0-9._+@-]", ".", name)).strip(".")
    return clean or "default"


def upload(call: Call) -> Answer:
    """POST to the upload host: /repos/{owner}/{repo}/releases/{release_id}/assets."""
    repo = repo_of(call)
    allowed(call, repo, "contents:write")
    release = call.store.get("release", call.number("release_id"))
    if release is None or release["repo_id"] != repo["id"]:
        raise not_found()
    file = Path(call.body_file or "")
    name = _free_name(call, release)
    size = _checked_size(call, file)
    starter = call.headers.get("x-simulated-fault") == "starter"
    asset = _keep(call, release, {"name": name, "size": 0 if starter else size})
    if starter:
        # Seen on real GitHub: the upload fails with 502 and an empty asset stays behind.
        raise ApiError(502, "Server Error")
    digest = _digest(file)
    os.replace(file, asset_path(call, asset))
    asset |= {"state": "uploaded", "digest": f"sha256:{digest}"}
    call.store.put("asset", asset)
    shape = work.asset(call.world, asset)
    return Answer(status=201, json=shape, headers={"Location": shape["url"]})


def _free_name(call: Call, release: Doc) -> str:
    wanted = call.params.get("name", "")
    if not wanted:
        raise invalid("ReleaseAsset", "name", "missing_field")
    name = sanitised(wanted)
    if release["immutable"]:
        raise invalid(
            "ReleaseAsset", "release", "custom", "Cannot upload assets to an immutable release."
        )
    assets = call.store.find("asset", release_id=release["id"])
    if any(asset["name"] == name for asset in assets):
        raise invalid("ReleaseAsset", "name", "already_exists")
    if len(assets) >= MOST_ASSETS:
        message = f"A release cannot have more than {MOST_ASSETS} assets"
        raise invalid("ReleaseAsset", "release", "custom", message)
    return name


def _checked_size(call: Call, file: Path) -> int:
    if "content-type" not in call.headers:
        raise invalid("ReleaseAsset", "content_type", "missing_field")
    if "content-length" not in call.headers:
        raise ApiError(411, "Content-Length is required")
    size = file.stat().st_size
    if size == 0:
        raise ApiError(400, "Bad Content-Length: 0")
    if size > LARGEST_BYTES:
        raise invalid("ReleaseAsset", "size", "custom", "size must be less than 2147483648")
    return size


def _keep(call: Call, release: Doc, more: Doc) -> Doc:
    now = call.store.stamp()
    return call.store.put(
        "asset",
        {
            "repo_id": release["repo_id"],
            "release_id": release["id"],
            "uploader_id": (call.caller.user or {})["id"],
            "label": call.params.get("label") or "",
            "content_type": call.headers["content-type"],
            "state": "starter",
            "digest": None,
            "download_count": 0,
            "created_at": now,
            "updated_at": now,
            **more,
        },
    )


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def asset_path(call: Call, asset: Doc) -> Path:
    """Return where the bytes of an asset lie."""
    return call.store.folder / "assets" / str(asset["id"])


def _readable(call: Call) -> Doc:
    repo = repo_of(call)
    allowed(call, repo, "contents:read")
    return repo


def list_assets(call: Call) -> Answer:
    """GET /repos/{owner}/{repo}/releases/{release_id}/assets."""
    repo = _readable(call)
    release = call.store.get("release", call.number("release_id"))
    if release is None or release["repo_id"] != repo["id"]:
        raise not_found()
    found = call.store.find("asset", release_id=release["id"])
    return page(call, [work.asset(call.world, a) for a in found])


def _asset(call: Call, repo: Doc) -> Doc:
    asset = call.store.get("asset", call.number("asset_id"))
    if asset is None or asset["repo_id"] != repo["id"]:
        raise not_found()
    return asset


def get_asset(call: Call) -> Answer:
    """GET /repos/{owner}/{repo}/releases/assets/{asset_id}: its data, or where its bytes are."""
    repo = _readable(call)
    asset = _asset(call, repo)
    if "application/octet-stream" not in call.headers.get("accept", ""):
        return Answer(json=work.asset(call.world, asset))
    if asset["state"] != "uploaded":
        raise not_found()
    call.store.put("asset", asset | {"download_count": asset["download_count"] + 1})
    if call.store.setting("asset_downloads", "redirect") == "redirect":
        url = f"{call.store.base_url}/_assets/{asset['id']}?sig={asset['digest'][7:39]}"
        return Answer(status=302, headers={"Location": url})
    return Answer(file=str(asset_path(call, asset)), media_type="application/octet-stream")


def update_asset(call: Call) -> Answer:
    """PATCH /repos/{owner}/{repo}/releases/assets/{asset_id}."""
    repo = repo_of(call)
    allowed(call, repo, "contents:write")
    asset, wish = _asset(call, repo), call.json()
    _mutable(call, asset)
    if "name" in wish:
        name = sanitised(str(wish["name"]))
        twins = call.store.find("asset", release_id=asset["release_id"], name=name)
        if any(twin["id"] != asset["id"] for twin in twins):
            raise invalid("ReleaseAsset", "name", "already_exists")
        asset["name"] = name
    if "label" in wish:
        asset["label"] = wish["label"]
    asset["updated_at"] = call.store.stamp()
    call.store.put("asset", asset)
    return Answer(json=work.asset(call.world, asset))


def delete_asset(call: Call) -> Answer:
    """DELETE /repos/{owner}/{repo}/releases/assets/{asset_id}."""
    repo = repo_of(call)
    allowed(call, repo, "contents:write")
    asset = _asset(call, repo)
    _mutable(call, asset)
    asset_path(call, asset).unlink(missing_ok=True)
    call.store.delete("asset", asset["id"])
    return Answer(status=204)


def _mutable(call: Call, asset: Doc) -> None:
    if call.store.must("release", asset["release_id"])["immutable"]:
        raise invalid(
            "ReleaseAsset", "release", "custom", "Cannot change assets of an immutable release."
        )


_RELEASES = "/repos/{owner}/{repo}/releases"
_ASSET = f"{_RELEASES}/assets/{{asset_id}}"
_ASSETS = f"{_RELEASES}/{{release_id}}/assets"
ROUTES = (
    Route(method="POST", template=f"/uploads{_ASSETS}", handler=upload, upload=True),
    Route(method="GET", template=_ASSETS, handler=list_assets),
    Route(method="GET", template=_ASSET, handler=get_asset),
    Route(method="PATCH", template=_ASSET, handler=update_asset),
    Route(method="DELETE", template=_ASSET, handler=delete_asset),
)
