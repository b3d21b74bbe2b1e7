"""Cloud Storage's ways of refusing, for its JSON and its XML interface at once.

Wording and reasons: https://cloud.google.com/storage/docs/json_api/v1/status-codes
and https://cloud.google.com/storage/docs/xml-api/reference-status.
"""

from __future__ import annotations

from dataclasses import dataclass
from xml.sax.saxutils import escape

from simulators.gcp_http import Answer, GoogleError


@dataclass(frozen=True, kw_only=True)
class Xml:
    """The words of an XML error; `details` stays empty to repeat the JSON message."""

    code: str
    message: str
    details: str = ""


class StorageError(GoogleError):
    """Storage says no; which of the two languages it is said in depends on the address asked."""

    def __init__(
        self, code: int, message: str, reason: str, xml: Xml, *, location: str | None = None
    ) -> None:
        super().__init__(code, message, reason=reason)
        self.message = message
        self.xml = xml
        if location is not None:
            kind = "parameter" if location[:2] == "if" else "header"
            self.body["error"]["errors"][0] |= {"locationType": kind, "location": location}

    def answer(self) -> Answer:
        """Return it as JSON; Not Modified has no body."""
        if self.code == 304:
            return Answer(status=304)
        return Answer(status=self.code, json=self.body)

    def xml_answer(self) -> Answer:
        """Return it as XML."""
        if self.code == 304:
            return Answer(status=304)
        return xml_refusal(self.code, self.xml, self.message)


def xml_refusal(status: int, xml: Xml, message: str = "") -> Answer:
    """Return one XML error document."""
    parts = {"Code": xml.code, "Message": xml.message, "Details": xml.details or message}
    inner = "".join(f"<{k}>{escape(v)}</{k}>" for k, v in parts.items() if v)
    document = f"<?xml version='1.0' encoding='UTF-8'?><Error>{inner}</Error>"
    return Answer(
        status=status, data=document.encode(), media_type="application/xml; charset=UTF-8"
    )


class InXmlError(GoogleError):
    """A refusal from before the XML interface was reached, said in its language."""

    def __init__(self, error: GoogleError) -> None:
        super().__init__(error.code, str(error))
        self._error = error

    def answer(self) -> Answer:
        """Return it as XML; who shows no token at all is denied there, not asked for one."""
        if self._error.code == 401 and "Anonymous" in str(self._error):
            denied = Xml(code="AccessDenied", message="Access denied.")
            return xml_refusal(403, denied, str(self._error))
        return in_xml(self._error)


def in_xml(error: GoogleError) -> Answer:
    """Return any refusal as the XML interface says it."""
    if isinstance(error, StorageError):
        return error.xml_answer()
    names = {401: "AuthenticationRequired", 403: "AccessDenied", 429: "SlowDown"}
    name = names.get(error.code, "ServiceUnavailable" if error.code >= 500 else "InvalidArgument")
    told = {"AccessDenied": "Access denied.", "AuthenticationRequired": "Authentication required."}
    return xml_refusal(error.code, Xml(code=name, message=told.get(name, str(error))), str(error))


def no_bucket() -> StorageError:
    """Return the refusal for a bucket that is not there."""
    xml = Xml(code="NoSuchBucket", message="The specified bucket does not exist.")
    return StorageError(404, "The specified bucket does not exist.", "notFound", xml)


def no_object(bucket: str, name: str, generation: int | str | None = None) -> StorageError:
    """Return the refusal for an object, or one version of it, that is not there."""
    place = f"{bucket}/{name}" + (f"#{generation}" if generation is not None else "")
    xml = Xml(code="NoSuchKey", message="The specified key does not exist.")
    return StorageError(404, f"No such object: {place}", "notFound", xml)


def bad(
    message: str, *, reason: str = "invalid", xml_code: str = "InvalidArgument"
) -> StorageError:
    """Return the refusal of a request that can never succeed."""
    return StorageError(400, message, reason, Xml(code=xml_code, message="Invalid argument."))


def required(what: str) -> StorageError:
    """Return the refusal of a request that lacks something."""
    return bad(f"Required parameter: {what}", reason="required")


def conflict(message: str, *, xml_code: str) -> StorageError:
    """Return the refusal of a change that what is there forbids."""
    return StorageError(409, message, "conflict", Xml(code=xml_code, message=message))


def condition_not_met(location: str) -> StorageError:
    """Return the refusal of a request whose precondition does not hold."""
    told = "At least one of the pre-conditions you specified did not hold."
    xml = Xml(code="PreconditionFailed", message=told)
    return StorageError(412, told, "conditionNotMet", xml, location=location)


def not_modified(location: str) -> StorageError:
    """Return the answer to a `NotMatch` precondition that does not hold: 304 for every method.

    https://cloud.google.com/storage/docs/request-preconditions
    """
    xml = Xml(code="NotModified", message="Not Modified")
    return StorageError(304, "Not Modified", "notModified", xml, location=location)


def bad_range(size: int) -> StorageError:
    """Return the refusal of a byte range that lies behind the end."""
    told = "The requested range cannot be satisfied."
    xml = Xml(code="InvalidRange", message=told)
    return StorageError(
        416, f"{told} The object has {size} bytes.", "requestedRangeNotSatisfiable", xml
    )


def forbidden(message: str) -> StorageError:
    """Return the refusal of somebody who may not."""
    return StorageError(
        403, message, "forbidden", Xml(code="AccessDenied", message="Access denied.")
    )


def bad_hash(message: str) -> StorageError:
    """Return the refusal of bytes that are not those the client announced."""
    told = "The Content-MD5 or checksum you specified did not match what we received."
    return StorageError(400, message, "invalid", Xml(code="BadDigest", message=told))


def too_fast(bucket: str, name: str) -> StorageError:
    """Return the refusal of a write to an object written a moment ago.

    https://cloud.google.com/storage/quotas#objects: once a second to the same name.
    """
    told = (
        f"The object {bucket}/{name} exceeded the rate limit for object mutation operations "
        "(create, update, and delete). Please reduce your request rate. "
        "See https://cloud.google.com/storage/docs/gcs429."
    )
    return StorageError(429, told, "rateLimitExceeded", Xml(code="SlowDown", message=told))


def legacy_acl() -> StorageError:
    """Return the refusal of access lists where the bucket's policy alone decides."""
    told = (
        "Cannot use ACL API to update bucket policy or object ACL when uniform bucket-level access "
        "is enabled. Read more at https://cloud.google.com/storage/docs/uniform-bucket-level-access"
    )
    return bad(told)
