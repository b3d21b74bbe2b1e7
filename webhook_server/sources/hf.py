"""Pin datasets and models of Hugging Face: a branch or tag to its commit.

https://huggingface.co/docs/hub/api
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from cynthus.errors import Transient
from cynthus.source_parts import SourceParts, source_parts
from cynthus.wire_data import Dataset
from webhook_server.runs.pinning import bind
from webhook_server.sources.hf_subsets import patterns_of
from webhook_server.sources.hub_http import Answer, Hub, Question, bearer
from webhook_server.sources.source import (
    Asked,
    SourceFault,
    SourceGated,
    SourceNotFound,
    SourceRefused,
    chosen,
    nothing_left,
)

_COMMIT = re.compile(r"[0-9a-f]{40}", re.ASCII)
_WANTED = "expand=sha&expand=gated&expand=cardData"  # not the list of all files, which may be long
#: 1,000 files each, in a quarter of a second: what has more is counted by the agent.
_PAGES = 30
_LARGEST_BYTES = 1 << 50  # a thousand times the 500 GB that the hub takes as one file
_NEXT = re.compile(r'<([^<>]{1,4096})>; *rel="next"')
_NO_TOKEN, _NO_RIGHT, _NOT_THERE = 401, 403, 404


class HuggingFace:
    """The hub at one address."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def pin(self, asked: Asked) -> Dataset:
        """Return the entry at a commit, with the size of what its patterns leave.

        Raises: SourceGated, SourceNotFound, SourceRefused; Transient.
        """
        parts = source_parts(asked.entry.source)
        told = self._info(asked, parts)
        commit = str(told.get("sha", ""))
        if not _COMMIT.fullmatch(commit):
            raise Transient(f"{self._hub.url}: names no commit of {parts.name}. Try again.")
        if told.get("gated"):
            self._get(asked, f"{_api(parts)}/auth-check")
        subset = asked.entry.subset
        include = None if subset is None else patterns_of(asked.place, subset, told.get("cardData"))
        size, files = self._measure(asked, parts, commit, include or asked.entry.include)
        return bind(asked.entry, commit, include=include, size_bytes=size, files=files)

    def _info(self, asked: Asked, parts: SourceParts) -> dict[str, Any]:
        revision = quote(parts.revision or "main", safe="")
        told = self._get(asked, f"{_api(parts)}/revision/{revision}?{_WANTED}").json()
        if not isinstance(told, dict):
            raise Transient(f"{self._hub.url}: tells nothing of {parts.name}. Try again.")
        return told

    def _measure(
        self, asked: Asked, parts: SourceParts, commit: str, include: tuple[str, ...]
    ) -> tuple[int | None, int | None]:
        """Return bytes and files; neither where there are too many to be listed here."""
        is_chosen = chosen(include, asked.entry.exclude)
        size = files = found = 0
        for line in self._tree(asked, parts, commit):
            if line is None:
                return None, None
            found += 1
            if is_chosen(str(line.get("path", ""))):
                files += 1
                size += self._size(line)
        if not files:
            raise nothing_left(asked, found)
        return size, files

    def _size(self, line: dict[str, Any]) -> int:
        """Return a file's bytes. Raises: Transient for what no file can have."""
        size = line.get("size", 0)
        if not isinstance(size, int) or not 0 <= size <= _LARGEST_BYTES:
            raise Transient(f"{self._hub.url}: tells no size of a file. Try again.")
        return size

    def _tree(
        self, asked: Asked, parts: SourceParts, commit: str
    ) -> Iterator[dict[str, Any] | None]:
        """Yield the files of a commit; None: there are more than are listed."""
        path: str | None = f"{_api(parts)}/tree/{commit}?recursive=true&expand=false"
        for _ in range(_PAGES):
            answer = self._get(asked, path or "")
            lines = answer.json()
            if not isinstance(lines, list):
                raise Transient(f"{self._hub.url}: tells no list of files. Try again.")
            yield from (one for one in lines if isinstance(one, dict) and one.get("type") == "file")
            following = _NEXT.search(answer.headers.get("link", ""))
            path = self._hub.link(following[1]) if following else None
            if path is None:
                return
        yield None

    def _get(self, asked: Asked, path: str) -> Answer:
        token = asked.tokens.get("HF_TOKEN")
        answer = self._hub.ask(Question(path=path, headers=bearer(token) if token else {}))
        if not answer.fine:
            raise self._fault(asked, answer)
        return answer

    def _fault(self, asked: Asked, answer: Answer) -> SourceFault:
        """Say what a refusal means; its header names it.

        https://github.com/huggingface/huggingface_hub/blob/main/src/huggingface_hub/utils/_http.py
        """
        parts = source_parts(asked.entry.source)
        what, has_token = f"{parts.shelf}/{parts.name}", "HF_TOKEN" in asked.tokens
        code = answer.headers.get("x-error-code", "")
        if code == "GatedRepo":
            shelf = "datasets/" if parts.shelf == "datasets" else ""
            page = f"{self._hub.url}/{shelf}{parts.name}"
            return SourceGated(asked.place, what, page, _whose(asked))
        if code == "RevisionNotFound":
            return SourceNotFound(
                f"{asked.place}: should be a branch, tag or commit of {what}, found"
                f" `{parts.revision or 'main'}`, which it does not have. Write one that it has."
            )
        if code == "RepoNotFound" or answer.status == _NOT_THERE:
            return SourceNotFound(
                f"{asked.place}: {what} should be on {self._hub.url} and open to this repository,"
                f" found neither. Look at the name{_or_token(asked)}."
            )
        if answer.status == _NO_TOKEN and has_token:
            return SourceRefused(
                f"{asked.place}: HF_TOKEN should be a token that {self._hub.url} knows, found one"
                " that it refuses. Set the repository's secret HF_TOKEN anew."
            )
        if answer.status in {_NO_TOKEN, _NO_RIGHT}:
            return SourceRefused(
                f"{asked.place}: {what} should be open to this repository, found that"
                f" {self._hub.url} refuses it ({answer.status}). Look at its page"
                f"{_or_token(asked)}."
            )
        return SourceRefused(
            f"{asked.place}: {self._hub.url} refuses to tell of {what} ({answer.status})."
        )


def _api(parts: SourceParts) -> str:
    return f"/api/{parts.shelf}/{quote(parts.name)}"


def _whose(asked: Asked) -> str:
    if "HF_TOKEN" in asked.tokens:
        return "the account of this repository's secret HF_TOKEN"
    if asked.stranger:
        return "an account of yours; a fork's commit gets no tokens, so copy what it may have"
    return "an account of yours, set its token as this repository's secret HF_TOKEN"


def _or_token(asked: Asked) -> str:
    if asked.stranger:
        return "; a fork's commit gets no tokens, so that it can have public data only"
    if "HF_TOKEN" in asked.tokens:
        return ", and whether the account of the secret HF_TOKEN may read it"
    return "; where it is private, set this repository's secret HF_TOKEN"
