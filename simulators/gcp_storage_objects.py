"""Objects of the simulated Cloud Storage: their resource, and what reads or changes it."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from simulators.gcp_http import Answer, Request, Route
from simulators.gcp_state import Doc
from simulators.gcp_storage_bytes import Digest, corrupted, read
from simulators.gcp_storage_keys import check_key
from simulators.gcp_storage_refusals import bad, legacy_acl, no_object, required
from simulators.gcp_storage_rules import (
    Preconditions,
    Span,
    byte_range,
    check_class,
    check_metadata,
    check_object_name,
    glob,
    said,
    whole,
)
from simulators.gcp_storage_state import LIVE, NONCURRENT, SOFT_DELETED, Shelf
from simulators.gcp_world import World

# What a client may say of an object; everything else is the service's to say.
WRITABLE = (
    "cacheControl", "contentDisposition", "contentEncoding", "contentLanguage", "contentType",
    "customTime", "eventBasedHold", "metadata", "storageClass", "temporaryHold",
)  # fmt: skip
_LARGEST_PAGE = 1000  # https://cloud.google.com/storage/docs/json_api/v1/objects/list


def shown(world: World, doc: Doc) -> Doc:
    """Return a version as the JSON interface shows it."""
    resource = doc["resource"]
    bucket, name = resource["bucket"], quote(resource["name"], safe="")
    place = f"storage/v1/b/{bucket}/o/{name}"
    generation = resource["generation"]
    return {
        "kind": "storage#object",
        "id": f"{bucket}/{resource['name']}/{generation}",
        "selfLink": f"{world.url}/{place}",
        "mediaLink": f"{world.url}/download/{place}?generation={generation}&alt=media",
        **resource,
    }


def new_resource(bucket: Doc, name: str, wish: Mapping[str, Any], digest: Digest) -> Doc:
    """Return the resource of a version to be; refuses what no object may be."""
    check_object_name(name)
    check_acl(bucket, wish)
    kept = {k: wish[k] for k in WRITABLE if wish.get(k) is not None}
    if "metadata" in kept:
        kept["metadata"] = check_metadata(kept["metadata"])
    resource: Doc = {"bucket": bucket["name"], "name": name, **kept}
    resource["storageClass"] = check_class(kept.get("storageClass") or bucket["storageClass"])
    resource |= {"size": str(digest.size), "md5Hash": digest.md5, "crc32c": digest.crc32c}
    key = wish.get("kmsKeyName") or bucket.get("encryption", {}).get("defaultKmsKeyName")
    if key:
        resource["kmsKeyName"] = f"{key.partition('/cryptoKeyVersions/')[0]}/cryptoKeyVersions/1"
    return resource


def check_acl(bucket: Doc, wish: Mapping[str, Any]) -> None:
    """Refuse access lists under uniform bucket-level access."""
    uniform = bucket["iamConfiguration"]["uniformBucketLevelAccess"]["enabled"]
    if uniform and (wish.get("acl") or wish.get("predefinedAcl")):
        raise legacy_acl()


def generation_of(params: Mapping[str, str], name: str = "generation") -> int | None:
    """Return the generation a request names, or None."""
    return whole(params[name], name) if name in params else None


class Objects:
    """The methods of `objects` that read or change metadata, and media."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._world = shelf.world

    def _found(self, request: Request) -> Doc:
        params, args = request.params, request.args
        soft = said(params, "softDeleted")
        generation = generation_of(params)
        if soft and generation is None:
            raise required("generation")
        return self._shelf.find(args["bucket"], args["object"], generation, soft=soft)

    def get(self, request: Request) -> Answer:
        """Return an object's resource, or with `alt=media` its bytes: `storage.objects.get`."""
        if request.params.get("alt") == "media":
            return self.media(request)
        doc = self._found(request)
        Preconditions.read(request.params).check(doc["resource"])
        return Answer(json=shown(self._world, doc))

    def media(self, request: Request) -> Answer:
        """Return an object's bytes or a range of them."""
        doc = self._found(request)
        Preconditions.read(request.params).check(doc["resource"])
        return self.download(doc, request)

    def download(self, doc: Doc, request: Request) -> Answer:
        """Return the bytes of a version; the faults `corrupt` and `download_cut` strike here."""
        resource = doc["resource"]
        size = int(resource["size"])
        span = byte_range(request.headers.get("range"), size)
        facts = {"bucket": resource["bucket"], "object": resource["name"]}
        if "kmsKeyName" in resource:
            check_key(self._world, resource["kmsKeyName"])
        part = span or Span(start=0, length=size)
        stream = read(self._shelf.path(doc["file"]), part.start, part.length)
        if self._world.faults.take("corrupt", facts):
            stream = corrupted(stream)
        cut = self._world.faults.take("download_cut", facts)
        headers = media_headers(resource)
        if span:
            end = span.start + span.length - 1
            headers["Content-Range"] = f"bytes {span.start}-{end}/{size}"
        return Answer(
            status=206 if span else 200,
            stream=stream,
            length=part.length,
            headers=headers,
            media_type=resource.get("contentType", "application/octet-stream"),
            cut_after=int(cut.get("bytes", 0)) if cut else None,
        )

    def page(self, request: Request) -> Answer:
        """Return a page of a bucket's objects: `storage.objects.list`."""
        params = request.params
        bucket = self._shelf.bucket(request.args["bucket"])["name"]
        wish = _Listing(params)
        page: Doc = {"kind": "storage#objects"}
        items: list[Doc] = []
        prefixes: list[str] = []
        last = ""
        for entry in wish.entries(self._shelf.versions(bucket)):
            if len(items) + len(prefixes) == wish.size:
                page["nextPageToken"] = _token(last)
                break
            if isinstance(entry, str):
                prefixes.append(entry)
                last = entry + "\U0010ffff"  # behind everything that starts so
            else:
                items.append(shown(self._world, entry))
                last = entry["resource"]["name"]
                if wish.versions:
                    last += f"\0{entry['resource']['generation']}"
        return Answer(json=page | _present(items=items, prefixes=prefixes))

    def patch(self, request: Request) -> Answer:
        """Change parts of an object's metadata: `storage.objects.patch`; null takes away."""
        return self._change(request, whole_resource=False)

    def update(self, request: Request) -> Answer:
        """Replace an object's metadata: `storage.objects.update`."""
        return self._change(request, whole_resource=True)

    def _change(self, request: Request, *, whole_resource: bool) -> Answer:
        doc, wish = self._found(request), dict(request.json())
        Preconditions.read(request.params).check(doc["resource"])
        bucket = self._shelf.bucket(request.args["bucket"])
        check_acl(bucket, {**wish, **_chosen(request.params, "predefinedAcl")})
        if "storageClass" in wish and wish["storageClass"] != doc["resource"]["storageClass"]:
            raise bad("The storage class of an object is changed by rewriting it.")
        if whole_resource:
            wish = dict.fromkeys(set(WRITABLE) - {"storageClass"}) | wish
        resource = dict(doc["resource"])
        for name in wish.keys() & set(WRITABLE):
            value = wish[name]
            if name == "metadata" and value is not None:
                old = {} if whole_resource else resource.get("metadata", {})
                value = check_metadata(_merged(old, value))
            if value is None or value == {}:
                resource.pop(name, None)
            else:
                resource[name] = value
        return Answer(json=shown(self._world, self._shelf.changed({**doc, "resource": resource})))

    def delete(self, request: Request) -> Answer:
        """Delete an object or one generation of it: `storage.objects.delete`."""
        self.remove(
            request.args["bucket"],
            request.args["object"],
            generation_of(request.params),
            Preconditions.read(request.params),
        )
        return Answer(status=204)

    def remove(
        self, bucket: str, name: str, generation: int | None, conditions: Preconditions
    ) -> None:
        """Delete a version, in either interface's name."""
        if generation is None and conditions.wanted:
            live = self._shelf.live(bucket, name)
            if live is None:
                raise no_object(bucket, name)
        doc = self._shelf.find(bucket, name, generation)
        conditions.check(doc["resource"])
        if doc["resource"].get("temporaryHold") or doc["resource"].get("eventBasedHold"):
            raise bad(
                f"Object '{bucket}/{name}' is under active Temporary hold and cannot be deleted."
            )
        self._shelf.delete(self._shelf.bucket(bucket), doc, for_good=generation is not None)

    def restore(self, request: Request) -> Answer:
        """Make a soft-deleted version live again, under a new generation: `objects.restore`."""
        args, params = request.args, request.params
        generation = generation_of(params)
        if generation is None:
            raise required("generation")
        doc = self._shelf.find(args["bucket"], args["object"], generation, soft=True)
        Preconditions.read(params).check(
            _resource(self._shelf.live(args["bucket"], args["object"]))
        )
        gone = {"softDeleteTime", "hardDeleteTime", "timeDeleted"}
        resource = {k: v for k, v in doc["resource"].items() if k not in gone}
        file = self._shelf.linked(doc["file"])
        made = self._shelf.add(self._shelf.bucket(args["bucket"]), resource, file)
        return Answer(json=shown(self._world, made))

    def routes(self) -> list[Route]:
        """Return the routes."""
        all_, one = "/storage/v1/b/{bucket}/o", "/storage/v1/b/{bucket}/o/{object}"
        table = [
            ("GET", all_, self.page, "list"),
            ("GET", one, self.get, "get"),
            ("GET", f"/download{one}", self.get, "get"),
            ("PATCH", one, self.patch, "patch"),
            ("PUT", one, self.update, "update"),
            ("DELETE", one, self.delete, "delete"),
            ("POST", f"{one}/restore", self.restore, "restore"),
        ]
        return [
            Route(method=m, pattern=p, handler=h, verb=f"storage.objects.{v}")
            for m, p, h, v in table
        ]


