"""Multipart uploads of the XML interface: parts sent apart, joined at the end.

https://cloud.google.com/storage/docs/multipart-uploads
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from simulators.gcp_http import Answer, Request
from simulators.gcp_state import Doc
from simulators.gcp_storage_bytes import Digest, announced, read, write
from simulators.gcp_storage_intake import Broken, Intake, Wish, arriving
from simulators.gcp_storage_refusals import StorageError, Xml, bad
from simulators.gcp_storage_rules import Preconditions

MOST_PARTS = 10_000  # the page above
LEAST_PART = 5 << 20  # bytes; the last part may be smaller: the page above
_SPACE = "http://s3.amazonaws.com/doc/2006-03-01/"  # Google answers in Amazon's words here


class Parts:
    """Uploads whose parts arrive in any order."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._shelf = intake.shelf
        self._world = intake.world

    def begin(self, wish: Wish) -> Answer:
        """Begin an upload: `POST ?uploads`."""
        id_ = secrets.token_urlsafe(48)
        upload: Doc = {
            "bucket": wish.bucket,
            "name": wish.name,
            "wish": dict(wish.resource),
            "conditions": dict(wish.conditions.wanted),
            "at": self._world.now(),
            "parts": {},
        }
        with self._world.lock:
            self._world.store.put("multipart-upload", id_, upload)
        return _document(
            "InitiateMultipartUploadResult", Bucket=wish.bucket, Key=wish.name, UploadId=id_
        )

    def _upload(self, request: Request) -> tuple[str, Doc]:
        id_ = request.params["uploadId"]
        upload = self._world.store.get("multipart-upload", id_)
        place = (request.args["bucket"], request.args["object"])
        if upload is None or (upload["bucket"], upload["name"]) != place:
            told = "The requested upload was not found."
            xml = Xml(code="NoSuchUpload", message="The specified multipart upload does not exist.")
            raise StorageError(404, told, "notFound", xml)
        return id_, upload

    def put(self, request: Request) -> Answer:
        """Take one part in; a part sent again replaces the one before."""
        number = request.params.get("partNumber", "")
        if not number.isdigit() or not 1 <= int(number) <= MOST_PARTS:
            raise bad(f"Part number must be an integer between 1 and {MOST_PARTS}, inclusive.")
        with self._world.lock:
            id_, upload = self._upload(request)
        body = arriving(self._shelf, request, upload["bucket"], upload["name"])
        digest, file = Digest(), self._shelf.new_file()
        path = self._shelf.path(file)
        try:
            write(path, digest.counting(body.chunks()))
            hashes = announced(request.headers.get("x-goog-hash"))
            digest.check(crc32c=hashes.get("crc32c"), md5=hashes.get("md5"))
        except Broken:
            path.unlink()
            return Answer(lost=True)
        except StorageError:
            path.unlink()
            raise
        etag = f'"{base64.b64decode(digest.md5).hex()}"'
        with self._world.lock:
            upload = self._upload(request)[1]
            before = upload["parts"].get(number)
            if before:
                self._shelf.path(before["file"]).unlink(missing_ok=True)
            upload["parts"][number] = {"file": file, "etag": etag, "size": digest.size}
            self._world.store.put("multipart-upload", id_, upload)
        hash_ = f"crc32c={digest.crc32c},md5={digest.md5}"
        return Answer(data=b"", headers={"ETag": etag, "X-Goog-Hash": hash_})

    def complete(self, request: Request) -> Answer:
        """Join the parts that the body lists: `POST ?uploadId=…`."""
        listed = _listed(request.body())
        with self._world.lock:
            id_, upload = self._upload(request)
        parts = _chosen(listed, upload["parts"])
        digest, file = Digest(), self._shelf.new_file()
        write(self._shelf.path(file), digest.counting(self._joined(parts)))
        wish = Wish(
            bucket=upload["bucket"],
            name=upload["name"],
            resource=upload["wish"],
            conditions=Preconditions(wanted=upload["conditions"]),
        )
        with self._world.lock:
            doc = self._intake.settle(wish, file, digest, {})
            doc["resource"].pop("md5Hash")  # as composite objects, these have none
            self._shelf.kept(doc)
            self.drop(id_)
        resource = doc["resource"]
        answer = _document(
            "CompleteMultipartUploadResult",
            Location=f"{self._world.url}{request.path}",
            Bucket=resource["bucket"],
            Key=resource["name"],
            ETag=f'"{resource["etag"]}"',
        )
        headers = {
            "X-Goog-Hash": f"crc32c={digest.crc32c}",
            "X-Goog-Generation": resource["generation"],
        }
        return Answer(data=answer.data, media_type=answer.media_type, headers=headers)

    def _joined(self, parts: list[Doc]) -> Iterator[bytes]:
        for part in parts:
            yield from read(self._shelf.path(part["file"]), 0, part["size"])

    def abort(self, request: Request) -> Answer:
        """Give an upload up: `DELETE ?uploadId=…`."""
        with self._world.lock:
            self.drop(self._upload(request)[0])
        return Answer(status=204)

    def drop(self, id_: str) -> None:
        """Forget an upload and its parts; the world's lock is held."""
        upload = self._world.store.get("multipart-upload", id_) or {"parts": {}}
        for part in upload["parts"].values():
            self._shelf.path(part["file"]).unlink(missing_ok=True)
        self._world.store.delete("multipart-upload", id_)


def _listed(body: bytes) -> list[tuple[str, str]]:
    """Return number and entity tag of each part that is to be joined, as the client lists them."""
    if b"<!" in body:  # no document type, hence no entities: nothing here can grow
        raise _malformed()
    try:
        root = ET.fromstring(body)  # noqa: S314 - see above
    except ET.ParseError:
        raise _malformed() from None
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return [
        (part.findtext("PartNumber", ""), part.findtext("ETag", "")) for part in root.iter("Part")
    ]


def _chosen(listed: list[tuple[str, str]], there: Doc) -> list[Doc]:
    numbers = [int(number) for number, _ in listed if number.isdigit()]
    if not numbers or len(numbers) != len(listed):
        raise _malformed()
    if numbers != sorted(set(numbers)):
        raise _refused("InvalidPartOrder", "The list of parts was not in ascending order.")
    parts = []
    for number, etag in listed:
        part = there.get(number)
        if part is None or part["etag"].strip('"') != etag.strip().strip('"'):
            raise _refused("InvalidPart", f"Part {number} was not uploaded with the ETag {etag}.")
        parts.append(part)
    if any(part["size"] < LEAST_PART for part in parts[:-1]):
        raise _refused(
            "EntityTooSmall",
            "Your proposed upload is smaller than the minimum allowed object size.",
        )
    return parts


def _malformed() -> StorageError:
    return _refused("MalformedXML", "The XML you provided was not well-formed or did not validate.")


def _refused(code: str, message: str) -> StorageError:
    return StorageError(400, message, "invalid", Xml(code=code, message=message))


def _document(name: str, **fields: str) -> Answer:
    inner = "".join(f"<{key}>{escape(value)}</{key}>" for key, value in fields.items())
    text = f"<?xml version='1.0' encoding='UTF-8'?><{name} xmlns='{_SPACE}'>{inner}</{name}>"
    return Answer(data=text.encode(), media_type="application/xml; charset=UTF-8")
