"""Pin datasets, models and competitions of Kaggle: to a version's number, or to a list of files.

The calls are those of Kaggle's own client:
https://github.com/Kaggle/kaggle-cli (kagglesdk, `…/services/*_api_service.py`)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from cynthus.errors import Transient
from cynthus.source_parts import SourceParts, source_parts
from cynthus.wire_data import Dataset
from webhook_server.runs.pinning import bind
from webhook_server.sources.hub_http import Answer, Hub, Question, basic, bearer
from webhook_server.sources.source import Asked, SourceGated, SourceNotFound, SourceRefused

SITE = "https://www.kaggle.com"  # for people; the API's host has no pages
_PAGE = 200  # files: the most that its client asks for by default
_PAGES = 100
_NO_TOKEN, _NO_RIGHT, _NOT_THERE = 401, 403, 404
_REFUSED = 400
# kagglesdk/models/types/model_enums.py; people write `pyTorch`, the API `MODEL_FRAMEWORK_PY_TORCH`.
_FRAMEWORKS = (
    *("TENSOR_FLOW_1", "TENSOR_FLOW_2", "TF_LITE", "TF_JS", "PY_TORCH", "JAX", "FLAX", "PAX"),
    *("MAX_TEXT", "GEMMA_CPP", "GGML", "GGUF", "CORAL", "SCIKIT_LEARN", "MXNET", "ONNX", "KERAS"),
    *("TRANSFORMERS", "API", "OTHER", "TENSOR_RT_LLM", "TRITON", "VLLM"),
)
_BY_WORD = {name.replace("_", "").lower(): f"MODEL_FRAMEWORK_{name}" for name in _FRAMEWORKS}


@dataclass(frozen=True, kw_only=True)
class _Call:
    """One method of one service, with what it is told."""

    service: str
    method: str
    told: Mapping[str, Any]


class Kaggle:
    """Kaggle's API at one address."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def pin(self, asked: Asked) -> Dataset:
        """Return the entry at a version. Competitions have none: at the list of their files.

        Raises: SourceGated, SourceNotFound, SourceRefused; Transient.
        """
        parts = source_parts(asked.entry.source)
        if parts.shelf == "competitions":
            return self._competition(asked, parts)
        return self._model(asked, parts) if parts.shelf == "models" else self._dataset(asked, parts)

    def _dataset(self, asked: Asked, parts: SourceParts) -> Dataset:
        owner, name = parts.name.split("/")
        told = {"ownerSlug": owner, "datasetSlug": name}
        found = self._tell(
            asked, _Call(service="datasets.DatasetApi", method="GetDataset", told=told)
        )
        newest = _number(found, "currentVersionNumber")
        version = _version(asked, parts, newest)
        size = _number(found, "totalBytes") if version == newest else None
        return bind(asked.entry, str(version), size_bytes=size)

    def _model(self, asked: Asked, parts: SourceParts) -> Dataset:
        owner, name, framework, variation = parts.name.split("/")
        told = {
            "ownerSlug": owner,
            "modelSlug": name,
            "framework": _framework(asked, framework),
            "instanceSlug": variation,
        }
        call = _Call(service="models.ModelApi", method="GetModelInstance", told=told)
        found = self._tell(asked, call)
        newest = _number(found, "versionNumber")
        version = _version(asked, parts, newest)
        fetch = _Call(
            service="models.ModelApi",
            method="DownloadModelInstanceVersion",
            told={**told, "versionNumber": version},
        )
        self._check_open(asked, fetch, f"{SITE}/models/{owner}/{name}")
        size = _number(found, "totalUncompressedBytes") if version == newest else None
        return bind(asked.entry, str(version), size_bytes=size)

    def _competition(self, asked: Asked, parts: SourceParts) -> Dataset:
        """Pin what has no versions: two lists that differ are two revisions.

        Kaggle tells no digests: a file changed in place with its size and date kept is not seen.
        """
        fetch = _Call(
            service="competitions.CompetitionApi",
            method="DownloadDataFiles",
            told={"competitionName": parts.name},
        )
        files = sorted(self._files(asked, parts.name))
        self._check_open(asked, fetch, f"{SITE}/competitions/{parts.name}/rules")
        revision = hashlib.sha256(json.dumps(files).encode()).hexdigest()
        size = sum(size for _, size, _ in files)
        return bind(asked.entry, revision, size_bytes=size, files=len(files))

    def _files(self, asked: Asked, name: str) -> Iterator[tuple[str, int, str]]:
        token = ""
        for _ in range(_PAGES):
            told = {"competitionName": name, "pageSize": _PAGE}
            told |= {"pageToken": token} if token else {}
            call = _Call(service="competitions.CompetitionApi", method="ListDataFiles", told=told)
            found = self._tell(asked, call)
            files = found.get("files") or []
            if not isinstance(files, list) or not all(isinstance(one, dict) for one in files):
                raise Transient(f"{self._hub.url}: tells no list of files. Try again.")
            for one in files:
                made = str(one.get("creationDate", ""))
                yield str(one.get("name", "")), _number(one, "totalBytes") or 0, made
            token = str(found.get("nextPageToken") or "")
            if not token:
                return
        raise SourceRefused(
            f"{asked.place}: should have at most {_PAGE * _PAGES} files, found more, and they can"
            " be pinned by nothing else."
        )

    # ── asking ──────────────────────────────────────────────────────────────────────────────────

    def _tell(self, asked: Asked, call: _Call) -> dict[str, Any]:
        answer = self._ask(asked, call, whole=True)
        if not answer.fine:
            self._raise(asked, answer.status)
        found = answer.json()
        if not isinstance(found, dict):
            raise Transient(f"{self._hub.url}: tells nothing of {asked.entry.source}. Try again.")
        if isinstance(found.get("code"), int) and found["code"] >= _REFUSED:  # said beside a 200
            self._raise(asked, found["code"])
        return found

    def _check_open(self, asked: Asked, fetch: _Call, page: str) -> None:
        """See whether the download would begin: lists are open to those who accepted nothing."""
        answer = self._ask(asked, fetch, whole=False)
        if answer.status == _NO_RIGHT:
            raise SourceGated(asked.place, asked.entry.source, page, _whose(asked))
        if answer.status >= _REFUSED:
            self._raise(asked, answer.status)

    def _ask(self, asked: Asked, call: _Call, *, whole: bool) -> Answer:
        headers = {"Content-Type": "application/json", **_signed(asked.tokens)}
        return self._hub.ask(
            Question(
                path=f"/v1/{call.service}Service/{call.method}",
                method="POST",
                headers=headers,
                body=json.dumps(call.told).encode(),
                whole=whole,
            )
        )

    def _raise(self, asked: Asked, status: int) -> NoReturn:
        what, parts = asked.entry.source, source_parts(asked.entry.source)
        if status == _NO_TOKEN and not asked.tokens and parts.shelf == "competitions":
            page = f"{SITE}/competitions/{parts.name}/rules"
            raise SourceGated(asked.place, what, page, _whose(asked))
        if status == _NO_TOKEN and asked.tokens:
            raise SourceRefused(
                f"{asked.place}: should be asked for with a token that Kaggle knows, found one that"
                " it refuses. Set the repository's secret KAGGLE_API_TOKEN anew."
            )
        if status in {_NO_TOKEN, _NO_RIGHT, _NOT_THERE}:
            raise SourceNotFound(
                f"{asked.place}: {what} should be on Kaggle and open to this repository, found"
                f" neither ({status}). Look at the name{_or_token(asked)}."
            )
        raise SourceRefused(f"{asked.place}: Kaggle refuses to tell of {what} ({status}).")