def media_headers(resource: Doc) -> dict[str, str]:
    """Return the headers that come with an object's bytes, in both interfaces."""
    hashes = [f"crc32c={resource['crc32c']}"]
    if "md5Hash" in resource:
        hashes.append(f"md5={resource['md5Hash']}")
    headers = {
        "ETag": f'"{xml_etag(resource)}"',
        "X-Goog-Generation": resource["generation"],
        "X-Goog-Metageneration": resource["metageneration"],
        "X-Goog-Hash": ",".join(hashes),
        "X-Goog-Storage-Class": resource["storageClass"],
        "X-Goog-Stored-Content-Encoding": resource.get("contentEncoding", "identity"),
        "X-Goog-Stored-Content-Length": resource["size"],
        "Accept-Ranges": "bytes",
    }
    names = {"cacheControl": "Cache-Control", "contentDisposition": "Content-Disposition"}
    names |= {"contentEncoding": "Content-Encoding", "contentLanguage": "Content-Language"}
    return headers | {header: resource[k] for k, header in names.items() if k in resource}


def xml_etag(resource: Doc) -> str:
    """Return the entity tag of the XML interface: the MD5 in hex where there is one."""
    if "md5Hash" not in resource:
        return str(resource["etag"])
    return base64.b64decode(resource["md5Hash"]).hex()


