"""Datasets, competitions and models of a simulated Kaggle as JSON.

The names are those that the client reads: https://github.com/Kaggle/kagglesdk/tree/main/kagglesdk
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from simulators.hub_kaggle_state import Item, Version

_UNKNOWN_LICENSE = "unknown"
_SITE = "https://www.kaggle.com"
Shape = dict[str, Any]


def moment(at: datetime) -> str:
    """Return a time as Kaggle writes it."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def dataset(item: Item) -> Shape:
    """Return `ApiDataset`."""
    newest = item.versions[-1]
    owner, _, slug = item.name.partition("/")
    return {
        "id": item.id,
        "ref": item.name,
        "title": slug,
        "ownerName": owner,
        "ownerRef": owner,
        "creatorName": owner,
        "totalBytes": newest.size,
        "url": f"{_SITE}/datasets/{item.name}",
        "lastUpdated": moment(newest.at),
        "isPrivate": item.private,
        "licenseName": (*item.licenses, _UNKNOWN_LICENSE)[0],
        "currentVersionNumber": newest.number,
        "versions": [
            {
                "versionNumber": version.number,
                "creationDate": moment(version.at),
                "creatorName": owner,
                "creatorRef": owner,
                "versionNotes": version.notes,
                "status": "Ready",
            }
            for version in reversed(item.versions)
        ],
    }


def info(item: Item) -> Shape:
    """Return `DatasetInfo`, the metadata."""
    owner, _, slug = item.name.partition("/")
    return {
        "datasetId": item.id,
        "datasetSlug": slug,
        "ownerUser": owner,
        "title": slug,
        "isPrivate": item.private,
        "licenses": [{"name": name} for name in item.licenses or (_UNKNOWN_LICENSE,)],
    }


def dataset_file(item: Item, version: Version, name: str) -> Shape:
    """Return `ApiDatasetFile`: a size, but never a hash."""
    end = name.rpartition(".")[2] if "." in name else ""
    return {
        "ref": name,
        "datasetRef": item.name,
        "ownerRef": item.name.partition("/")[0],
        "name": name,
        "creationDate": moment(version.at),
        "fileType": f".{end}" if end else "",
        "totalBytes": version.files[name].size,
    }


def competition(item: Item, user: str | None) -> Shape:
    """Return `ApiCompetition`."""
    return {
        "id": item.id,
        "ref": f"{_SITE}/competitions/{item.name}",
        "title": item.name,
        "url": f"{_SITE}/competitions/{item.name}",
        "userHasEntered": user in item.accepted,
        "dateCreated": moment(item.versions[0].at),
    }


def competition_file(version: Version, name: str) -> Shape:
    """Return `ApiDataFile`."""
    return {
        "ref": name,
        "name": name,
        "totalBytes": version.files[name].size,
        "creationDate": moment(version.at),
    }


def model(items: Sequence[Item]) -> Shape:
    """Return `ApiModel` with its instances."""
    owner, slug = items[0].name.split("/")[:2]
    return {
        "id": items[0].id,
        "ref": f"{owner}/{slug}",
        "title": slug,
        "author": owner,
        "slug": slug,
        "isPrivate": items[0].private,
        "instances": [instance(item) for item in items],
        "url": f"{_SITE}/models/{owner}/{slug}",
    }


def instance(item: Item) -> Shape:
    """Return `ApiModelInstance`."""
    newest = item.versions[-1]
    _, _, framework, slug = item.name.split("/")
    return {
        "id": item.id,
        "slug": slug,
        "framework": framework,
        "versionId": item.id * 1000 + newest.number,
        "versionNumber": newest.number,
        "url": f"{_SITE}/models/{item.name}",
        "licenseName": (*item.licenses, _UNKNOWN_LICENSE)[0],
        "totalUncompressedBytes": newest.size,
    }


def model_version(item: Item, version: Version) -> Shape:
    """Return `ModelInstanceVersion`."""
    owner, slug, framework, instance_slug = item.name.split("/")
    return {
        "id": item.id * 1000 + version.number,
        "ownerSlug": owner,
        "modelSlug": slug,
        "slug": instance_slug,
        "framework": framework,
        "versionNumber": version.number,
        "versionNotes": version.notes,
        "totalUncompressedBytes": version.size,
    }


def model_file(version: Version, name: str) -> Shape:
    """Return `ApiModelFile`."""
    size = version.files[name].size
    return {"name": name, "size": size, "creationDate": moment(version.at)}
