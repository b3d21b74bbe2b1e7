"""The calls that Kaggle's own client makes: `/v1/SERVICE/METHOD`, JSON in, JSON or a redirect out.

The client's generated classes say what is sent and what is read:
https://github.com/Kaggle/kagglesdk/tree/main/kagglesdk
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Any, NoReturn

from simulators.hub_content import Content
from simulators.hub_http import Answer, Refusal, Request, json_answer, plain_answer, unknown
from simulators.hub_kaggle_shapes import (
    competition,
    competition_file,
    dataset,
    dataset_file,
    info,
    instance,
    model,
    model_file,
    model_version,
)
from simulators.hub_kaggle_state import Item, Kind, Version, World
from simulators.hub_storage import Kept, Storage
from simulators.hub_wishes import Wishes

_ROUTE = re.compile(r"(?:/api)?/v1/(?P<call>[a-z]+\.[A-Za-z]+Service/[A-Za-z]+)")
_ADDRESS_LIFE_S = 259_200  # `X-Goog-Expires` of Kaggle's addresses: three days
_PAGE, _LARGEST_PAGE = 20, 200
_MEDIA = {"zip": "application/zip", "tar": "application/gzip"}

Wish = dict[str, Any]
Call = Callable[[str | None, Wish], Answer]


class Kaggle:
    """One Kaggle."""

    def __init__(self, world: World, storage: Storage, wishes: Wishes) -> None:
        self._world, self._storage, self._wishes = world, storage, wishes
        self._calls: dict[str, Call] = {
            "security.OAuthService/IntrospectToken": self._introspect,
            "datasets.DatasetApiService/GetDataset": self._get_dataset,
            "datasets.DatasetApiService/GetDatasetMetadata": self._dataset_metadata,
            "datasets.DatasetApiService/GetDatasetStatus": self._dataset_status,
            "datasets.DatasetApiService/ListDatasetFiles": self._dataset_files,
            "datasets.DatasetApiService/DownloadDataset": self._download_dataset,
            "competitions.CompetitionApiService/GetCompetition": self._get_competition,
            "competitions.CompetitionApiService/ListDataFiles": self._competition_files,
            "competitions.CompetitionApiService/DownloadDataFiles": self._download_competition,
            "competitions.CompetitionApiService/DownloadDataFile": self._download_competition,
            "models.ModelApiService/GetModel": self._get_model,
            "models.ModelApiService/GetModelInstance": self._get_instance,
            "models.ModelApiService/ListModelInstanceVersions": self._model_versions,
            "models.ModelApiService/ListModelInstanceVersionFiles": self._model_files,
            "models.ModelApiService/DownloadModelInstanceVersion": self._download_model,
        }

    def answer(self, request: Request) -> Answer | None:
        """Answer a call; None when it is none of Kaggle's.

        Raises: Refusal.
        """
        found = _ROUTE.fullmatch(request.path)
        if found is None:
            return None
        call = self._calls.get(found["call"])
        if call is None or request.method != "POST":
            raise unknown({"code": 404, "message": "Not found"})
        if call == self._introspect:
            return self._introspect(None, request.json())
        try:
            return call(self._user(request), request.json())
        except (TypeError, ValueError):
            raise refused(400, "Bad request") from None

    # ── who ─────────────────────────────────────────────────────────────────────────────────────

    def _user(self, request: Request) -> str | None:
        """Return who asks; None: nobody, who may still read what is public."""
        kind, _, shown = request.headers.get("authorization", "").partition(" ")
        if not kind:
            return None
        if kind == "Bearer" and shown in self._world.tokens:
            return self._world.tokens[shown]
        if kind == "Basic":
            name, _, key = _decoded(shown).partition(":")
            if key and self._world.keys.get(name) == key:
                return name
        raise refused(401, "Unauthenticated")

    def _introspect(self, _user: str | None, wish: Wish) -> Answer:
        name = self._world.tokens.get(str(wish.get("token", "")))
        if name is None:
            return json_answer({"active": False})
        return json_answer(
            {"active": True, "username": name, "userId": 1, "scope": "resources.all"}
        )

    # ── datasets ────────────────────────────────────────────────────────────────────────────────

    def _dataset(self, user: str | None, wish: Wish) -> Item:
        return self._known("datasets", f"{wish.get('ownerSlug')}/{wish.get('datasetSlug')}", user)

    def _get_dataset(self, user: str | None, wish: Wish) -> Answer:
        return json_answer(dataset(self._dataset(user, wish)))

    def _dataset_metadata(self, user: str | None, wish: Wish) -> Answer:
        return json_answer({"info": info(self._dataset(user, wish))})

    def _dataset_status(self, user: str | None, wish: Wish) -> Answer:
        self._dataset(user, wish)
        return json_answer({"status": "READY"})

    def _dataset_files(self, user: str | None, wish: Wish) -> Answer:
        found = self._dataset(user, wish)
        version = _version(found, wish.get("datasetVersionNumber"))
        lines = [dataset_file(found, version, name) for name in sorted(version.files)]
        return _paged("datasetFiles", lines, wish)

    def _download_dataset(self, user: str | None, wish: Wish) -> Answer:
        found = self._dataset(user, wish)
        version = _version(found, wish.get("datasetVersionNumber"))
        return self._send(found, version, "zip", str(wish.get("fileName") or ""))

    # ── competitions ────────────────────────────────────────────────────────────────────────────

    def _competition(self, user: str | None, wish: Wish) -> Item:
        if user is None:
            raise refused(401, "Unauthenticated")
        return self._known("competitions", str(wish.get("competitionName")), user)

    def _get_competition(self, user: str | None, wish: Wish) -> Answer:
        return json_answer(competition(self._competition(user, wish), user))

    def _competition_files(self, user: str | None, wish: Wish) -> Answer:
        version = _version(self._competition(user, wish), None)
        lines = [competition_file(version, name) for name in sorted(version.files)]
        return _paged("files", lines, wish)

    def _download_competition(self, user: str | None, wish: Wish) -> Answer:
        found = self._competition(user, wish)
        if not found.may_download(user):
            # The words: https://github.com/openai/mle-bench/issues/29
            message = (
                "You must accept this competition's rules before you'll be able to download files."
            )
            raise refused(403, message)
        return self._send(found, _version(found, None), "zip", str(wish.get("fileName") or ""))

    # ── models ──────────────────────────────────────────────────────────────────────────────────

    def _instance(self, user: str | None, wish: Wish) -> Item:
        words = ("ownerSlug", "modelSlug", "framework", "instanceSlug")
        return self._known("models", "/".join(str(wish.get(word)) for word in words), user)

    def _get_model(self, user: str | None, wish: Wish) -> Answer:
        prefix = f"{wish.get('ownerSlug')}/{wish.get('modelSlug')}/".lower()
        found = [
            item
            for (kind, name), item in list(self._world.items.items())
            if kind == "models" and name.startswith(prefix) and item.may_know(user)
        ]
        if not found:
            raise refused(404, "Not found")
        return json_answer(model(found))

    def _get_instance(self, user: str | None, wish: Wish) -> Answer:
        return json_answer(instance(self._instance(user, wish)))

    def _model_versions(self, user: str | None, wish: Wish) -> Answer:
        found = self._instance(user, wish)
        lines = [model_version(found, version) for version in reversed(found.versions)]
        return json_answer({"versionList": {"versions": lines}})

    def _model_files(self, user: str | None, wish: Wish) -> Answer:
        version = _version(self._instance(user, wish), wish.get("versionNumber"))
        lines = [model_file(version, name) for name in sorted(version.files)]
        return _paged("files", lines, wish)

    def _download_model(self, user: str | None, wish: Wish) -> Answer:
        found = self._instance(user, wish)
        version = _version(found, wish.get("versionNumber"))
        if not found.may_download(user):
            owner, slug = found.name.split("/")[:2]
            message = (
                "Permission 'models.download' was denied: consent is required at "
                f"https://www.kaggle.com/models/{owner}/{slug}"
            )
            raise refused(403, message)
        return self._send(found, version, "tar", str(wish.get("path") or ""))

    # ── what all share ──────────────────────────────────────────────────────────────────────────

    def _known(self, kind: Kind, name: str, user: str | None) -> Item:
        found = self._world.item(kind, name)
        if found is None:
            raise refused(404, "Not found")
        if not found.may_know(user):
            # The form of the words: https://github.com/Kaggle/kaggle-cli/issues/555
            raise refused(403, f"Permission '{kind}.get' was denied")
        return found

    def _send(self, item: Item, version: Version, form: str, file_name: str) -> Answer:
        if file_name:
            if file_name not in version.files:
                raise refused(404, "Not found")
            content, name, media = version.files[file_name], file_name, "application/octet-stream"
        else:
            content = version.archive or self._archive(item, version, form)
            name = {"zip": "archive.zip", "tar": "archive.tar.gz"}[form]
            media = _MEDIA[form]
        place = f"kaggle-{item.kind}/{item.id}/{version.number}/bundle/{name}"
        kept = Kept(
            content=content,
            etag=content.md5,
            media_type=media,
            modified_at=version.at.timestamp(),
        )
        to = self._storage.address(place, kept, life_s=_ADDRESS_LIFE_S)
        return plain_answer("", 302, {"Location": to})

    def _archive(self, item: Item, version: Version, form: str) -> Content:
        name = f"{item.kind}/{item.id}/{version.number}/{version.at.timestamp()}"
        return self._wishes.archive(form, version.files, name)


def refused(status: int, message: str) -> Refusal:
    """Return a refusal as Kaggle writes it, apostrophes included."""
    refusal = Refusal(status, {"code": status, "message": message})
    refusal.answer.data = refusal.answer.data.replace(b"'", b"\\u0027")
    refusal.answer.media_type = "application/json"
    return refusal


def _version(item: Item, number: Any) -> Version:
    found = item.version(int(number) if number else None)
    if found is None:
        raise refused(404, "Not found")
    return found


def _paged(word: str, lines: list[Wish], wish: Wish) -> Answer:
    size = min(int(wish.get("pageSize") or _PAGE), _LARGEST_PAGE)
    start = _start(str(wish.get("pageToken") or ""))
    told: Wish = {word: lines[start : start + size]}
    if start + size < len(lines):
        token = base64.urlsafe_b64encode(str(start + size).encode()).decode()
        told["nextPageToken"] = token
    return json_answer(told)


def _start(token: str) -> int:
    text = _decoded(token) if token else "0"
    if not text.isdecimal():
        _bad("Invalid page token")
    return int(text)


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text, altchars=b"-_").decode()
    except ValueError:
        return ""


def _bad(message: str) -> NoReturn:
    raise refused(400, message)
