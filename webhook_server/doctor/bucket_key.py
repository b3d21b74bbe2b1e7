"""Look whether the bucket encrypts with the key that the settings name."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from cynthus.wire_doctor import Finding, fail, ok
from webhook_server.settings import Settings

GOOGLES = "Google's own keys"


def bucket_key(settings: Settings, name: str) -> Sequence[Finding]:
    """Say which key the bucket of CYNTHUS_BLOB_URL has. Raises: UserError, Transient, Refused."""
    # Imported late: Google's libraries take a second, and most servers need none.
    from webhook_server.stores.bucket_setup import default_key
    from webhook_server.stores.gcs_blobs import open_client

    bucket = urlsplit(settings.blob_url).netloc
    found = default_key(open_client(settings), bucket)
    return (key_finding(name, bucket, found, settings.gcp_kms_key),)


def key_finding(name: str, bucket: str, found: str, wanted: str) -> Finding:
    """Compare a bucket's default key with the wanted one."""
    if found == wanted:
        return ok(name, f"gs://{bucket} encrypts with {wanted}")
    return fail(
        name,
        f"gs://{bucket}: should encrypt with {wanted}, found {found or GOOGLES}",
        "Run `cynthus gcp setup-storage`; what lies there already keeps its key until rewritten.",
    )