def _signed(tokens: Mapping[str, str]) -> dict[str, str]:
    """Return who asks, in the order of Kaggle's own client: a token, then a name with its key."""
    if "KAGGLE_API_TOKEN" in tokens:
        return bearer(tokens["KAGGLE_API_TOKEN"])
    if {"KAGGLE_USERNAME", "KAGGLE_KEY"} <= tokens.keys():
        return basic(tokens["KAGGLE_USERNAME"], tokens["KAGGLE_KEY"])
    return {}


def _framework(asked: Asked, word: str) -> str:
    found = _BY_WORD.get(word.replace("-", "").replace("_", "").lower())
    if found is None:
        raise SourceNotFound(
            f"{asked.place}: should name a framework that Kaggle knows, found `{word}`. Write it as"
            " the model's address does, such as `pyTorch`, `keras` or `transformers`."
        )
    return found


def _version(asked: Asked, parts: SourceParts, newest: int | None) -> int:
    """Return the version that is meant: what is asked for, if there is one, or the newest."""
    if newest is None:
        raise SourceNotFound(
            f"{asked.place}: {asked.entry.source} should have a version, found none yet."
        )
    wanted = int(parts.revision or newest)
    if wanted > newest:
        raise SourceNotFound(
            f"{asked.place}: should be a version from 1 to {newest}, found {wanted}."
            " Write one that there is."
        )
    return wanted


def _number(told: Mapping[str, Any], name: str) -> int | None:
    """Return a whole number; the API writes large ones as text, and leaves out zeros."""
    value = told.get(name)
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _whose(asked: Asked) -> str:
    if asked.stranger:
        return "an account of yours; a fork's commit gets no tokens, so copy what it may have"
    if asked.tokens:
        return "the account of this repository's Kaggle token"
    return "an account of yours, set its token as this repository's secret KAGGLE_API_TOKEN"


def _or_token(asked: Asked) -> str:
    if asked.stranger:
        return "; a fork's commit gets no tokens, so that it can have public data only"
    if asked.tokens:
        return ", and whether the account of the repository's token may see it"
    return "; where it is private, set this repository's secret KAGGLE_API_TOKEN"
