"""Make a release: a draft first, every asset with its digest, published last."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import RawIOBase
from typing import Any, BinaryIO
from urllib.parse import quote, urlsplit

import github.Requester
from github import Github

from cynthus.errors import Refused, Transient
from webhook_server.github_api.api import GithubApi
from webhook_server.github_api.door import Answer
from webhook_server.intents import Place

UPLOAD_TIMEOUT_S = 60  # silence of the upload host; not the length of an upload
_CHUNK = 1 << 20
_PAGES = 20  # 2,000 releases back: a draft of ours is among the newest


@dataclass(frozen=True, kw_only=True)
class Asset:
    """A file of a release on GitHub."""

    id: int
    name: str
    size_bytes: int
    sha256: str | None  # None: GitHub does not say (older servers)
    uploaded: bool  # False: `starter`, what a broken upload leaves behind


@dataclass(frozen=True, kw_only=True)
class Release:
    """A release on GitHub."""

    id: int
    tag: str
    draft: bool
    immutable: bool
    url: str
    upload_url: str
    body: str


class Releases:
    """Releases of one repository."""

    def __init__(self, api: GithubApi, place: Place) -> None:
        self._api, self._place = api, place
        self._door = api.door(place)
        self._path = f"/repos/{quote(place.full_name, safe='/')}/releases"

    def create_draft(self, *, tag: str, commit: str, title: str, notes: str) -> Release:
        """Create a draft; not safe to repeat: look for it first.

        Raises: NotFound also when the commit changes workflow files, which only an app with
        `workflows: write` may tag: https://docs.github.com/rest/releases/releases#create-a-release
        """
        body = {
            "tag_name": tag,
            "target_commitish": commit,
            "name": title,
            "body": notes,
            "draft": True,
            "make_latest": "false",
        }
        return _release(self._door.write("POST", self._path, body).value)

    def get(self, release_id: int) -> Release:
        """Return a release by its id."""
        return _release(self._door.get(f"{self._path}/{release_id}").value)

    def find(self, *, tag: str, marker: str) -> Release | None:
        """Return the release of this tag, or the draft of ours, that carries `marker`."""
        return next(self.of(tag=tag, marker=marker), None)

    def of(self, *, tag: str, marker: str) -> Iterator[Release]:
        """Yield every release, published or draft, of this tag that carries `marker`.

        A draft has no tag yet, so only the list of all releases shows it. One whose tag was taken
        stands under the next free name, `…-2`.
        https://docs.github.com/rest/releases/releases#list-releases
        """
        for item in self._pages(self._path, _PAGES):
            name = str(item.get("tag_name") or "")
            if (name == tag or name.startswith(f"{tag}-")) and marker in str(
                item.get("body") or ""
            ):
                yield _release(item)

    def assets(self, release_id: int) -> list[Asset]:
        """Return all assets, also the broken ones."""
        return [_asset(item) for item in self._pages(f"{self._path}/{release_id}/assets", _PAGES)]

    def _pages(self, path: str, limit: int) -> Iterator[dict[str, Any]]:
        for page in range(1, limit + 1):
            items = self._door.get(path, per_page=100, page=page).value
            if not isinstance(items, list):
                raise Transient("GitHub answered a list with something unreadable.")
            yield from (item for item in items if isinstance(item, dict))
            if len(items) < 100:  # noqa: PLR2004 - the page asked for
                return

    def upload(self, release: Release, name: str, file: BinaryIO, size_bytes: int) -> Asset:
        """Send one file, in pieces. Not safe to repeat: a name can be taken once."""
        url = self._upload_url(release)
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size_bytes)}
        begins = file.tell()

        def action(connection: Github) -> tuple[Any, Any]:
            file.seek(begins)  # after a 401 it is sent a second time
            return connection.requester.requestMemoryBlobAndCheck(
                "POST",
                url,
                {"name": name},
                headers,
                Piece(file, size_bytes),  # type: ignore[arg-type]  # what requests reads of it
                _connection(url),
            )

        return _asset(self._door.send("POST", f"{self._path}/{release.id}/assets", action).value)

    def _upload_url(self, release: Release) -> str:
        ours = self._api.uploads_url().rstrip("/")
        if ours:
            return f"{ours}{self._path}/{release.id}/assets"
        url = release.upload_url.partition("{")[0]
        api, found = urlsplit(self._api.api_url()), urlsplit(url)
        # The token goes there: only to GitHub's own host, or its upload host beside it.
        domain = "." + (api.hostname or "").removeprefix("api.")
        same = (found.scheme, found.netloc) == (api.scheme, api.netloc)
        beside = found.scheme == api.scheme and (found.hostname or "").endswith(domain)
        if not (same or beside):
            raise Refused(f"GitHub names an upload host that is not its own: {found.netloc}.")
        return url

    def delete_asset(self, asset_id: int) -> None:
        """Delete one asset."""
        self._door.write("DELETE", f"{self._path}/assets/{asset_id}")

    def rename(self, release_id: int, *, tag: str, notes: str) -> Release:
        """Give a draft another tag, and other notes; safe to repeat."""
        body = {"tag_name": tag, "body": notes, "draft": True}
        return _release(self._door.write("PATCH", f"{self._path}/{release_id}", body).value)

    def delete(self, release_id: int) -> None:
        """Delete a release with its assets; its tag stays.

        https://docs.github.com/rest/releases/releases#delete-a-release
        """
        self._door.write("DELETE", f"{self._path}/{release_id}")

    def delete_tag(self, tag: str) -> None:
        """Delete a tag. Raises: Invalid when there is none, or a rule keeps it.

        https://docs.github.com/rest/git/refs#delete-a-reference
        """
        repository = self._path.removesuffix("/releases")
        self._door.write("DELETE", f"{repository}/git/refs/tags/{quote(tag, safe='/')}")

    def publish(self, release_id: int) -> Release:
        """Publish the draft; safe to repeat."""
        body = {"draft": False, "make_latest": "false"}
        return _release(self._door.write("PATCH", f"{self._path}/{release_id}", body).value)


class Piece:
    """The next `size_bytes` of a file, as `requests` wants to read them: sized, in chunks."""

    def __init__(self, file: BinaryIO | RawIOBase, size_bytes: int) -> None:
        self._file, self._size, self._left = file, size_bytes, size_bytes

    def __len__(self) -> int:
        """Return the whole size: it becomes Content-Length."""
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        while chunk := self.read(_CHUNK):
            yield chunk

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes of what is left.

        Raises: Refused when the file ends early: a shorter upload would be taken for the whole.
        """
        wanted = self._left if size < 0 else min(size, self._left)
        chunk = self._file.read(wanted) or b""
        if wanted and not chunk:
            raise Refused("an output file is shorter than it was when it was collected.")
        self._left -= len(chunk)
        return chunk


