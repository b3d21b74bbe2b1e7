"""List and delete the images of one repository: by the registry API, or by GitHub's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import quote

from action.failures import BuildFailed, RegistryAway, RegistryRefused
from action.prune.choice import Stored, from_place, is_ours
from action.registry.client import Registry
from action.registry.connections import Answer, Connections, NoAnswer, Request

CONFIG_LIMIT_BYTES = 8 << 20  # twice the largest manifest; what is larger is no config
MOST_LOOKED_AT = 30  # images a job: two requests each, some four seconds in all
MOST_ENVIRONMENT_TAGS = 300  # more: which tags an environment has cannot be said in short
_SOURCE = "org.opencontainers.image.source"  # github.com/opencontainers/image-spec, annotations.md
_LAST_PAGE = re.compile(r'<([^>]*)>\s*;\s*rel="last"')
_ABOUT = "about-"
_OK, _GONE, _NOT_FOUND = 200, 204, 404


class Shelf(Protocol):
    """The images of one repository."""

    @property
    def name(self) -> str:
        """Return what to call it."""

    def stored(self) -> Iterator[Stored]:
        """Yield some of the images, the same one never twice."""

    def described(self, image: Stored) -> Stored:
        """Return the image with what its config tells, where the list did not."""

    def delete(self, image: Stored) -> None:
        """Delete an image with its tags. Safe to repeat."""


@dataclass(frozen=True, kw_only=True)
class RegistryShelf:
    """A repository whose registry deletes by its own API."""

    registry: Registry
    repository: str
    start: str  # where among the tags to begin
    environments: bool  # tags belong together: all are looked at, or none

    @property
    def name(self) -> str:
        """Return what to call it."""
        return f"{self.registry.host}/{self.repository}"

    def stored(self) -> Iterator[Stored]:
        """Yield images with all that is known of them."""
        tags = tuple(self.registry.tags(self.repository))
        if self.environments:
            yield from self._environments(tags)
            return
        others = [tag for tag in tags if not is_ours(tag)]
        if len(others) > MOST_LOOKED_AT:
            return
        named = self._by_digest(others)  # an image takes all its names with it when it goes
        ours = [tag for tag in tags if is_ours(tag)]
        for tag in from_place(ours, self.start)[:MOST_LOOKED_AT]:
            if found := self._look(tag):
                yield replace(found, tags=(tag, *named.get(found.digest, ())))

    def _by_digest(self, tags: Iterable[str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for tag in tags:
            manifest = self.registry.manifest(self.repository, tag)
            if manifest is not None:
                found.setdefault(manifest.digest, []).append(tag)
        return found

    def _environments(self, tags: tuple[str, ...]) -> Iterator[Stored]:
        if len(tags) > MOST_ENVIRONMENT_TAGS:
            return
        found = [
            replace(image, tags=tuple(names))
            for digest, names in self._by_digest(tags).items()
            if all(map(is_ours, names)) and (image := self._look(digest))
        ]
        ages = {tag: image.created for image in found for tag in image.tags}
        # What is told of an environment is as old as the environment, and goes before it.
        for image in sorted(found, key=lambda image: not image.tags[0].startswith(_ABOUT)):
            age = image.created or ages.get(image.tags[0].removeprefix(_ABOUT))
            yield replace(image, created=age)

    def _look(self, reference: str) -> Stored | None:
        manifest = self.registry.manifest(self.repository, reference)
        if manifest is None:
            return None
        created, source = _told(self.registry, self.repository, manifest.json())
        return Stored(
            digest=manifest.digest, tags=(), created=created, handle=manifest.digest, source=source
        )

    def described(self, image: Stored) -> Stored:
        """Return the image: the list told all."""
        return image

    def delete(self, image: Stored) -> None:
        """Delete the tags where the registry wants that first, then the manifest."""
        for tag in image.tags if self.registry.kind.untag_first else ():
            self.registry.delete_manifest(self.repository, tag)
        self.registry.delete_manifest(self.repository, image.handle)


@dataclass(frozen=True, kw_only=True)
class GithubShelf:
    """A package of GitHub's registry, which deletes by GitHub's own API.

    https://docs.github.com/rest/packages/packages
    """

    registry: Registry
    repository: str  # owner/package
    api: str  # https://api.github.com
    token: str
    connections: Connections

    @property
    def name(self) -> str:
        """Return what to call it."""
        return f"{self.registry.host}/{self.repository}"

    def stored(self) -> Iterator[Stored]:
        """Yield the oldest versions: GitHub lists the newest first, so the last page has them."""
        # The list of a user's package knows no page size: GitHub's OpenAPI description.
        for owners, query in (("orgs", "?per_page=100"), ("users", "")):
            status, found, link = self._call("GET", f"{self._versions(owners)}{query}")
            if status == _NOT_FOUND:
                continue
            if last := _LAST_PAGE.search(link):
                _, found, _ = self._call("GET", last[1])
            for version in found if isinstance(found, list) else ():
                if image := _version(version, self._versions(owners)):
                    yield image
            return

    def described(self, image: Stored) -> Stored:
        """Return the image with its source, which GitHub's list does not tell."""
        manifest = self.registry.manifest(self.repository, image.digest)
        if manifest is None:
            return image
        _, source = _told(self.registry, self.repository, manifest.json())
        return replace(image, source=source)

    def delete(self, image: Stored) -> None:
        """Delete a version with its tags."""
        self._call("DELETE", image.handle)

    def _versions(self, owners: str) -> str:
        owner, _, package = self.repository.partition("/")
        package = quote(package, safe="")
        return f"{self.api}/{owners}/{quote(owner)}/packages/container/{package}/versions"

    def _call(self, method: str, url: str) -> tuple[int, Any, str]:
        if not url.startswith(f"{self.api}/"):
            raise RegistryRefused(
                f"{self.name}: GitHub's list leads elsewhere. Nothing is deleted."
            )
        headers = {
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {self.token}",
            "X-GitHub-Api-Version": "2022-11-28",
        }
        try:
            with self.connections.send(Request(method=method, url=url, headers=headers)) as answer:
                return self._read(method, answer)
        except NoAnswer as error:
            raise RegistryAway(f"{self.api}: should answer, but {error.reason}.") from error

    def _read(self, method: str, answer: Answer) -> tuple[int, Any, str]:
        body = answer.read()
        expected = {_OK, _NOT_FOUND} if method == "GET" else {_GONE, _NOT_FOUND}
        if answer.status not in expected:
            raise RegistryRefused(
                f"{self.name}: should let the job {'list' if method == 'GET' else 'delete'} "
                f"versions, but GitHub answers {answer.status}. Give the job `packages: write`, "
                f"and the repository the role Admin in the package's settings."
            )
        try:
            found = json.loads(body) if body else None
        except (ValueError, RecursionError):
            found = None
        return answer.status, found, answer.headers.get("Link") or ""


