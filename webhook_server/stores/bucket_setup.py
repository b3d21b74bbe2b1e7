"""Look at the bucket for blobs; make it, or put right what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass

from google.api_core.exceptions import Conflict
from google.cloud.storage import Bucket, Client
from google.cloud.storage.constants import PUBLIC_ACCESS_PREVENTION_ENFORCED

from cynthus.errors import UserError
from webhook_server.stores.bucket_rules import BucketPlace, BucketShape, differences, mended_rules
from webhook_server.stores.google_access import ASK_RETRY, ASK_TIMEOUT, spoken

_REMEDY = (
    "Run this as somebody with roles/storage.admin in the project. With a KMS key, let Cloud"
    " Storage use it: `gcloud storage service-agent --authorize-cmek KEY`."
)


@dataclass(frozen=True, kw_only=True)
class Findings:
    """How the bucket is."""

    bucket: Bucket | None  # None: there is none
    wrong: tuple[str, ...]  # a sentence each


def look(client: Client, place: BucketPlace, wanted: BucketShape) -> Findings:
    """Return everything that is wrong with the bucket; changes nothing.

    Raises: UserError for what cannot be put right, Transient, Refused.
    """
    with spoken(f"gs://{place.name}", _REMEDY):
        bucket = client.lookup_bucket(place.name, timeout=ASK_TIMEOUT, retry=ASK_RETRY)
    if bucket is None:
        missing = f"gs://{place.name}: should exist, found no such bucket"
        return Findings(bucket=None, wrong=(missing,))
    _check_location(bucket, place)
    wrong = differences(wanted, shape_of(bucket))
    return Findings(bucket=bucket, wrong=tuple(f"gs://{place.name}: {one}" for one in wrong))


def put_right(client: Client, place: BucketPlace, wanted: BucketShape, found: Findings) -> None:
    """Make the bucket, or set what differs. Safe to repeat after another `look`.

    Raises: UserError when somebody else has the name, Transient, Refused.
    """
    with spoken(f"gs://{place.name}", _REMEDY):
        if found.bucket is None:
            _create(client, place, wanted)
            return
        _apply(found.bucket, wanted, shape_of(found.bucket))
        # Whoever changed the bucket meanwhile meant it: then this fails, and is run again.
        found.bucket.patch(
            if_metageneration_match=found.bucket.metageneration,
            timeout=ASK_TIMEOUT,
            retry=ASK_RETRY,
        )


def shape_of(bucket: Bucket) -> BucketShape:
    """Return what Cloud Storage says of a bucket."""
    access = bucket.iam_configuration
    return BucketShape(
        uniform_access=bool(access.uniform_bucket_level_access_enabled),
        public_access=str(access.public_access_prevention or "inherited"),
        soft_delete_s=int(bucket.soft_delete_policy.retention_duration_seconds or 0),
        versioning=bool(bucket.versioning_enabled),
        kms_key=str(bucket.default_kms_key_name or ""),
        labels=dict(bucket.labels),
        rules=tuple(dict(rule) for rule in bucket.lifecycle_rules),
    )


def default_key(client: Client, name: str) -> str:
    """Return the key that a bucket encrypts with; empty: Google's own.

    Raises: Transient, Refused.
    """
    with spoken(f"gs://{name}", _REMEDY):
        found = client.lookup_bucket(name, timeout=ASK_TIMEOUT, retry=ASK_RETRY)
    return str(found.default_kms_key_name or "") if found is not None else ""


def _create(client: Client, place: BucketPlace, wanted: BucketShape) -> None:
    bucket = client.bucket(place.name)
    _apply(bucket, wanted, BucketShape(rules=(), labels={}))
    try:
        client.create_bucket(bucket, location=place.location, timeout=ASK_TIMEOUT, retry=ASK_RETRY)
    except Conflict as error:
        raise UserError(
            f"--bucket: should be free or yours, found that another project has {place.name!r}."
            " Choose another name: all of Google Cloud shares them."
        ) from error


def _apply(bucket: Bucket, wanted: BucketShape, found: BucketShape) -> None:
    access = bucket.iam_configuration
    access.uniform_bucket_level_access_enabled = wanted.uniform_access
    access.public_access_prevention = PUBLIC_ACCESS_PREVENTION_ENFORCED
    bucket.soft_delete_policy.retention_duration_seconds = wanted.soft_delete_s
    bucket.versioning_enabled = wanted.versioning
    bucket.labels = {**found.labels, **wanted.labels}
    bucket.lifecycle_rules = list(mended_rules(wanted, found))
    if wanted.kms_key:
        bucket.default_kms_key_name = wanted.kms_key


def _check_location(bucket: Bucket, place: BucketPlace) -> None:
    there = str(bucket.location).lower()
    if place.location_was_asked and there != place.location.lower():
        raise UserError(
            f"--location: should be {there}, where gs://{place.name} lies, found"
            f" {place.location!r}. A bucket cannot be moved: leave --location out, or choose"
            " another bucket."
        )
