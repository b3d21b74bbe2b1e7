"""Objects made from objects: copy, rewrite, compose."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any

from simulators.gcp_http import Answer, Request, Route
from simulators.gcp_state import Doc
from simulators.gcp_storage_bytes import Digest, read, write
from simulators.gcp_storage_objects import WRITABLE, generation_of, new_resource, shown
from simulators.gcp_storage_refusals import bad
from simulators.gcp_storage_rules import Preconditions, whole
from simulators.gcp_storage_state import Shelf

_MOST_SOURCES = 32  # https://cloud.google.com/storage/docs/composite-objects
_STEP = 1 << 20  # maxBytesRewrittenPerCall is a multiple of 1 MiB: .../v1/objects/rewrite


class Copies:
    """The methods of `objects` that make an object from others."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._world = shelf.world

    def copy(self, request: Request) -> Answer:
        """Copy an object: `storage.objects.copy`."""
        source = self._source(request)
        return Answer(json=shown(self._world, self._copied(request, source)))

    def rewrite(self, request: Request) -> Answer:
        """Copy an object, over several calls where bytes must move: `storage.objects.rewrite`."""
        source, params = self._source(request), request.params
        size = int(source["resource"]["size"])
        limit = whole(params.get("maxBytesRewrittenPerCall", "0"), "maxBytesRewrittenPerCall")
        if limit % _STEP:
            raise bad("maxBytesRewrittenPerCall must be an integral multiple of 1 MiB.")
        done = _written(params.get("rewriteToken"), source)
        # Bytes move only to another class, place or key; else the copy is made at once.
        steps = limit and self._moves(request, source)
        done = min(size, done + limit) if steps else size
        told = {
            "kind": "storage#rewriteResponse",
            "objectSize": str(size),
            "totalBytesRewritten": str(done),
            "done": done == size,
        }
        if done < size:
            return Answer(json=told | {"rewriteToken": _token(done, source)})
        return Answer(json=told | {"resource": shown(self._world, self._copied(request, source))})

    def _source(self, request: Request) -> Doc:
        args, params = request.args, request.params
        generation = generation_of(params, "sourceGeneration")
        source = self._shelf.find(args["source"], args["object"], generation)
        Preconditions.read(params, source=True).check(source["resource"])
        return source

    def _moves(self, request: Request, source: Doc) -> bool:
        target = self._shelf.bucket(request.args["target"])
        origin = self._shelf.bucket(request.args["source"])
        wish = request.json().get("storageClass", target["storageClass"])
        return (
            wish != source["resource"]["storageClass"]
            or target["location"] != origin["location"]
            or "destinationKmsKeyName" in request.params
        )

    def _copied(self, request: Request, source: Doc) -> Doc:
        args, wish = request.args, dict(request.json())
        if not wish.keys() & set(WRITABLE):  # an empty body keeps the metadata
            kept = {k: source["resource"][k] for k in WRITABLE if k in source["resource"]}
            wish = {k: v for k, v in kept.items() if k != "storageClass"} | wish
        if "destinationKmsKeyName" in request.params:
            wish["kmsKeyName"] = request.params["destinationKmsKeyName"]
        wish |= _acl(request.params, "destinationPredefinedAcl")
        target = self._shelf.bucket(args["target"])
        self._check(target["name"], args["name"], Preconditions.read(request.params))
        resource = new_resource(target, args["name"], wish, Digest())
        for name in ("size", "crc32c", "md5Hash", "componentCount"):
            resource.pop(name, None)
            if name in source["resource"]:
                resource[name] = source["resource"][name]
        return self._shelf.add(target, resource, self._shelf.linked(source["file"]))

    def _check(self, bucket: str, name: str, conditions: Preconditions) -> None:
        live = self._shelf.live(bucket, name)
        conditions.check(None if live is None else live["resource"])

    def compose(self, request: Request) -> Answer:
        """Join up to 32 objects of one bucket: `storage.objects.compose`."""
        wish, args = request.json(), request.args
        bucket = self._shelf.bucket(args["bucket"])
        parts = wish.get("sourceObjects") or []
        if not 1 <= len(parts) <= _MOST_SOURCES:
            raise bad(
                f"The number of source components provided ({len(parts)}) must be from 1 to "
                f"{_MOST_SOURCES}."
            )
        sources = [self._part(bucket["name"], part) for part in parts]
        self._check(bucket["name"], args["object"], Preconditions.read(request.params))
        digest, file = Digest(), self._shelf.new_file()
        write(self._shelf.path(file), digest.counting(self._joined(sources)))
        settled = {
            **wish.get("destination", {}),
            **_acl(request.params, "destinationPredefinedAcl"),
        }
        resource = new_resource(bucket, args["object"], settled, digest)
        del resource["md5Hash"]  # composite objects have none
        resource["componentCount"] = sum(s["resource"].get("componentCount", 1) for s in sources)
        made = self._shelf.add(bucket, resource, file)
        if wish.get("deleteSourceObjects"):
            for source in sources:
                self._shelf.bury(bucket, source)
        return Answer(json=shown(self._world, made))

    def _joined(self, sources: list[Doc]) -> Iterator[bytes]:
        for source in sources:
            path = self._shelf.path(source["file"])
            yield from read(path, 0, int(source["resource"]["size"]))

    def _part(self, bucket: str, part: Mapping[str, Any]) -> Doc:
        generation = part.get("generation")
        doc = self._shelf.find(
            bucket, str(part.get("name", "")), None if generation is None else int(generation)
        )
        conditions = part.get("objectPreconditions", {})
        Preconditions.read({k: str(v) for k, v in conditions.items()}).check(doc["resource"])
        return doc

    def routes(self) -> list[Route]:
        """Return the routes."""
        one = "/storage/v1/b/{source}/o/{object}"
        target = "b/{target}/o/{name}"
        table = [
            (f"{one}/copyTo/{target}", self.copy, "copy"),
            (f"{one}/rewriteTo/{target}", self.rewrite, "rewrite"),
            ("/storage/v1/b/{bucket}/o/{object}/compose", self.compose, "compose"),
        ]
        return [
            Route(method="POST", pattern=p, handler=h, verb=f"storage.objects.{v}")
            for p, h, v in table
        ]


def _acl(params: Mapping[str, str], name: str) -> dict[str, str]:
    return {"predefinedAcl": params[name]} if name in params else {}


def _token(done: int, source: Doc) -> str:
    text = json.dumps({"done": done, "generation": source["resource"]["generation"]})
    return base64.urlsafe_b64encode(text.encode()).decode()


def _written(token: str | None, source: Doc) -> int:
    if token is None:
        return 0
    try:
        found = json.loads(base64.urlsafe_b64decode(token))
    except ValueError:
        found = {}
    if found.get("generation") != source["resource"]["generation"]:
        raise bad("The rewrite token is not valid for this rewrite.")
    return int(found["done"])
