"""Git's own names of blobs, folders and commits, reckoned without git.

https://git-scm.com/book/en/v2/Git-Internals-Git-Objects
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime

_FILE_MODE, _FOLDER_MODE = "100644", "40000"


def pointer(sha256: str, size: int) -> bytes:
    """Return the small file that stands in git for a large one.

    https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md#the-pointer
    """
    return (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
    )


def object_id(kind: str, body: bytes) -> str:
    """Return the name of an object."""
    head = f"{kind} {len(body)}\0".encode()
    return hashlib.sha1(head + body, usedforsecurity=False).hexdigest()


def folder_ids(blobs: Mapping[str, str]) -> dict[str, str]:
    """Return the tree id of every folder, "" for the root, from each file's path and blob id."""
    inside: dict[str, dict[str, tuple[str, str]]] = {"": {}}
    for path in blobs:
        folder = path.rpartition("/")[0]
        while folder and folder not in inside:
            inside[folder] = {}
            folder = folder.rpartition("/")[0]
    for path, oid in blobs.items():
        folder, _, name = path.rpartition("/")
        inside[folder][name] = (_FILE_MODE, oid)
    ids: dict[str, str] = {}
    for folder in sorted(inside, key=lambda name: name.count("/") + bool(name), reverse=True):
        ids[folder] = _tree_id(inside[folder])
        if folder:
            above, _, name = folder.rpartition("/")
            inside[above][name] = (_FOLDER_MODE, ids[folder])
    return ids


def _tree_id(entries: Mapping[str, tuple[str, str]]) -> str:
    # Git sorts a folder as if its name ended with a slash.
    def place(name: str) -> bytes:
        return (name + "/" * (entries[name][0] == _FOLDER_MODE)).encode()

    body = b"".join(
        f"{entries[name][0]} {name}\0".encode() + bytes.fromhex(entries[name][1])
        for name in sorted(entries, key=place)
    )
    return object_id("tree", body)


def commit_id(tree: str, parent: str | None, at: datetime, message: str) -> str:
    """Return the id of a commit by the hub's usual author."""
    by = f"hub <hub@users.noreply.example> {int(at.timestamp())} +0000"
    above = f"parent {parent}\n" if parent else ""
    body = f"tree {tree}\n{above}author {by}\ncommitter {by}\n\n{message}\n"
    return object_id("commit", body.encode())
