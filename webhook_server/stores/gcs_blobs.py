"""Keep blobs on Cloud Storage; agents and people move the bytes past this server.

What proves a blob (docs/google_storage.md): bytes that pass this server are hashed here. Bytes
that an agent puts there itself are proven by size and MD5, which Cloud Storage computes over what
it keeps and the agent over what it has; SHA-256 is then the agent's word, checked by everyone who
reads the blob from this server: the release maker, and `cynthus pull`.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

import requests
from google.api_core.exceptions import NotFound, PreconditionFailed, from_http_status
from google.auth.credentials import Signing
from google.auth.exceptions import GoogleAuthError
from google.cloud.storage import Blob, Bucket, Client
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
from google.cloud.storage.fileio import BlobWriter
from google.cloud.storage.retry import DEFAULT_RETRY

from cynthus.errors import Transient
from webhook_server.settings import Settings
from webhook_server.stores.blob_protocol import (
    Announced,
    DirectPut,
    Measure,
    Receipt,
    StoredBlob,
    is_key,
    is_prefix,
)
from webhook_server.stores.gcs_reader import GcsReader
from webhook_server.stores.gcs_signing import IamSigner, open_signer, signed_url
from webhook_server.stores.google_access import ASK_S, ASK_TIMEOUT, open_credentials, spoken

CHUNK_BYTES = 8 << 20  # a multiple of 256 KiB; one blob in transit costs this much memory
# From here on a cut costs more than the two requests that a resumable upload adds.
SINGLE_PUT_BYTES = 8 << 20
_PLAIN = "application/octet-stream"
# Google's own policy (429, 5xx, broken connections), within what an agent waits for.
_ASK = DEFAULT_RETRY.with_delay(initial=0.25, maximum=2.0, multiplier=2.0).with_timeout(ASK_S)
_MOVE = DEFAULT_RETRY.with_delay(initial=0.25, maximum=8.0, multiplier=2.0).with_timeout(60.0)
_MOVE_TIMEOUT = (3.05, 60.0)
_SHA256, _PROVEN = "sha256", "proven-by-server"  # custom metadata of each object


def open_gcs_blobs(settings: Settings) -> GcsBlobs:
    """Return the store at `gs://bucket/prefix`; asks nothing of Cloud Storage yet.

    Raises: UserError without credentials.
    """
    parts = urlsplit(settings.blob_url)
    # An emulator asks for no token, and still checks what a key file has signed.
    keyless = settings.storage_emulator_host and not settings.google_application_credentials
    signer = open_signer(open_credentials(emulated=bool(keyless)), settings.gcp_iam_url)
    bucket = open_client(settings).bucket(parts.netloc)
    return GcsBlobs(bucket, parts.path.strip("/"), signer)


def open_client(settings: Settings) -> Client:
    """Return Cloud Storage's client. Raises: UserError without credentials."""
    emulator = settings.storage_emulator_host
    credentials = open_credentials(emulated=bool(emulator))
    options = {"api_endpoint": emulator} if emulator else None
    return Client(
        project=settings.gcp_project or None, credentials=credentials, client_options=options
    )