def _connection(url: str) -> Any:
    # PyGithub gives the connection that it makes for a foreign host no time limit at all.
    parts = urlsplit(url)
    kinds = github.Requester
    secure = parts.scheme == "https"
    kind = kinds.HTTPSRequestsConnectionClass if secure else kinds.HTTPRequestsConnectionClass
    return kind(parts.hostname or "", parts.port, retry=None, timeout=UPLOAD_TIMEOUT_S)


def _release(value: Any) -> Release:
    if not isinstance(value, dict) or not isinstance(value.get("id"), int):
        raise Transient("GitHub answered a release with something unreadable.")
    return Release(
        id=value["id"],
        tag=str(value.get("tag_name") or ""),
        draft=value.get("draft") is True,
        immutable=value.get("immutable") is True,
        url=str(value.get("html_url") or ""),
        upload_url=str(value.get("upload_url") or ""),
        body=str(value.get("body") or ""),
    )


def _asset(value: Any) -> Asset:
    answer = Answer({}, value)
    if not isinstance(answer.value, dict) or not isinstance(value.get("id"), int):
        raise Transient("GitHub answered an asset with something unreadable.")
    digest = value.get("digest")
    known = isinstance(digest, str) and digest.startswith("sha256:")
    size = value.get("size")
    return Asset(
        id=value["id"],
        name=str(value.get("name") or ""),
        size_bytes=size if isinstance(size, int) else -1,
        sha256=str(digest).removeprefix("sha256:") if known else None,
        uploaded=value.get("state") == "uploaded",
    )
