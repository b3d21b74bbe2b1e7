"""Open the store of blobs that the settings name."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from webhook_server.settings import Settings
from webhook_server.stores.blob_protocol import BlobStore
from webhook_server.stores.file_blobs import FileBlobs


def open_blob_store(settings: Settings, state_dir: Path) -> BlobStore:
    """Return the store that `CYNTHUS_BLOB_URL` names.

    Raises: UserError for Google Cloud without credentials, or without its libraries.
    """
    parts = urlsplit(settings.blob_url)
    if parts.scheme == "gs":
        # Imported late: Google's libraries cost a second and 40 MiB, and most servers need none.
        from webhook_server.stores.gcs_blobs import open_gcs_blobs

        return open_gcs_blobs(settings)
    return FileBlobs(Path(unquote(parts.path)) if parts.path else state_dir / "blobs")
