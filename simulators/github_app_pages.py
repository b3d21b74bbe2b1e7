"""What a person sees of GitHub Apps: making one from a manifest, installing one."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.responses import RedirectResponse, Response

from simulators import github_manifest as manifests
from simulators.github_installing import install_app
from simulators.github_state import Doc
from simulators.github_world import World

VIEWER = "cynthus-dev"  # who is signed in; the setting `viewer` names another
Page = Callable[..., Response]
AppPage = tuple[str, str, Callable[..., Response]]


class Missing(Exception):  # noqa: N818 - reads as what happened
    """There is no such page."""


def app_pages(world: World, page: Page) -> tuple[AppPage, ...]:
    """Return method, path and handler of each page."""
    desk = _Desk(world, page)
    new = r"/(organizations/(?P<organization>[^/]+)/)?settings/apps"
    slug = r"/apps/(?P<slug>[^/]+)"
    return (
        ("POST", rf"{new}/new", desk.review),
        ("POST", new, desk.create),
        ("GET", slug, desk.app),
        ("GET", rf"{slug}/installations/new", desk.choose),
        ("POST", rf"{slug}/installations", desk.install),
    )


class _Desk:
    def __init__(self, world: World, page: Page) -> None:
        self._world, self._page = world, page

    def _owner(self, organization: str | None) -> Doc:
        viewer = self._world.account(self._world.store.setting("viewer", VIEWER))
        if organization is None:
            return viewer
        found = self._world.find_account(organization)
        if found is None or found["type"] != "Organization":
            raise Missing  # GitHub hides organisations from those who do not own them
        return found

    def review(self, form: dict[str, str], organization: str | None = None) -> Response:
        """Show what the App would be; nothing is made yet."""
        owner = self._owner(organization)
        manifest = manifests.read(form.get("manifest", ""))
        found = list(manifests.faults(self._world, manifest))
        if found:
            return self._page("app_invalid.html", 422, faults=found)
        response = self._page(
            "app_review.html",
            owner=owner,
            organization=organization,
            manifest=manifest,
            manifest_text=json.dumps(manifest),
            state=form.get("state", ""),
        )
        place = urlsplit(manifest["redirect_url"])
        # A browser also follows a form's redirect only to where the page lets its forms go.
        response.headers["Content-Security-Policy"] = (
            "default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none';"
            f" form-action 'self' {place.scheme}://{place.netloc}"
        )
        return response

    def create(self, form: dict[str, str], organization: str | None = None) -> Response:
        """Make the App under the name that the person chose, and lead back with a code."""
        owner = self._owner(organization)
        manifest = manifests.read(form.get("manifest", ""))
        if isinstance(manifest, dict):
            manifest["name"] = form.get("name") or manifest.get("name")
        found = list(manifests.faults(self._world, manifest))
        if not found and not manifest["name"]:
            found = ["Name can't be blank"]
        if found:
            return self._page("app_invalid.html", 422, faults=found)
        more = {"code": manifests.create(self._world, owner, manifest)}
        if form.get("state"):
            more["state"] = form["state"]
        return RedirectResponse(manifests.with_query(manifest["redirect_url"], **more), 302)

    def _app(self, slug: str) -> Doc:
        found = self._world.store.first("app", slug=slug)
        if found is None:
            raise Missing
        return found

    def app(self, slug: str) -> Response:
        """Show an App to those who may install it."""
        app = self._app(slug)
        return self._page(
            "app.html", app=app, owner=self._world.store.must("account", app["owner_id"])
        )

    def choose(self, slug: str) -> Response:
        """Ask on which account and repositories; a private App goes on its owner's alone."""
        app = self._app(slug)
        owner = self._world.store.must("account", app["owner_id"])
        repos = self._world.store.find("repo", owner_id=owner["id"])
        response = self._page("app_install.html", app=app, owner=owner, repos=repos)
        place = urlsplit(app.get("setup_url") or self._world.store.base_url)
        response.headers["Content-Security-Policy"] = (
            "default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none';"
            f" form-action 'self' {place.scheme}://{place.netloc}"
        )
        return response

    def install(self, slug: str, form: dict[str, str]) -> Response:
        """Install it, and lead on to the App's set-up page."""
        app = self._app(slug)
        owner = self._world.store.must("account", app["owner_id"])
        repo = self._world.find_repo(owner["login"], form["repo"]) if form.get("repo") else None
        installation = install_app(self._world, app, owner, [repo["id"]] if repo else None)
        if not app.get("setup_url"):
            return RedirectResponse(f"/apps/{slug}", 302)
        more = {"installation_id": str(installation["id"]), "setup_action": "install"}
        return RedirectResponse(manifests.with_query(app["setup_url"], **more), 302)
