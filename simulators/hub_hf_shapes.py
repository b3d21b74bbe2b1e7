"""Repositories, files and commits of a simulated Hugging Face as JSON.

https://huggingface.co/docs/hub/api and https://huggingface.co/.well-known/openapi.json
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

import yaml

from simulators.hub_hf_state import Commit, Entry, Repository

_LARGEST_CARD = 1 << 20  # no one writes a longer README


def moment(at: datetime) -> str:
    """Return a time as the hub writes it."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def info(repository: Repository, commit: Commit, *, blobs: bool) -> dict[str, Any]:
    """Return what `/api/models/…` tells; with `blobs` also the size of every file."""
    card = card_data(commit)
    told: dict[str, Any] = {
        "_id": hashlib.sha256(f"{repository.kind}/{repository.name}".encode()).hexdigest()[:24],
        "id": repository.name,
        "author": repository.name.rpartition("/")[0] or None,
        "sha": commit.id,
        "lastModified": moment(commit.at),
        "private": repository.private,
        "gated": repository.gated,
        "disabled": repository.disabled,
        "tags": ["region:us"],
        "downloads": 0,
        "likes": 0,
        "createdAt": moment(repository.made_at),
        "usedStorage": sum(entry.content.size for entry in commit.files.values()),
        "siblings": [
            _sibling(path, commit.files[path], blobs=blobs) for path in sorted(commit.files)
        ],
    }
    if repository.kind == "models":
        told["modelId"] = repository.name
    if card is not None:
        told["cardData"] = card
    return told


def _sibling(path: str, entry: Entry, *, blobs: bool) -> dict[str, Any]:
    told: dict[str, Any] = {"rfilename": path}
    if blobs:
        told |= {"blobId": entry.oid, "size": entry.content.size}
        if entry.lfs:
            told["lfs"] = {
                "sha256": entry.content.sha256,
                "size": entry.content.size,
                "pointerSize": len(entry.pointer),
            }
    return told


def card_data(commit: Commit) -> dict[str, Any] | None:
    """Return the YAML at the head of the README; None when there is none that can be read."""
    entry = commit.files.get("README.md")
    if entry is None or entry.content.size > _LARGEST_CARD:
        return None
    text = entry.content.whole().decode("utf-8", "replace")
    head, mark, _ = text.removeprefix("---\n").partition("\n---")
    if not text.startswith("---\n") or not mark:
        return None
    try:
        found = yaml.safe_load(head)
    except yaml.YAMLError:
        return None
    return found if isinstance(found, dict) else None


def file(path: str, entry: Entry, commit: Commit | None) -> dict[str, Any]:
    """Return a line of a listing; with a commit also which one last changed it."""
    told: dict[str, Any] = {
        "type": "file",
        "oid": entry.oid,
        "size": entry.content.size,
        "path": path,
    }
    if entry.lfs:
        told["lfs"] = {
            "oid": entry.content.sha256,
            "size": entry.content.size,
            "pointerSize": len(entry.pointer),
        }
    if commit is not None:
        told["lastCommit"] = last_commit(commit)
        told["securityFileStatus"] = {
            "status": "safe",
            "avScan": {"status": "safe"},
            "pickleImportScan": None,
        }
    return told


def folder(path: str, oid: str, commit: Commit | None) -> dict[str, Any]:
    """Return a folder's line of a listing."""
    told: dict[str, Any] = {"type": "directory", "oid": oid, "size": 0, "path": path}
    if commit is not None:
        told["lastCommit"] = last_commit(commit)
    return told


def last_commit(commit: Commit) -> dict[str, str]:
    """Return a commit in short."""
    return {"id": commit.id, "title": commit.title, "date": moment(commit.at)}


def history_line(commit: Commit) -> dict[str, Any]:
    """Return a commit as the list of commits has it."""
    return {
        "id": commit.id,
        "title": commit.title,
        "message": "",
        "authors": [{"user": commit.by, "avatar": ""}],
        "date": moment(commit.at),
    }