def _version(found: Any, versions: str) -> Stored | None:
    try:
        return Stored(
            digest=str(found["name"]),
            tags=tuple(str(tag) for tag in found["metadata"]["container"]["tags"]),
            created=_moment(found["created_at"]),
            handle=f"{versions}/{int(found['id'])}",
        )
    except (KeyError, TypeError, ValueError):
        return None


def _told(
    registry: Registry, repository: str, manifest: dict[str, Any]
) -> tuple[datetime | None, str | None]:
    """Return when an image was made and from which repository, as its config or annotations say."""
    notes = manifest.get("annotations")
    notes = notes if isinstance(notes, dict) else {}
    created = notes.get("org.opencontainers.image.created")
    config = manifest.get("config")
    if created is None and isinstance(config, dict):
        return _of_config(registry, repository, str(config.get("digest")))
    return _moment(created), notes.get(_SOURCE)


def _of_config(
    registry: Registry, repository: str, digest: str
) -> tuple[datetime | None, str | None]:
    try:
        with registry.read(repository, digest) as file:
            found = json.loads(file.read(CONFIG_LIMIT_BYTES))
        labels = (found.get("config") or {}).get("Labels") or {}
        return _moment(found.get("created")), labels.get(_SOURCE)
    except (ValueError, RecursionError, AttributeError, BuildFailed):
        return None, None  # what cannot be read has no age, and stays


def _moment(text: object) -> datetime | None:
    """Return a moment of RFC 3339; Go writes nine digits of a second, Python reads six."""
    if not isinstance(text, str):
        return None
    try:
        found = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))
    except ValueError:
        return None
    return found if found.tzinfo else None
