"""The buckets and object versions of the simulated Cloud Storage, on disk."""

from __future__ import annotations

import base64
import bisect
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from simulators.gcp_state import Doc
from simulators.gcp_storage_refusals import no_bucket, no_object, too_fast
from simulators.gcp_world import World

LIVE, NONCURRENT, SOFT_DELETED = "live", "noncurrent", "soft-deleted"
# https://cloud.google.com/storage/quotas#objects says once a second per name, and that short bursts
# pass; how short is not published.
WRITES_PER_S = 1.0
BURST = 20


class Shelf:
    """Every bucket and version; all but `new_file` is used with the world's lock held.

    A version is a document: `resource` as the JSON interface shows it (without links), `file`, and
    `state`. It is kept under `BUCKET/NAME#GENERATION`.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        world.settings |= {"storage_writes_per_s": WRITES_PER_S, "storage_write_burst": BURST}
        self._folder = world.folder / "storage"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._names: dict[str, list[str]] = {}
        self._generations: dict[tuple[str, str], list[int]] = {}
        self._allowance: dict[tuple[str, str], tuple[float, float]] = {}
        for doc in world.store.all("object").values():
            self._index(doc)

    # buckets ------------------------------------------------------------------------------

    def bucket(self, name: str) -> Doc:
        """Return a bucket, or refuse."""
        found = self.world.store.get("bucket", name)
        if found is None:
            raise no_bucket()
        return found

    def put_bucket(self, bucket: Doc) -> Doc:
        """Keep a bucket."""
        return self.world.store.put("bucket", bucket["name"], bucket)

    def drop_bucket(self, name: str) -> None:
        """Forget an empty bucket with what lies soft-deleted in it."""
        for doc in list(self.versions(name)):
            self.erase(doc)
        self.world.store.delete("bucket", name)

    # versions -----------------------------------------------------------------------------

    def live(self, bucket: str, name: str) -> Doc | None:
        """Return the live version of an object, or None; no bucket: refused."""
        self.bucket(bucket)
        for generation in reversed(self._generations.get((bucket, name), [])):
            doc = self._version(bucket, name, generation)
            if doc["state"] == LIVE:
                return doc
        return None

    def find(self, bucket: str, name: str, generation: int | None, *, soft: bool = False) -> Doc:
        """Return a version, the live one unless a generation is given, or refuse."""
        if generation is None:
            doc = self.live(bucket, name)
        else:
            self.bucket(bucket)
            doc = self.world.store.get("object", _key(bucket, name, generation))
        if doc is None or (doc["state"] == SOFT_DELETED) != soft:
            raise no_object(bucket, name, generation)
        return doc

    def versions(self, bucket: str) -> Iterator[Doc]:
        """Yield every version in a bucket: by name (in the order of its bytes), oldest first."""
        self.drop_expired(bucket)
        for name in list(self._names.get(bucket, ())):
            for generation in list(self._generations[bucket, name]):
                yield self._version(bucket, name, generation)

    def add(self, bucket: Doc, resource: Doc, file: str) -> Doc:
        """Make a new live version; what was live before becomes what the bucket makes of it."""
        name = resource["name"]
        self._slow_down(bucket["name"], name)
        before = self.live(bucket["name"], name)
        if before is not None:
            self.bury(bucket, before)
        now = self.world.zulu()
        stamps = ("timeCreated", "updated", "timeStorageClassUpdated", "timeFinalized")
        resource |= dict.fromkeys(stamps, _millis(now))
        resource |= {"generation": str(self._generation()), "metageneration": "1"}
        resource["etag"] = etag(resource)
        return self._put({"resource": resource, "file": file, "state": LIVE})

    def changed(self, doc: Doc) -> Doc:
        """Keep a version whose metadata changed."""
        resource = doc["resource"]
        resource["metageneration"] = str(int(resource["metageneration"]) + 1)
        resource["updated"] = _millis(self.world.zulu())
        resource["etag"] = etag(resource)
        return self._put(doc)

    def kept(self, doc: Doc) -> None:
        """Keep a version whose resource the service itself corrected."""
        self._put(doc)

    def delete(self, bucket: Doc, doc: Doc, *, for_good: bool) -> None:
        """Delete a version; `for_good`: one named by its generation, which no archive keeps."""
        self._slow_down(bucket["name"], doc["resource"]["name"])
        self.bury(bucket, doc, for_good=for_good)

    def bury(self, bucket: Doc, doc: Doc, *, for_good: bool = False) -> None:
        """Make a version noncurrent, soft-deleted or gone, as its bucket says."""
        now = self.world.now()
        versioning = bucket.get("versioning", {}).get("enabled", False)
        kept_s = int(bucket.get("softDeletePolicy", {}).get("retentionDurationSeconds", 0))
        if doc["state"] == LIVE and versioning and not for_good:
            doc["resource"]["timeDeleted"] = _millis(self.world.zulu(now))
            self._put({**doc, "state": NONCURRENT})
        elif kept_s and doc["state"] != SOFT_DELETED:
            doc["resource"]["softDeleteTime"] = _millis(self.world.zulu(now))
            doc["resource"]["hardDeleteTime"] = _millis(self.world.zulu(now + kept_s))
            self._put({**doc, "state": SOFT_DELETED, "until": now + kept_s})
        else:
            self.erase(doc)

    def erase(self, doc: Doc) -> None:
        """Forget a version and its bytes."""
        bucket, name = doc["resource"]["bucket"], doc["resource"]["name"]
        generation = int(doc["resource"]["generation"])
        self.world.store.delete("object", _key(bucket, name, generation))
        self.path(doc["file"]).unlink(missing_ok=True)
        left = self._generations[bucket, name]
        left.remove(generation)
        if not left:
            del self._generations[bucket, name]
            self._names[bucket].remove(name)

    def drop_expired(self, bucket: str) -> None:
        """Erase what was soft-deleted long enough ago."""
        now = self.world.now()
        for name in list(self._names.get(bucket, ())):
            for generation in list(self._generations[bucket, name]):
                doc = self._version(bucket, name, generation)
                if doc["state"] == SOFT_DELETED and doc["until"] <= now:
                    self.erase(doc)

    # bytes --------------------------------------------------------------------------------

    def path(self, file: str) -> Path:
        """Return where bytes lie."""
        return self._folder / file

    def new_file(self) -> str:
        """Return a name for bytes to come."""
        return secrets.token_hex(16)

    def linked(self, file: str) -> str:
        """Return another name for the same bytes, which may be very many."""
        other = self.new_file()
        os.link(self.path(file), self.path(other))
        return other

    # inside -------------------------------------------------------------------------------

    def _version(self, bucket: str, name: str, generation: int) -> Doc:
        doc = self.world.store.get("object", _key(bucket, name, generation))
        assert doc is not None
        return doc

    def _put(self, doc: Doc) -> Doc:
        resource = doc["resource"]
        key = _key(resource["bucket"], resource["name"], resource["generation"])
        self._index(doc)
        return self.world.store.put("object", key, doc)

    def _index(self, doc: Doc) -> None:
        resource = doc["resource"]
        place, generation = (resource["bucket"], resource["name"]), int(resource["generation"])
        names = self._names.setdefault(place[0], [])
        generations = self._generations.setdefault(place, [])
        if not generations:
            bisect.insort(names, place[1])
        if generation not in generations:
            bisect.insort(generations, generation)

    def _generation(self) -> int:
        """Return microseconds since 1970, as Google's look; never one twice."""
        last = self.world.store.setting("storage-generation", 0)
        generation: int = max(int(self.world.now() * 1_000_000), last + 1)
        self.world.store.set("storage-generation", generation)
        return generation

    def _slow_down(self, bucket: str, name: str) -> None:
        """Refuse when one name is written too fast; `/_sim/settings` sets the pace."""
        pace = self.world.store.setting("storage_writes_per_s", WRITES_PER_S)
        burst = self.world.store.setting("storage_write_burst", BURST)
        if not pace:
            return
        now = self.world.now()
        left: float
        left, at = self._allowance.get((bucket, name), (burst, now))
        left = min(burst, left + (now - at) * pace)
        self._allowance[bucket, name] = (max(left - 1, 0.0), now)
        if left < 1:
            raise too_fast(bucket, name)


def _key(bucket: str, name: str, generation: int | str) -> str:
    return f"{bucket}/{name}#{generation}"


def etag(resource: Doc) -> str:
    """Return what changes whenever the version or its metadata does."""
    text = f"{resource['generation']}/{resource['metageneration']}"
    return base64.b64encode(text.encode()).decode()


def _millis(zulu: str) -> str:
    return zulu[:23] + "Z"  # Storage writes milliseconds
