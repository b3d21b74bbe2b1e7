"""Look at what the server itself stands on: settings, database, blobs, secrets, disk, providers."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from cynthus.errors import CynthusError
from cynthus.spec import Resources
from cynthus.wire_doctor import Finding, fail, ok, warn
from webhook_server.doctor.bucket_key import bucket_key
from webhook_server.doctor.examine import Check
from webhook_server.providers.provider import Provider, ProviderRefusal
from webhook_server.settings import Settings
from webhook_server.settings_faults import LOOPBACK_NAMES, half_set
from webhook_server.stores.blob_protocol import Announced, BlobStore, blob_key
from webhook_server.stores.database import Database
from webhook_server.stores.durability import durability
from webhook_server.stores.secret_probe import probe
from webhook_server.stores.secret_protocol import SERVER_SCOPE, SecretStore, SecretUnreadable

# An attempt on this machine needs some GB for its image; a database that cannot grow stops all.
_LITTLE_BYTES, _TOO_LITTLE_BYTES = 10 << 30, 1 << 30
_GIB = 1 << 30


@dataclass(frozen=True, kw_only=True)
class House:
    """What is looked at."""

    settings: Settings
    base_url: str
    database: Database
    blobs: BlobStore
    secrets: SecretStore
    providers: dict[str, Provider]
    remarks: tuple[str, ...]  # where set-up and the environment disagree
    now: Callable[[], datetime]


def house_checks(house: House) -> list[Check]:
    """Return the checks, in the order in which they are told."""

    def check(name: str, look: Callable[[House, str], Sequence[Finding]], remedy: str) -> Check:
        return Check(name=name, look=lambda: look(house, name), remedy=remedy)

    return [
        check("settings", _settings, "Look at docs/settings.md."),
        check("public address", _public_url, "Set CYNTHUS_PUBLIC_URL."),
        check("database", _database, "Look at CYNTHUS_DATABASE_URL and the database's own log."),
        check("blobs", _blobs, "Look at CYNTHUS_BLOB_URL and the rights on what it names."),
        check("secrets", _secrets, "Look at CYNTHUS_SECRETS_URL and the rights on what it names."),
        *_key_checks(house),
        check("disk", _disk, "Look at CYNTHUS_STATE_DIR."),
        *(_provider_check(name, provider) for name, provider in sorted(house.providers.items())),
    ]


def _key_checks(house: House) -> list[Check]:
    settings = house.settings
    if not settings.gcp_kms_key or not settings.blob_url.startswith("gs://"):
        return []
    name = "encryption"
    remedy = "Grant the server roles/storage.legacyBucketReader on the bucket."
    return [Check(name=name, look=lambda: bucket_key(settings, name), remedy=remedy)]


def no_app() -> Finding:
    """Say that no App is served."""
    return warn(
        "GitHub App",
        "none is set up: runs come from the command line only",
        "Open /setup on this server.",
    )


def _settings(house: House, name: str) -> Sequence[Finding]:
    told = [*house.remarks, *half_set(house.settings)]
    if not told:
        return (ok(name, "nothing contradicts anything"),)
    return tuple(warn(name, text, "") for text in told)


def _public_url(house: House, name: str) -> Sequence[Finding]:
    place = urlsplit(house.base_url)
    host = place.hostname or ""
    if place.scheme == "https" and host not in LOOPBACK_NAMES:
        return (ok(name, house.base_url),)
    how = "is not https" if host not in LOOPBACK_NAMES else "is this machine's own"
    remedy = "Set CYNTHUS_PUBLIC_URL to the https address under which GitHub reaches the server."
    judge = fail if house.settings.github_configured else warn
    return (judge(name, f"{house.base_url} {how}", remedy),)


def _database(house: House, name: str) -> Sequence[Finding]:
    house.database.set_state("doctor_at", house.now().isoformat())
    found = durability(house.database)
    text = f"{found.engine} at version {found.version}, {found.how}"
    if found.durable:
        return (ok(name, text),)
    remedy = "A power cut may lose runs that were accepted: set fsync and synchronous_commit to on."
    return (warn(name, text, remedy),)


def _blobs(house: House, name: str) -> Sequence[Finding]:
    # Always the same key, so that one small probe stays and no more come.
    key, content = blob_key(0, "doctor", 0, "probe"), house.now().isoformat().encode()
    digest = hashlib.sha256(content).hexdigest()
    receipt = house.blobs.receive(key, Announced(size_bytes=len(content), sha256=digest))
    receipt.write(content)
    receipt.finish()
    blob = house.blobs.open(key)
    if blob is None:
        return (fail(name, "a probe was written and is not there", "Look at CYNTHUS_BLOB_URL."),)
    with blob:
        same = blob.read() == content
    if not same:
        return (fail(name, "a probe came back as other bytes", "Look at CYNTHUS_BLOB_URL."),)
    return (ok(name, f"written and read: {house.settings.blob_url or 'the state folder'}"),)


def _secrets(house: House, name: str) -> Sequence[Finding]:
    try:
        probe(house.secrets)
    except SecretUnreadable as error:
        house.secrets.names(SERVER_SCOPE)  # raises where not even reading is allowed
        remedy = "Runs work; set-up cannot keep an App's keys until the server may write there."
        return (warn(name, str(error), remedy),)
    place = house.settings.secrets_url or "the state folder"
    return (ok(name, f"written, read and removed: {place}"),)


def _disk(house: House, name: str) -> Sequence[Finding]:
    return (disk_finding(name, house.settings.state_dir.resolve()),)


def disk_finding(name: str, folder: Path) -> Finding:
    """Say how much room a folder has."""
    free = shutil.disk_usage(folder).free
    text = f"{free / _GIB:.1f} GiB free at {folder}"
    if free < _TOO_LITTLE_BYTES:
        return fail(name, text, "Make room at once: the database must be able to grow.")
    if free < _LITTLE_BYTES:
        return warn(name, text, "Make room: logs, outputs and images need some.")
    return ok(name, text)


def _provider_check(name: str, provider: Provider) -> Check:
    title = f"provider {name}"

    def look() -> Sequence[Finding]:
        try:
            lent = len(provider.list())
            offers = len(provider.offers(Resources()))
        except ProviderRefusal as refusal:
            remedy = "Look at docs/google_cloud.md." if name == "gcp" else "Look at the refusal."
            return (fail(title, str(refusal), remedy),)
        except CynthusError as error:
            return (fail(title, str(error), "Look at its settings."),)
        return (ok(title, f"answers: {offers} kinds to lend now, {lent} lent"),)

    return Check(name=title, look=look, remedy="Look at its settings and its own status page.")
