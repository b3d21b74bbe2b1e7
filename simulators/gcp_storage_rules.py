"""What Cloud Storage allows: names, preconditions, byte ranges, patterns. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from simulators.gcp_storage_refusals import bad, bad_range, condition_not_met, not_modified

LONGEST_OBJECT_NAME = 1024  # bytes: https://cloud.google.com/storage/docs/objects#naming
LARGEST_METADATA = (
    8 << 10
)  # bytes, keys and values: https://cloud.google.com/storage/quotas#objects
CLASSES = ("STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE")
_LEGACY_CLASSES = ("MULTI_REGIONAL", "REGIONAL", "DURABLE_REDUCED_AVAILABILITY")


def check_bucket_name(name: str) -> None:
    """Refuse what no bucket may be called: https://cloud.google.com/storage/docs/buckets#naming."""
    parts = name.split(".")
    fits = re.fullmatch(r"[a-z0-9][a-z0-9._-]*[a-z0-9]", name) is not None
    fits &= 3 <= len(name) <= (222 if len(parts) > 1 else 63)
    fits &= all(0 < len(part) <= 63 for part in parts)
    fits &= re.fullmatch(r"\d+(\.\d+){3}", name) is None
    fits &= not name.startswith("goog") and "google" not in name and "g00gle" not in name
    if not fits:
        raise bad(f"Invalid bucket name: '{name}'", xml_code="InvalidBucketName")


def check_object_name(name: str) -> None:
    """Refuse what no object may be called: https://cloud.google.com/storage/docs/objects#naming."""
    size = len(name.encode("utf-8", "surrogatepass"))
    if not name:
        raise bad("Required object name.", reason="required")
    if size > LONGEST_OBJECT_NAME:
        raise bad(
            f"The maximum object length is {LONGEST_OBJECT_NAME} characters, "
            f"but got a name with {size} characters: ''{name[:64]}...''"
        )
    if re.search("[\r\n\ud800-\udfff\ufffe\uffff]", name):
        raise bad(f"Disallowed unicode characters present in object name '{name!r}'")
    if name in {".", ".."} or name.startswith(".well-known/acme-challenge/"):
        raise bad(f"Invalid object name: '{name}'")


def check_class(name: str) -> str:
    """Return a storage class that exists, or refuse."""
    if name not in CLASSES + _LEGACY_CLASSES:
        raise bad(f"Invalid storage class {name}.")
    return name


def check_metadata(metadata: Any) -> dict[str, str]:
    """Return an object's custom metadata, or refuse what is too large or no text."""
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise bad("Invalid value for metadata: it maps text to text.")
    size = sum(len(k.encode()) + len(v.encode()) for k, v in metadata.items())
    if size > LARGEST_METADATA:
        raise bad(
            f"The metadata provided is {size} bytes, which exceeds the limit "
            f"of {LARGEST_METADATA} bytes."
        )
    return dict(metadata)


_FACTS = ("Generation", "Metageneration")


@dataclass(frozen=True, kw_only=True)
class Preconditions:
    """What must hold of an object before a request may touch it, by parameter name."""

    wanted: Mapping[str, int]

    @classmethod
    def read(cls, params: Mapping[str, str], *, source: bool = False) -> Preconditions:
        """Read them from a query; `source` reads those of the object copied from."""
        start = "ifSource" if source else "if"
        names = [f"{start}{fact}{end}" for fact in _FACTS for end in ("Match", "NotMatch")]
        return cls(wanted={n: whole(params[n], n) for n in names if n in params})

    @classmethod
    def from_headers(cls, headers: Mapping[str, str]) -> Preconditions:
        """Read them from the headers of the XML interface, which knows only matches."""
        wanted = {}
        for fact in _FACTS:
            name = f"x-goog-if-{fact.lower()}-match"
            if name in headers:
                wanted[f"if{fact}Match"] = whole(headers[name], name)
        return cls(wanted=wanted)

    def check(self, found: Mapping[str, Any] | None) -> None:
        """Refuse unless all hold of the object, None if there is none.

        https://cloud.google.com/storage/docs/request-preconditions: generation 0 stands for
        absence; a match that fails is 412, a mismatch that fails is 304.
        """
        for name, value in self.wanted.items():
            fact = "metageneration" if "Meta" in name else "generation"
            there = 0 if found is None else int(found[fact])
            if name.endswith("NotMatch"):
                # "If no live object exists, the precondition fails."
                if there == value or found is None:
                    raise not_modified(name)
            elif there != value or (fact == "metageneration" and found is None):
                raise condition_not_met(name)


def whole(text: str, name: str) -> int:
    """Return a number of 64 bits, or refuse."""
    if not re.fullmatch(r"-?\d{1,19}", text.strip()):
        raise bad(f"Invalid long value: '{text}' of {name}.")
    return int(text)


def said(params: Mapping[str, str], name: str) -> bool:
    """Say whether a switch in a query is on: Google's Python client writes `True`."""
    return params.get(name, "").lower() == "true"


@dataclass(frozen=True, kw_only=True)
class Span:
    """A run of bytes within an object."""

    start: int
    length: int


def byte_range(header: str | None, size: int) -> Span | None:
    """Return what a `Range` header asks for; None: all of it (RFC 9110 §14.2).

    Several ranges at once are not served, the whole object is sent instead.
    """
    found = re.fullmatch(r"\s*bytes=(\d*)-(\d*)\s*", header or "")
    if not found or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:  # the last bytes
        length = min(int(last), size)
        if length == 0:
            raise bad_range(size)
        return Span(start=size - length, length=length)
    start, end = int(first), min(int(last) if last else size - 1, size - 1)
    if last and int(last) < start:
        return None  # not a range at all: the header is ignored
    if start >= size:
        raise bad_range(size)
    return Span(start=start, length=end - start + 1)


def glob(pattern: str) -> re.Pattern[str]:
    """Return what `matchGlob` matches with.

    https://cloud.google.com/storage/docs/json_api/v1/objects/list#list-objects-and-prefixes-using-glob
    """
    try:
        return re.compile("".join(_glob_parts(pattern)), re.DOTALL)
    except re.error:  # a range that runs backwards
        raise bad(f"Invalid glob pattern: '{pattern}'") from None


_GLOB = re.compile(r"\*\*/|\*\*|\*|\?|\[[!^]?[^\]]+\]|\{|\}|,|\\.|.", re.DOTALL)


def _glob_parts(pattern: str) -> Iterator[str]:
    plain = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]", "{": "(?:", "}": ")"}
    depth = 0
    for part in _GLOB.findall(pattern):
        depth += (part == "{") - (part == "}")
        if depth < 0:
            raise bad(f"Invalid glob pattern: '{pattern}'")
        if part == "," and depth:
            yield "|"
        elif part in plain:
            yield plain[part]
        elif len(part) > 2 and part[0] == "[":
            negated = "^" if part[1] in "!^" else ""
            inner = re.escape(part[1 + bool(negated) : -1]).replace("\\-", "-")
            yield f"[{negated}{inner}]"
        else:
            yield re.escape(part[-1])
    if depth:
        raise bad(f"Invalid glob pattern: '{pattern}'")
