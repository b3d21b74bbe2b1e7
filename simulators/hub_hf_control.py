"""Making a world on a simulated Hugging Face: `/_sim/hf/…`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from simulators.hub_content import Content
from simulators.hub_hf_state import (
    LARGEST_IN_GIT,
    Commit,
    Entry,
    Kind,
    Repository,
    User,
    World,
    is_large,
)
from simulators.hub_http import Answer, Refusal, json_answer
from simulators.hub_wishes import Wishes

Wish = dict[str, Any]
_PEOPLE = ("readers", "granted", "pending")
# https://huggingface.co/docs/hub/repositories-recommendations: every new repository has one.
_ATTRIBUTES = Content(b"*.bin filter=lfs diff=lfs merge=lfs -text\n")


class Control:
    """The endpoints that make and change repositories."""

    def __init__(self, world: World, wishes: Wishes) -> None:
        self._world, self._wishes = world, wishes
        self.endpoints: dict[tuple[str, str], Callable[[Wish, datetime], Answer]] = {
            ("POST", "users"): self._user,
            ("POST", "repos"): self._make,
            ("PATCH", "repos"): self._change,
            ("DELETE", "repos"): self._remove,
            ("POST", "commits"): self._commit,
            ("POST", "refs"): self._ref,
        }

    def _user(self, wish: Wish, _at: datetime) -> Answer:
        user = User(name=wish["name"], organizations=tuple(wish.get("organizations", ())))
        self._world.users[wish["token"]] = user
        return json_answer({"name": user.name}, 201)

    def _make(self, wish: Wish, at: datetime) -> Answer:
        kind, name = _kind(wish), str(wish["name"])
        if self._world.repository(kind, name) is not None:
            raise Refusal(409, {"error": f"{name} is there already"})
        files = self._entries(wish)  # first: a wish that is refused leaves nothing
        repository = Repository(kind=kind, name=name, made_at=at)
        self._world.repositories[kind, name.lower()] = repository
        _set(repository, wish)
        first = {".gitattributes": Entry(content=_ATTRIBUTES, lfs=False)}
        made = _commit(repository, first, {"title": "initial commit", **_by(wish)}, at)
        if files:
            made = _commit(repository, files, wish, at)
        return json_answer(_told(repository, made), 201)

    def _change(self, wish: Wish, _at: datetime) -> Answer:
        repository = self._known(wish)
        _set(repository, wish)
        if "rename" in wish:
            self._world.move(repository, wish["rename"])
        return json_answer({"name": repository.name})

    def _remove(self, wish: Wish, _at: datetime) -> Answer:
        repository = self._known(wish)
        del self._world.repositories[repository.kind, repository.name.lower()]
        return json_answer({})

    def _commit(self, wish: Wish, at: datetime) -> Answer:
        repository = self._known(wish)
        made = _commit(repository, self._entries(wish), wish, at)
        return json_answer(_told(repository, made), 201)

    def _ref(self, wish: Wish, _at: datetime) -> Answer:
        repository = self._known(wish)
        names, name = (
            (repository.tags, wish["tag"])
            if "tag" in wish
            else (repository.branches, wish["branch"])
        )
        if wish.get("at") is None:
            names.pop(name, None)
            return json_answer({})
        commit = repository.at(wish["at"])
        if commit is None:
            raise Refusal(404, {"error": f"no such revision: {wish['at']}"})
        names[name] = commit.id
        return json_answer({"commit": commit.id}, 201)

    def _known(self, wish: Wish) -> Repository:
        found = self._world.repository(_kind(wish), str(wish["name"]))
        if found is None:
            raise Refusal(404, {"error": f"no such repository: {wish['name']}"})
        return found

    def _entries(self, wish: Wish) -> dict[str, Entry]:
        made = {}
        large: bool | None = wish.get("lfs")  # says it of all files; None: as the hub would
        for path, content in self._wishes.files(wish).items():
            lfs = is_large(path, content.size) if large is None else large
            if not lfs and content.size > LARGEST_IN_GIT:
                raise Refusal(400, {"error": f"{path}: the hub takes no such file outside LFS"})
            made[path] = Entry(content=content, lfs=lfs)
        return made


def _kind(wish: Wish) -> Kind:
    found: dict[str, Kind] = {"model": "models", "dataset": "datasets"}
    if wish.get("type") not in found:
        raise Refusal(400, {"error": "type: model or dataset"})
    return found[wish["type"]]


def _set(repository: Repository, wish: Wish) -> None:
    for name in ("private", "gated", "disabled"):
        if name in wish:
            setattr(repository, name, wish[name])
    for name in _PEOPLE:
        if name in wish:
            setattr(repository, name, set(wish[name]))


def _by(wish: Wish) -> Wish:
    return {"by": wish["by"]} if "by" in wish else {}


def _commit(repository: Repository, files: dict[str, Entry], wish: Wish, at: datetime) -> Commit:
    return repository.commit(
        str(wish.get("branch", "main")),
        files,
        delete=frozenset(wish.get("delete", ())),
        title=str(wish.get("title", "Upload files")),
        by=str(wish.get("by", repository.name.partition("/")[0])),
        at=at,
    )


def _told(repository: Repository, commit: Commit) -> dict[str, Any]:
    """Return the revision with what every file consists of, for a test to compare."""
    return {
        "name": repository.name,
        "commit": commit.id,
        "files": {
            path: {"size": entry.content.size, "sha256": entry.content.sha256, "lfs": entry.lfs}
            for path, entry in commit.files.items()
        },
    }
