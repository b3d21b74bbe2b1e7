"""Keep environments in a repository of a registry, under names by which they are found again.

Tags of that repository, all by keys (`action.environment.keys`):
  <environment key>        the image
  in-<inputs key>          the same image, for whoever has resolved nothing yet
  about-<either key>       a record: what the image consists of (`cynthus.wire_image.Environment`)
  base-<digest>            a record: what a base image contains, so that nobody pulls it to look
  system-<key>, cache-<key>  images whose layers the next build takes over
A record is an artifact: https://github.com/opencontainers/image-spec/blob/v1.1.0/manifest.md#guidelines-for-artifact-usage
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from action.environment import keys
from action.failures import RegistryRefused
from action.plan import BaseFacts
from action.registry.client import Blob, Manifest, Registry, digest_of
from action.registry.reference import Reference
from cynthus.codec import decode, encode
from cynthus.errors import UserError
from cynthus.wire_image import Environment

T = TypeVar("T", Environment, BaseFacts)

_OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_KINDS = {
    Environment: "application/vnd.cynthus.environment.v1+json",
    BaseFacts: "application/vnd.cynthus.base.v1+json",
}
_EMPTY = b"{}"  # the config of an artifact that needs none
_EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
_LARGEST_RECORD = 16 << 20  # bytes, unpacked: lock and bill of materials are 3 MB at most


@dataclass(frozen=True, kw_only=True)
class Found:
    """An environment that is in the registry."""

    reference: Reference  # by digest
    about: Environment


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """The repository that keeps environments. Every method raises what Registry's do."""

    registry: Registry
    place: Reference  # host and repository

    def find(self, tag: str, key: str) -> Found | None:
        """Return the image under a tag with the record under a key.

        None when one is missing, or when they are not of one environment: two jobs that name the
        same inputs at a time may leave the record of one beside the image of the other.
        """
        with ThreadPoolExecutor(1) as other:
            record = other.submit(self.record, f"about-{key}", Environment)
            manifest = self.image(tag)
            about = record.result()
        if manifest is None or about is None:
            return None
        if not (about.key == tag == key or self._is_of(manifest, about)):
            return None
        return Found(reference=self.place.at(digest=manifest.digest), about=about)

    def _is_of(self, manifest: Manifest, about: Environment) -> bool:
        """Say whether an image found by its inputs is the one that its record's key names."""
        named = self.image(about.key) if keys.is_key(about.key) else None
        return named is not None and named.digest == manifest.digest

    def image(self, tag: str) -> Manifest | None:
        """Return the manifest under a tag."""
        return self.registry.manifest(self.place.repository, tag)

    def name(self, tag: str) -> str:
        """Return the full name of an image, as Docker takes it."""
        return str(self.place.at(tag=tag))

    def name_also(self, tag: str, manifest: Manifest) -> bool:
        """Put another tag on an image; False where the registry does not let us.

        Tags may be forbidden to move (Artifact Registry, ECR), and a name more is a shortcut only.
        """
        body, kind = manifest.body, manifest.media_type
        try:
            self.registry.put_manifest(self.place.repository, tag, body, kind)
        except RegistryRefused:
            return False
        return True

    def record(self, tag: str, kind: type[T]) -> T | None:
        """Return a record; None where there is none that this version can read."""
        manifest = self.registry.manifest(self.place.repository, tag)
        digest = _content(manifest.json(), _KINDS[kind]) if manifest else None
        if digest is None:
            return None
        with self.registry.read(self.place.repository, digest) as file:
            packed = file.read(_LARGEST_RECORD)
        try:
            return decode(kind, json.loads(_unpacked(packed)))
        except (ValueError, RecursionError, zlib.error, UserError):
            return None

    def keep_record(self, tag: str, value: Environment | BaseFacts) -> None:
        """Write a record. Safe to repeat."""
        # No time of day in it: the same record is the same blob.
        content = gzip.compress(json.dumps(encode(value)).encode(), mtime=0)
        for part in (_EMPTY, content):
            self.registry.upload(self.place.repository, _blob(part))
        body = json.dumps(_manifest(_KINDS[type(value)], content)).encode()
        try:
            self.registry.put_manifest(self.place.repository, tag, body, _OCI_MANIFEST)
        except RegistryRefused:
            # Somebody else wrote one of the same key first, and tags may not move here.
            if self.image(tag) is None:
                raise


def _blob(content: bytes) -> Blob:
    digest = digest_of(content)
    return Blob(digest=digest, size_bytes=len(content), open=lambda: io.BytesIO(content))


def _manifest(kind: str, content: bytes) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": _OCI_MANIFEST,
        "artifactType": kind,
        "config": _descriptor(_EMPTY_TYPE, _EMPTY),
        "layers": [_descriptor(f"{kind}+gzip", content)],
    }


def _descriptor(kind: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "digest": digest_of(content), "size": len(content)}


def _content(manifest: dict[str, Any], kind: str) -> str | None:
    """Return the digest of a record's content; None where the manifest is another thing's."""
    layers = manifest.get("layers")
    if not isinstance(layers, list) or len(layers) != 1 or not isinstance(layers[0], dict):
        return None
    digest = layers[0].get("digest")
    return str(digest) if layers[0].get("mediaType") == f"{kind}+gzip" and digest else None


def _unpacked(packed: bytes) -> bytes:
    """Unpack, but never more than a record may have: whoever may push could send a bomb."""
    unpacker = zlib.decompressobj(wbits=31)  # gzip's header and trailer
    return unpacker.decompress(packed, _LARGEST_RECORD)