class GcsBlobs:
    """Blobs as objects of one bucket under one prefix."""

    def __init__(self, bucket: Bucket, prefix: str, signer: Signing | None) -> None:
        self._bucket, self._signer = bucket, signer
        self._prefix = f"{prefix}/" if prefix else ""
        self._place = f"gs://{bucket.name}"

    # ── what is there ───────────────────────────────────────────────────────────────────────────

    def has(self, key: str, blob: Announced) -> bool:
        """Return whether exactly this blob is here and proven."""
        found = self._find(key)
        if found is None or found.size != blob.size_bytes:
            return False
        notes = found.metadata or {}
        # What was hashed on its way has no digest among its notes, unless it passed this server.
        if not blob.sha256 or notes.get(_SHA256, blob.sha256) != blob.sha256:
            return False
        # A composite object would have no MD5; signed addresses and sessions make none.
        proven = _PROVEN in notes and _SHA256 in notes
        return proven or (blob.md5 is not None and found.md5_hash == _base64(blob.md5))

    def size(self, key: str) -> int | None:
        """Return the blob's size, or None when it is not here."""
        found = self._find(key)
        return None if found is None else cast("int", found.size)

    def usage(self, prefix: str) -> tuple[int, int]:
        """Return how many blobs lie under `prefix`, with their bytes."""
        with self._spoken():
            found = self._bucket.client.list_blobs(
                self._bucket,
                prefix=f"{self._prefix}{prefix}/",
                fields="items(name,size),nextPageToken",
                timeout=ASK_TIMEOUT,
                retry=_ASK,
            )
            sizes = [item.size for item in found]
        return len(sizes), sum(sizes)

    def proven(self, key: str, blob: Announced) -> bool:
        """Return whether exactly this blob is here and proven: `has` reads no bytes here."""
        return key.endswith(f"/{blob.sha256}") and self.has(key, blob)

    def stored(self, prefix: str) -> Iterator[StoredBlob]:
        """Yield what lies under `prefix`; Cloud Storage gives pages of 1,000 objects.

        https://cloud.google.com/storage/docs/json_api/v1/objects/list
        """
        if not is_prefix(prefix):
            raise ValueError("a prefix is a folder of keys")
        with self._spoken():
            found = self._bucket.client.list_blobs(
                self._bucket,
                prefix=f"{self._prefix}{prefix}",
                fields="items(name,size,timeCreated),nextPageToken",
                timeout=ASK_TIMEOUT,
                retry=_ASK,
            )
            for item in found:
                key = item.name.removeprefix(self._prefix)
                if is_key(key):
                    yield StoredBlob(key=key, size_bytes=item.size, stored_at=item.time_created)

    def delete(self, key: str) -> bool:
        """Remove a blob; return whether it was here. Safe to repeat.

        Where a bucket has soft delete its bytes stay restorable for that long:
        https://cloud.google.com/storage/docs/soft-delete
        """
        target = self._bucket.blob(self._name(key))
        with self._spoken():
            try:
                target.delete(timeout=ASK_TIMEOUT, retry=_ASK)
            except NotFound:
                return False
        return True

    def open(self, key: str) -> BinaryIO | None:
        """Return the blob for reading, checked as it is read, or None when it is not here."""
        found = self._find(key)
        if found is None:
            return None
        return cast("BinaryIO", GcsReader(found, self._spoken, retry=_MOVE, timeout=_MOVE_TIMEOUT))

    # ── through this server ─────────────────────────────────────────────────────────────────────

    def receive(self, key: str, blob: Announced) -> Receipt:
        """Begin to take in a blob of exactly this size, and digest where one was announced.

        Without one its MD5 proves it later, as what did not pass this server.
        """
        notes = {_SHA256: blob.sha256, _PROVEN: "sha256"} if blob.sha256 else {}
        target = self._target(key, notes)
        return _GcsReceipt(self, key, target, blob)

    # ── past this server ────────────────────────────────────────────────────────────────────────

    def direct_put(self, key: str, blob: Announced, life: timedelta) -> DirectPut | None:
        """Return how an agent puts exactly this blob there, in place of what lies there now."""
        target = self._target(key, {_SHA256: blob.sha256} if blob.sha256 else {})
        if blob.md5 is not None:
            target.md5_hash = _base64(blob.md5)
        if blob.size_bytes > SINGLE_PUT_BYTES:
            return self._session(target, blob, self.generation(key))
        if self._signer is None:
            return None
        return self._signed_put(target, blob, self.generation(key), life)

    def _session(self, target: Blob, blob: Announced, generation: int) -> DirectPut:
        """Begin a resumable upload whose address lets its holder put this one object, no other.

        Cloud Storage holds it to the size, the precondition and the metadata given here, and ends
        it after a week: https://cloud.google.com/storage/docs/resumable-uploads#session-uris
        """
        with self._spoken():
            url = target.create_resumable_upload_session(
                content_type=_PLAIN,
                size=blob.size_bytes,
                if_generation_match=generation,
                checksum=None,
                timeout=ASK_TIMEOUT,
                retry=_ASK,
            )
        return DirectPut(url=url, resumable=True)

    def _signed_put(
        self, target: Blob, blob: Announced, generation: int, life: timedelta
    ) -> DirectPut:
        # The payload itself stays unsigned: nothing says that Cloud Storage compares
        # x-goog-content-sha256 with what arrives. Size and precondition it does enforce:
        # https://cloud.google.com/storage/docs/xml-api/reference-headers
        headers = {
            "content-type": _PLAIN,
            "x-goog-content-length-range": f"{blob.size_bytes},{blob.size_bytes}",
            "x-goog-if-generation-match": str(generation),
        }
        if blob.sha256:
            headers[f"x-goog-meta-{_SHA256}"] = blob.sha256
        if blob.md5 is not None:
            headers["content-md5"] = _base64(blob.md5)
        assert self._signer is not None  # noqa: S101 - the caller has looked
        # The library adds the host to the headers that it is given: a copy, the agent adds its own.
        url = signed_url(target, self._signer, "PUT", life, headers=dict(headers))
        return DirectPut(url=url, headers=headers)

    def direct_url(self, key: str, disposition: str, life: timedelta) -> str | None:
        """Return an address that hands the blob out as a download."""
        if self._signer is None:
            return None
        return signed_url(
            self._target(key, None),
            self._signer,
            "GET",
            life,
            response_disposition=disposition,
            response_type=_PLAIN,
        )

    def close(self) -> None:
        """End kept connections. Safe to repeat."""
        self._bucket.client.close()
        if isinstance(self._signer, IamSigner):
            self._signer.close()

    # ── shared ──────────────────────────────────────────────────────────────────────────────────

    def generation(self, key: str) -> int:
        """Return the generation that an upload replaces; 0: it must be the first."""
        found = self._find(key)
        return 0 if found is None else int(found.generation)

    def _find(self, key: str) -> Blob | None:
        with self._spoken():
            return self._bucket.get_blob(self._name(key), timeout=ASK_TIMEOUT, retry=_ASK)

    def _target(self, key: str, notes: dict[str, str] | None) -> Blob:
        target = self._bucket.blob(self._name(key))
        if notes is not None:
            target.metadata = notes
        return target

    def _name(self, key: str) -> str:
        if not is_key(key):
            raise ValueError("a blob key is made by blob_key")
        return self._prefix + key

    def _spoken(self) -> Any:
        return _storage_spoken(self._place)


