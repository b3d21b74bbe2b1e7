"""Say how a bucket for blobs should be, or how one differs from that. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from cynthus.errors import UserError
from webhook_server.settings_faults import BLOB_URL

Rule = Mapping[str, Any]

# Cloud Storage counts in days. Our own uploads end by themselves after a week; parts of others'
# would be kept, and paid for, without end: https://cloud.google.com/storage/docs/lifecycle
_ABORT_DAYS = 7
_LABELS = {"managed-by": "cynthus"}


@dataclass(frozen=True, kw_only=True)
class BucketPlace:
    """Which bucket, and where it is to lie when it has to be made."""

    name: str
    prefix: str  # of the blobs in it; empty: they have it for themselves
    location: str
    location_was_asked: bool  # then a bucket elsewhere is a fault: it cannot be moved


def bucket_place(
    blob_url: str, bucket: str | None, location: str | None, regions: Sequence[str]
) -> BucketPlace:
    """Return the bucket that is meant: `bucket`, or the one of `blob_url`.

    Raises: UserError when no bucket, or none that can exist, is named.
    """
    url = f"gs://{bucket}" if bucket else blob_url
    if not url.startswith("gs://") or not BLOB_URL.match(url) or (bucket and "/" in bucket):
        raise UserError(
            "--bucket: should be a name of 3 to 63 lower-case letters, digits, `-`, `_` or `.`,"
            f" found {bucket or blob_url or 'nothing'!r}. Write one, or set"
            " CYNTHUS_BLOB_URL=gs://BUCKET/PREFIX."
        )
    parts = urlsplit(url)
    same = urlsplit(blob_url).netloc == parts.netloc
    return BucketPlace(
        name=parts.netloc,
        prefix=urlsplit(blob_url).path.strip("/") if same else "",
        location=location or _region(regions[0] if regions else "us-central1"),
        location_was_asked=location is not None,
    )


def _region(place: str) -> str:
    """Return the region of a region or zone: us-central1-a lies in us-central1."""
    return "-".join(place.split("-")[:2])


@dataclass(frozen=True, kw_only=True)
class BucketShape:
    """What of a bucket matters to us, as it should be or as it is."""

    uniform_access: bool = True  # no ACLs: who may read is said in one place
    public_access: str = "enforced"  # "enforced": no policy can ever open it to everyone
    soft_delete_s: int = 0  # deleted blobs are not kept, nor paid for
    versioning: bool = False  # as above
    kms_key: str = ""  # empty: Google's own keys
    labels: Mapping[str, str] = field(default_factory=lambda: dict(_LABELS))
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One thing that is not as it should be."""

    what: str
    should: str
    found: str

    def __str__(self) -> str:
        return f"{self.what}: should be {self.should}, found {self.found}"


def wanted_shape(prefix: str, blob_days: int, kms_key: str) -> BucketShape:
    """Return how the bucket should be; `blob_days` 0 keeps blobs for ever."""
    return BucketShape(kms_key=kms_key, rules=tuple(_rules(prefix, blob_days)))


def _rules(prefix: str, blob_days: int) -> list[Rule]:
    under = {"matchesPrefix": [f"{prefix}/"]} if prefix else {}
    abort = {"type": "AbortIncompleteMultipartUpload"}
    rules: list[Rule] = [{"action": abort, "condition": {"age": _ABORT_DAYS, **under}}]
    if blob_days:
        rules.append({"action": {"type": "Delete"}, "condition": {"age": blob_days, **under}})
    return rules


def differences(wanted: BucketShape, found: BucketShape) -> tuple[Difference, ...]:
    """Return everything that is not as wanted; what we have no opinion on is left alone."""
    pairs: list[tuple[str, object, object]] = [
        ("uniform bucket-level access", wanted.uniform_access, found.uniform_access),
        ("public access prevention", wanted.public_access, found.public_access),
        ("soft delete, in seconds", wanted.soft_delete_s, found.soft_delete_s),
        ("object versioning", wanted.versioning, found.versioning),
        ("labels", dict(wanted.labels), _only(found.labels, wanted.labels)),
        ("lifecycle rules", _told(wanted.rules), _told(_ours(wanted.rules, found.rules))),
    ]
    if wanted.kms_key:  # another key, or none, may be the operator's wish
        pairs.append(("default KMS key", wanted.kms_key, found.kms_key))
    return tuple(
        Difference(what=what, should=_shown(should), found=_shown(is_))
        for what, should, is_ in pairs
        if should != is_
    )


def mended_rules(wanted: BucketShape, found: BucketShape) -> tuple[Rule, ...]:
    """Return the rules to set: ours, with those of others that were there."""
    ours = _ours(wanted.rules, found.rules)
    return (*(rule for rule in found.rules if rule not in ours), *wanted.rules)


def _ours(wanted: tuple[Rule, ...], found: tuple[Rule, ...]) -> list[Rule]:
    """Return the found rules that we once made: an age and our prefix, nothing else."""
    scope = [_scope(rule) for rule in wanted[:1]]
    kinds = {"AbortIncompleteMultipartUpload", "Delete"}
    return [
        rule
        for rule in found
        if rule["action"]["type"] in kinds
        and _scope(rule) in scope
        and set(rule["condition"]) <= {"age", "matchesPrefix"}
    ]


def _scope(rule: Rule) -> tuple[str, ...]:
    return tuple(rule["condition"].get("matchesPrefix", ()))


def _told(rules: Any) -> list[str]:
    return sorted(
        f"{rule['action']['type']} after {rule['condition'].get('age')} days" for rule in rules
    )


def _only(found: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in found.items() if key in wanted}


def _shown(value: object) -> str:
    match value:
        case bool():
            return "on" if value else "off"
        case dict():
            return ", ".join(f"{k}={v}" for k, v in sorted(value.items())) or "none"
        case list():
            return "; ".join(value) or "none"
        case _:
            return str(value) or "none"
