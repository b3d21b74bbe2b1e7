"""Fetch what a release on GitHub holds, by its manifest."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import partial
from hashlib import sha256
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from cynthus.errors import Refused, Transient, UserError
from cynthus.packing import PackedFile
from cynthus.pulling import Item, Piece

API = "https://api.github.com"
MANIFEST = "manifest.json"
_TIMEOUT_S = 30.0
_MANIFEST_LIMIT = 256 << 20  # 100,000 files with paths of 1,024 bytes have half of it
_PAGE = 100  # https://docs.github.com/rest/releases/assets#list-release-assets
_PAGES = 11  # 1,000 assets a release, and one page to see the end
_TAG_PATH = re.compile(r"/([^/]+)/([^/]+)/releases/tag/(.+)")
_REPOSITORY = re.compile(r"[A-Za-z0-9._-]+/[A-Za-z0-9._-]+")
_NOTHING = sha256(b"").hexdigest()
_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)
_RANGE = re.compile(r"\Abytes ([0-9]{1,18})-", re.ASCII)


def named(text: str) -> tuple[str, str] | None:
    """Return repository and tag of a release's page, or None for another text."""
    parts = urlsplit(text)
    found = _TAG_PATH.fullmatch(parts.path) if parts.scheme in {"http", "https"} else None
    return (f"{found[1]}/{found[2]}", found[3]) if found else None


class _NoRedirects(HTTPRedirectHandler):
    """A redirect would carry the token to whoever it names."""

    def redirect_request(self, *_: object) -> None:
        """Follow none: the answer itself becomes the error."""