@contextmanager
def _storage_spoken(place: str) -> Iterator[None]:
    remedy = f"Grant it roles/storage.objectUser on {place}."
    with spoken(place, remedy):
        try:
            with _translated_uploads():
                yield
        except PreconditionFailed as error:
            raise Transient(f"{place}: another upload was faster. Try again.") from error
        except NotFound as error:
            raise Transient(
                f"{place}: should exist, found no such bucket or object."
                " Make it with `cynthus gcp setup-storage`, then try again."
            ) from error
        except DataCorruption as error:
            raise Transient(f"{place}: keeps other bytes than were sent. Try again.") from error


@contextmanager
def _translated_uploads() -> Iterator[None]:
    try:
        yield
    except InvalidResponse as error:  # the one exception that the library does not translate
        raise from_http_status(error.response.status_code, str(error.args[0])) from error


class _GcsReceipt:
    """A resumable upload that is ended only once all bytes are known to be right."""

    def __init__(self, store: GcsBlobs, key: str, target: Blob, blob: Announced) -> None:
        self._store, self._key, self._target, self._blob = store, key, target, blob
        self._measure = Measure(blob)
        self._writer: BlobWriter | None = None

    def write(self, chunk: bytes) -> None:
        self._measure.add(chunk)
        with _storage_spoken(self._target.bucket.name):
            self._opened().write(chunk)

    def _opened(self) -> BlobWriter:
        if self._writer is None:
            self._writer = self._target.open(
                "wb",
                chunk_size=CHUNK_BYTES,
                content_type=_PLAIN,
                if_generation_match=self._over(),
                checksum="crc32c",
                retry=_MOVE,
                timeout=_MOVE_TIMEOUT,
            )
        return self._writer

    def _over(self) -> int:
        over = self._blob.over
        return self._store.generation(self._key) if over is None else over

    def finish(self) -> None:
        self._measure.check()
        try:
            with _storage_spoken(self._target.bucket.name):
                self._opened().close()
        except Transient:
            # The answer may be lost, or a twin was faster: what counts is what lies there now.
            if not self._store.has(self._key, self._blob):
                raise
        self._writer = None

    def abort(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None and not writer.closed:
            with suppress(requests.RequestException, GoogleAuthError):
                writer.terminate()


def _base64(hex_digest: str) -> str:
    return base64.b64encode(bytes.fromhex(hex_digest)).decode()