class _Listing:
    """What a list request asks for."""

    def __init__(self, params: Mapping[str, str]) -> None:
        self._params = params
        self.versions = said(params, "versions")
        soft = said(params, "softDeleted")
        if self.versions and soft:
            raise bad("Cannot list soft-deleted objects together with versions.")
        self._states = {SOFT_DELETED} if soft else {LIVE}
        if self.versions:
            self._states.add(NONCURRENT)
        asked = whole(params.get("maxResults", str(_LARGEST_PAGE)), "maxResults")
        self.size = _LARGEST_PAGE if asked <= 0 else min(asked, _LARGEST_PAGE)
        self._glob = glob(params["matchGlob"]) if params.get("matchGlob") else None
        self._after = _untoken(params.get("pageToken"))

    def entries(self, versions: Iterator[Doc]) -> Iterator[Doc | str]:
        """Yield versions, and prefixes where a delimiter groups them, in the order of names."""
        delimiter = self._params.get("delimiter")
        prefix, before = self._params.get("prefix", ""), ""
        for doc in versions:
            name = doc["resource"]["name"]
            if not self._wanted(doc, name):
                continue
            head, found, _ = (
                name[len(prefix) :].partition(delimiter) if delimiter else (name, "", "")
            )
            group = prefix + head + found
            trailing = group == name and said(self._params, "includeTrailingDelimiter")
            if not found or trailing:
                yield doc
            if found and group != before:
                before = group
                yield group

    def _wanted(self, doc: Doc, name: str) -> bool:
        params = self._params
        place = f"{name}\0{doc['resource']['generation']}" if self.versions else name
        return (
            doc["state"] in self._states
            and name.startswith(params.get("prefix", ""))
            and place > self._after
            and name >= params.get("startOffset", "")
            and ("endOffset" not in params or name < params["endOffset"])
            and (self._glob is None or self._glob.fullmatch(name) is not None)
        )


def _token(last: str) -> str:
    return base64.urlsafe_b64encode(last.encode()).decode()


def _untoken(text: str | None) -> str:
    try:
        return base64.urlsafe_b64decode(text or "").decode()
    except ValueError:
        raise bad(f"Invalid argument: pageToken {text!r}.") from None


def _merged(old: Mapping[str, str], wish: Any) -> Any:
    if not isinstance(wish, dict):
        return wish
    return {k: v for k, v in {**old, **wish}.items() if v is not None}


def _chosen(params: Mapping[str, str], name: str) -> dict[str, str]:
    return {name: params[name]} if name in params else {}


def _present(**lists: list[Any]) -> Doc:
    return {name: found for name, found in lists.items() if found}


def _resource(doc: Doc | None) -> Doc | None:
    return None if doc is None else doc["resource"]
