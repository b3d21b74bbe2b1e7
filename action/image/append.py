"""Put one layer on an image: a manifest and a config become the next manifest and config. Pure.

An image is a list of layers in a manifest, and a config that names the same layers unpacked and
says how a container of it starts. What a Dockerfile of `COPY`, `WORKDIR`, `ENV` and `USER` does is
therefore a change of two small JSON texts:
https://github.com/opencontainers/image-spec/blob/main/manifest.md
https://github.com/opencontainers/image-spec/blob/main/config.md
https://distribution.github.io/distribution/spec/manifest-v2-2/ (Docker's own, from before)

The same parts give the same bytes on any machine, so the digest tells whether an image is there.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from action.failures import BuildFailed
from action.plan import Origin
from cynthus.wire_image import Environment

UID = 1000  # the user that runs workloads, in every image
WORKSPACE = "/workspace"
HOME = "/home/workload"
PLATFORM = "linux/amd64"

DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"

# Docker's layer store holds no longer chain: overlay takes 127, two are the container's own.
# https://github.com/moby/moby/blob/v20.10.27/layer/layer_store.go#L24-L27
MOST_LAYERS = 125

_CONFIG_OF = {DOCKER_MANIFEST: DOCKER_CONFIG, OCI_MANIFEST: OCI_CONFIG}
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
# What the base says of the build that made it, and BuildKit's cache in it: no longer true on top.
_OF_THE_BUILD = (
    "container",
    "container_config",
    "id",
    "moby.buildkit.buildinfo.v1",
    "moby.buildkit.cache.v0",
    "parent",
)


@dataclass(frozen=True, kw_only=True)
class Descriptor:
    """A blob as a manifest names it."""

    media_type: str
    digest: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class Below:
    """The image that gets a layer on top, checked: `below` makes one."""

    media_type: str
    layers: tuple[Descriptor, ...]
    listed: tuple[Mapping[str, Any], ...]  # the same as the manifest has them, annotations and all
    config: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Top:
    """The new layer."""

    digest: str
    diff_id: str  # the digest of the layer unpacked
    size_bytes: int
    compression: Literal["gzip", "zstd"]


@dataclass(frozen=True, kw_only=True)
class Change:
    """What else the new image says."""

    labels: tuple[tuple[str, str], ...]
    created_s: int  # Unix time; the commit's, or 0: never the clock's, which would change the bytes


@dataclass(frozen=True, kw_only=True)
class Appended:
    """The new image's two texts."""

    media_type: str
    manifest: bytes
    config: bytes

    @property
    def digest(self) -> str:
        """Return the name that the image has everywhere."""
        return sha256(self.manifest)

    @property
    def config_digest(self) -> str:
        """Return the config's name."""
        return sha256(self.config)