class GithubRelease:
    """One published release; with a token also of a private repository."""

    def __init__(self, repository: str, tag: str, *, token: str = "", api: str = API) -> None:
        if not _REPOSITORY.fullmatch(repository):
            raise UserError(
                f"--repository: should be OWNER/NAME, found {repository[:200]!r}. Write both."
            )
        self._base = f"{api.rstrip('/')}/repos/{repository}"
        self._tag, self._token = tag, token
        self._opener = build_opener(_NoRedirects)
        self._names = f"release {tag} of {repository}"
        self._assets: dict[str, tuple[int, int]] = {}

    def items(self) -> list[Item]:
        """Return all files of the release, its own beside the run's.

        Raises: UserError when there is no such release; Refused when its manifest fits it not.
        """
        try:
            self._list()
            return _items(self._manifest(), self._piece)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Refused(
                f"{self._names}: its {MANIFEST} should be one of Cynthus, found otherwise."
            ) from error

    def _list(self) -> None:
        release = self._json(f"/releases/tags/{quote(self._tag, safe='/')}")
        for page in range(1, _PAGES + 1):
            found = self._json(
                f"/releases/{int(release['id'])}/assets?per_page={_PAGE}&page={page}"
            )
            for asset in found:
                self._assets[str(asset["name"])] = (int(asset["id"]), int(asset["size"]))
            if len(found) < _PAGE:
                break

    def _manifest(self) -> Any:
        if MANIFEST not in self._assets:
            raise UserError(f"{self._names}: should have a {MANIFEST}. Name a release of Cynthus.")
        piece = self._piece(MANIFEST)
        answer, _ = piece.open(0)
        try:
            with answer:
                text = answer.read(_MANIFEST_LIMIT + 1)
        except (OSError, HTTPException) as error:
            raise Transient(f"{MANIFEST}: came cut off. Try again.") from error
        if len(text) != piece.size_bytes or len(text) > _MANIFEST_LIMIT:
            raise Transient(f"{MANIFEST}: came cut off, or is too long. Try again.")
        return json.loads(text)

    def _piece(self, name: str) -> Piece:
        if name not in self._assets:
            raise Refused(f"{self._names}: should have {name[:200]!r}, which its manifest names.")
        number, size_bytes = self._assets[name]
        return Piece(size_bytes=size_bytes, open=partial(self._open_asset, number))

    def _open_asset(self, number: int, at: int) -> tuple[Any, int]:
        """Open an asset, which GitHub redirects to its storage, to which no token goes."""
        headers = {"Accept": "application/octet-stream"}
        span = {"Range": f"bytes={at}-"} if at else {}
        answer = self._open(
            f"{self._base}/releases/assets/{number}", headers | span | self._login()
        )
        target = answer.headers.get("location", "") if answer.status // 100 == 3 else ""  # noqa: PLR2004 - RFC 9110
        if target:
            answer.close()
            secure = self._base.startswith("https://")
            if not target.startswith("https://" if secure else ("https://", "http://")):
                raise Refused(f"{self._names}: should lead to a web address, found another.")
            answer = self._open(target, span)
        begins = _RANGE.match(answer.headers.get("content-range", ""))
        return answer, int(begins[1]) if answer.status == 206 and begins else 0  # noqa: PLR2004 - as above

    def _login(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    def _json(self, path: str) -> Any:
        headers = {"Accept": "application/vnd.github+json"} | self._login()
        try:
            with self._open(self._base + path, headers) as answer:
                return json.loads(answer.read(_MANIFEST_LIMIT))
        except (OSError, HTTPException) as error:
            raise Transient("GitHub: broke off in its answer. Try again.") from error
        except (ValueError, RecursionError) as error:
            raise Transient("GitHub: should answer JSON, found something else.") from error

    def _open(self, url: str, headers: Mapping[str, str]) -> Any:
        request = Request(url, headers=dict(headers))  # noqa: S310 - web addresses only, see above
        try:
            return self._opener.open(request, timeout=_TIMEOUT_S)
        except HTTPError as error:
            if error.code in {301, 302, 303, 307, 308}:
                return error
            with error:
                raise self._refusal(error.code) from error
        except (URLError, OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise Transient(f"{self._base}: should answer, found {reason}. Try again.") from error

    def _refusal(self, status: int) -> Exception:
        if status == 404:  # noqa: PLR2004 - RFC 9110
            return UserError(
                f"{self._names}: GitHub knows none, or shows it to no one without a token."
                " Check the tag, and set GITHUB_TOKEN for a private repository."
            )
        if status in {401, 403}:
            return UserError(
                f"{self._names}: GitHub refuses ({status}). Check GITHUB_TOKEN, or wait: without"
                " one it answers 60 requests an hour."
            )
        return Transient(f"{self._names}: GitHub answered {status}. Try again later.")


def _items(manifest: Any, piece: Any) -> list[Item]:
    """Return what to fetch. Raises: Refused, and the like of KeyError for what is no manifest."""
    items: list[Item] = []
    bundles: dict[tuple[str, ...], dict[str, PackedFile]] = {}
    for entry in manifest["files"]:
        names = _asset_names(entry)
        if names is None:
            continue
        about = PackedFile(
            path=str(entry["path"]), size_bytes=int(entry["size_bytes"]), sha256=_hex(entry)
        )
        if "bundle" in entry:
            bundles.setdefault(names, {})[str(entry.get("member", about.path))] = about
            continue
        plain = entry.get("plain_sha256")
        items.append(
            Item(
                path=about.path,
                size_bytes=about.size_bytes,
                sha256=about.sha256,
                pieces=tuple(piece(name) for name in names),
                archive=bool(entry.get("packed")),
                prefix=about.path.rpartition(".cynthus/")[0] if entry.get("packed") else "",
                plain_sha256=None if plain is None else str(plain),
                plain_size_bytes=None if plain is None else int(entry["plain_size_bytes"]),
            )
        )
    for names, wanted in bundles.items():
        pieces = tuple(piece(name) for name in names)
        size = sum(one.size_bytes for one in pieces)
        path = ".".join(names[0].split(".")[:2])
        items.append(
            Item(
                path=path, size_bytes=size, sha256=None, pieces=pieces, archive=True, members=wanted
            )
        )
    for entry in manifest["own_files"]:
        one = piece(entry["name"])
        items.append(
            Item(
                path=str(entry["name"]),
                size_bytes=one.size_bytes,
                sha256=_hex(entry),
                pieces=(one,),
            )
        )
    return items


def _asset_names(entry: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the assets that make a file, none for an empty one; None: it was left out."""
    if "parts" in entry:
        return tuple(entry["parts"])
    if "asset" in entry:
        return (entry["asset"],)
    # GitHub takes no empty asset, so such a file stands in the manifest alone, with its digest.
    return () if entry.get("sha256") == _NOTHING else None


def _hex(entry: Mapping[str, Any]) -> str:
    text = str(entry["sha256"])
    if not _HEX.fullmatch(text):
        raise ValueError("no SHA-256")
    return text
