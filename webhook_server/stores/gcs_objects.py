"""Sign addresses of objects in users' own buckets, each at one generation."""

from __future__ import annotations

from datetime import timedelta

from google.cloud.storage import Client

from webhook_server.settings import Settings
from webhook_server.stores.data_listing import ListedObject
from webhook_server.stores.gcs_blobs import open_client
from webhook_server.stores.gcs_signing import open_signer, signed_url
from webhook_server.stores.google_access import open_credentials


class GcsObjects:
    """Signs with the server's own credentials: what they may read can be staged."""

    def __init__(self, settings: Settings) -> None:
        keyless = settings.storage_emulator_host and not settings.google_application_credentials
        self._signer = open_signer(open_credentials(emulated=bool(keyless)), settings.gcp_iam_url)
        self._client: Client = open_client(settings)

    def address(self, bucket: str, found: ListedObject, life: timedelta) -> str | None:
        """Return an address of this generation, or None where nobody can sign.

        Raises: Transient, Refused when IAM is asked to sign and cannot.
        """
        if self._signer is None:
            return None
        target = self._client.bucket(bucket).blob(found.name)
        return signed_url(target, self._signer, "GET", life, generation=found.generation)