def sha256(content: bytes) -> str:
    """Return the name of a blob."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


# ── reading what is below ───────────────────────────────────────────────────────────────────────


def is_index(media_type: str) -> bool:
    """Say whether a manifest lists images instead of being one."""
    return media_type in {DOCKER_INDEX, OCI_INDEX}


def child(name: str, index: object, platform: str = PLATFORM) -> str:
    """Return the digest of an index's image for a platform, the plainest variant of it.

    `name` is how a sentence calls the image. Raises: BuildFailed when there is none.
    """
    fitting: list[tuple[str, str]] = []
    offered: list[str] = []
    for entry in _list(name, _table(name, index), "manifests"):
        found = entry.get("platform")
        if not isinstance(found, dict):
            continue  # an artifact that somebody put beside the images
        shown = f"{found.get('os')}/{found.get('architecture')}"
        if shown == platform:
            fitting.append((str(found.get("variant") or ""), _digest(name, entry)))
        elif "unknown" not in shown:  # BuildKit's attestations call themselves so
            offered.append(shown)
    if not fitting:
        listed = ", ".join(sorted(set(offered))) or "no platform at all"
        raise BuildFailed(
            f"image/base: should be an image for {platform}, found {name} for {listed}. "
            f"Name another base."
        )
    return min(fitting)[1]  # "" before v2: what runs on every processor of the kind


def config_digest(name: str, media_type: str, manifest: object) -> str:
    """Return the digest of the config that a manifest names.

    Raises: BuildFailed when the manifest is no image's.
    """
    table = _table(name, manifest)
    _check_kind(name, media_type, table)
    config = table.get("config")
    if not isinstance(config, dict) or config.get("mediaType") != _CONFIG_OF[media_type]:
        kind = config.get("mediaType") if isinstance(config, dict) else None
        raise BuildFailed(
            f"image/base: should be a container image, found {name}, which is `{kind}`. "
            f"Name another base."
        )
    return _digest(name, config)


def below(
    name: str, media_type: str, manifest: object, config: object, platform: str = PLATFORM
) -> Below:
    """Check that an image can carry one more layer.

    Raises: BuildFailed for another platform, foreign or encrypted layers, too many of them, and
    for texts that are no image's at all.
    """
    config_digest(name, media_type, manifest)
    listed = tuple(_list(name, _table(name, manifest), "layers"))
    layers = tuple(_layer(name, entry) for entry in listed)
    table = _table(name, config)
    found = f"{table.get('os')}/{table.get('architecture')}"
    if found != platform:
        raise BuildFailed(
            f"image/base: should be an image for {platform}, found {name} for {found}. "
            f"Name another base."
        )
    if len(layers) >= MOST_LAYERS:
        raise BuildFailed(
            f"image/base: should have fewer than {MOST_LAYERS} layers, which is what Docker takes, "
            f"found {len(layers)} in {name}. Join some: `COPY --from=0 / /` in a second stage does."
        )
    _check_config(name, table, len(layers))
    return Below(media_type=media_type, layers=layers, listed=listed, config=table)


def compression(found: Below) -> Literal["gzip", "zstd"]:
    """Return how a layer on top should be packed: whoever pulls zstd below can on top."""
    zstd = any(layer.media_type.endswith("zstd") for layer in found.layers)
    return "zstd" if zstd and found.media_type == OCI_MANIFEST else "gzip"


def _check_kind(name: str, media_type: str, table: Mapping[str, Any]) -> None:
    if media_type not in _CONFIG_OF:
        old = "manifest.v1" in media_type
        why = "an image of Docker's first format" if old else f"`{media_type}`"
        remedy = "Push it anew with a Docker of this decade." if old else "Name another base."
        raise BuildFailed(
            f"image/base: should be an OCI or Docker image, found {name}, which is {why}. {remedy}"
        )
    # One text that could be read as either kind is how a digest gets two meanings:
    # https://github.com/opencontainers/image-spec/security/advisories/GHSA-77vh-xpmg-72qh
    if table.get("mediaType", media_type) != media_type or "manifests" in table:
        raise BuildFailed(
            f"image/base: {name} has a manifest that says two things of what it is. "
            f"Name another base."
        )


def _layer(name: str, entry: Mapping[str, Any]) -> Descriptor:
    kind = str(entry.get("mediaType"))
    if "foreign" in kind or "nondistributable" in kind or entry.get("urls"):
        raise BuildFailed(
            f"image/base: {name} has a layer that no registry may pass on (`{kind}`). "
            f"Name another base."
        )
    if kind.endswith("+encrypted"):
        raise BuildFailed(
            f"image/base: {name} has an encrypted layer, which no run can open. Name another base."
        )
    size_bytes = entry.get("size")
    if not kind.startswith((DOCKER_LAYER, OCI_LAYER)) or not isinstance(size_bytes, int):
        raise BuildFailed(
            f"image/base: {name} has a layer of an unknown kind, `{kind}`. Name another base."
        )
    return Descriptor(media_type=kind, digest=_digest(name, entry), size_bytes=size_bytes)


def _check_config(name: str, config: Mapping[str, Any], layers: int) -> None:
    rootfs = config.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(diff_ids, list) or len(diff_ids) != layers:
        raise BuildFailed(
            f"image/base: {name} has {layers} layers, and a config of others. Push it anew."
        )
    settings = config.get("config") or {}
    if not isinstance(settings, dict) or not _sound(config, settings):
        raise BuildFailed(f"image/base: {name} has a config that is none. Push it anew.")
    if settings.get("OnBuild"):
        raise BuildFailed(
            f"image/base: {name} has ONBUILD steps, which only a build carries out. Write a "
            f"Dockerfile with `FROM {name}` and name it as `image.dockerfile`."
        )


def _sound(config: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    lists = (config.get("history"), settings.get("Env"))
    return all(isinstance(found or [], list) for found in lists) and isinstance(
        settings.get("Labels") or {}, dict
    )


def _table(name: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise BuildFailed(f"image/base: {name} has a manifest or config that is none.")
    return value


def _list(name: str, table: Mapping[str, Any], key: str) -> Sequence[Mapping[str, Any]]:
    found = table.get(key)
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise BuildFailed(f"image/base: {name} has a manifest without its list of {key}.")
    return found


def _digest(name: str, entry: Mapping[str, Any]) -> str:
    digest = str(entry.get("digest"))
    if _DIGEST.fullmatch(digest) is None:
        raise BuildFailed(f"image/base: {name} names a part by `{digest[:80]}`, no digest.")
    return digest


# ── one layer more ──────────────────────────────────────────────────────────────────────────────


def append(found: Below, top: Top, change: Change) -> Appended:
    """Return the image with one layer more, whose containers run as plain users in the workspace.

    Same parts, same bytes. The command comes whole from the spec, so the image names none.
    """
    config = _dump(_config(found.config, top, change))
    layer = {
        "mediaType": _layer_type(found.media_type, top.compression),
        "size": top.size_bytes,
        "digest": top.digest,
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": found.media_type,
        "config": {
            "mediaType": _CONFIG_OF[found.media_type],
            "size": len(config),
            "digest": sha256(config),
        },
        "layers": [*found.listed, layer],
    }
    return Appended(media_type=found.media_type, manifest=_dump(manifest), config=config)


def _layer_type(manifest_type: str, packed: str) -> str:
    if manifest_type == DOCKER_MANIFEST:
        return f"{DOCKER_LAYER}.{packed}"
    return f"{OCI_LAYER}+{packed}"


def _config(base: Mapping[str, Any], top: Top, change: Change) -> dict[str, Any]:
    created = _moment(change.created_s)
    settings = {
        key: value
        for key, value in (base.get("config") or {}).items()
        if key not in {"Cmd", "Entrypoint", "Image", "Hostname", "Domainname", "OnBuild"}
    }
    settings["User"] = f"{UID}:{UID}"
    settings["WorkingDir"] = WORKSPACE
    settings["Env"] = environment(settings.get("Env") or [])
    settings["Labels"] = {**(settings.get("Labels") or {}), **dict(change.labels)}
    step = {"created": created, "created_by": f"COPY . {WORKSPACE} # cynthus"}
    return {
        **{key: value for key, value in base.items() if key not in _OF_THE_BUILD},
        "created": created,
        "config": settings,
        "history": [*(base.get("history") or []), step],
        "rootfs": {"type": "layers", "diff_ids": [*base["rootfs"]["diff_ids"], top.diff_id]},
    }


def environment(variables: Sequence[str]) -> list[str]:
    """Return an image's variables with those of the plain user.

    A base without a line for user 1000 in /etc/passwd gets a name from USER, which is where Python
    looks first (https://docs.python.org/3/library/getpass.html#getpass.getuser): without it
    PyTorch's compiler ends with a KeyError.
    """
    found = dict(str(line).partition("=")[::2] for line in variables)
    found.setdefault("USER", "workload")
    found |= {"HOME": HOME, "PYTHONUNBUFFERED": "1"}
    return [f"{name}={value}" for name, value in found.items()]


def labels(
    origin: Origin, about: Environment, *, created_s: int = 0
) -> tuple[tuple[str, str], ...]:
    """Return what an image says of where it comes from; what is not known is left out.

    https://github.com/opencontainers/image-spec/blob/main/annotations.md
    """
    found = (
        ("org.opencontainers.image.created", _moment(created_s) if created_s else ""),
        ("org.opencontainers.image.source", origin.source_url),
        ("org.opencontainers.image.revision", origin.commit_sha),
        ("org.opencontainers.image.base.name", about.base),
        ("org.opencontainers.image.base.digest", about.base_digest),
        ("dev.cynthus.environment", about.key),
        ("dev.cynthus.spec.sha256", origin.spec_sha256),
    )
    return tuple((name, value) for name, value in found if value)


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _dump(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
