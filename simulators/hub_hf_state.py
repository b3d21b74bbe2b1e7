"""What a simulated Hugging Face knows: people, repositories, commits, files."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from simulators.hub_content import Content
from simulators.hub_git import commit_id, folder_ids, object_id, pointer

Kind = Literal["models", "datasets"]
COMMIT = re.compile(r"[0-9a-f]{40}")
# What is larger, or is named like this in the `.gitattributes` of a new repository, is kept in LFS:
# https://huggingface.co/docs/hub/repositories-recommendations
LARGEST_IN_GIT = 10_000_000
_LARGE_NAMES = (
    "7z", "arrow", "bin", "bz2", "ckpt", "ftz", "gz", "h5", "joblib", "lfs.*", "mlmodel", "model",
    "msgpack", "npy", "npz", "onnx", "ot", "parquet", "pb", "pickle", "pkl", "pt", "pth", "rar",
    "safetensors", "tar", "tflite", "tgz", "wasm", "xz", "zip", "zst",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class User:
    """Somebody with a token."""

    name: str
    organizations: tuple[str, ...] = ()

    def owns(self, repository: str) -> bool:
        """Return whether a repository is this user's or of an organization they are in."""
        return repository.partition("/")[0] in {self.name, *self.organizations}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One file at one commit."""

    content: Content
    lfs: bool
    commit: str = ""  # the last one that changed it

    @property
    def oid(self) -> str:
        """Return git's name of it: of the pointer when the bytes lie elsewhere."""
        if self.lfs:
            return object_id("blob", self.pointer)
        return self.content.blob_oid

    @property
    def pointer(self) -> bytes:
        """Return what git keeps of a large file."""
        return pointer(self.content.sha256, self.content.size)


@dataclass(frozen=True, kw_only=True)
class Commit:
    """One revision of a repository."""

    id: str
    parent: str | None
    title: str
    by: str
    at: datetime
    files: Mapping[str, Entry]
    folders: Mapping[str, str]  # path → tree id, "" for the root


@dataclass(kw_only=True)
class Repository:
    """A model or a dataset with its history."""

    kind: Kind
    name: str
    made_at: datetime
    private: bool = False
    gated: Literal[False, "auto", "manual"] = False
    disabled: bool = False
    readers: set[str] = field(default_factory=set)  # may read it although it is private
    granted: set[str] = field(default_factory=set)  # accepted the terms, and were let in
    pending: set[str] = field(default_factory=set)  # asked, and wait for an answer
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)

    def at(self, revision: str) -> Commit | None:
        """Return the commit that a branch, a tag or a full commit id names."""
        for known in (self.branches, self.tags):
            if revision in known:
                return self.commits[known[revision]]
        return self.commits.get(revision) if COMMIT.fullmatch(revision) else None

    def may_read(self, user: User | None) -> bool:
        """Return whether somebody knows that this repository exists."""
        if not self.private:
            return True
        return user is not None and (user.owns(self.name) or user.name in self.readers)

    def may_download(self, user: User | None) -> bool:
        """Return whether somebody is through the gate."""
        if not self.gated:
            return True
        return user is not None and (user.owns(self.name) or user.name in self.granted)

    def commit(  # noqa: PLR0913 - what a commit consists of
        self,
        branch: str,
        files: Mapping[str, Entry],
        *,
        delete: frozenset[str],
        title: str,
        by: str,
        at: datetime,
    ) -> Commit:
        """Add a commit to a branch and return it; the first one makes the branch."""
        parent = self.branches.get(branch) or self.branches.get("main")
        before = self.commits[parent].files if parent else {}
        kept = {path: entry for path, entry in before.items() if path not in delete}
        folders = folder_ids({path: entry.oid for path, entry in {**kept, **files}.items()})
        name = commit_id(folders[""], parent, at, title)
        changed = {
            path: Entry(content=entry.content, lfs=entry.lfs, commit=name)
            for path, entry in files.items()
        }
        made = Commit(
            id=name, parent=parent, title=title, by=by, at=at, files=kept | changed, folders=folders
        )
        self.commits[name] = made
        self.branches[branch] = name
        return made


class World:
    """Everybody and everything of the hub."""

    def __init__(self) -> None:
        self.users: dict[str, User] = {}  # token → its user
        self.repositories: dict[tuple[Kind, str], Repository] = {}
        self.moved: dict[tuple[Kind, str], str] = {}  # an old name → the one it has now

    def repository(self, kind: Kind, name: str) -> Repository | None:
        """Return a repository; the hub's names know no case."""
        return self.repositories.get((kind, name.lower()))

    def move(self, repository: Repository, name: str) -> None:
        """Give a repository another name; the old one leads there until somebody takes it."""
        del self.repositories[repository.kind, repository.name.lower()]
        self.moved[repository.kind, repository.name.lower()] = name
        repository.name = name
        self.repositories[repository.kind, name.lower()] = repository


def is_large(path: str, size: int) -> bool:
    """Return whether the hub keeps such a file in LFS."""
    name = path.rpartition("/")[2]
    return size > LARGEST_IN_GIT or any(fnmatch.fnmatch(name, f"*.{end}") for end in _LARGE_NAMES)
