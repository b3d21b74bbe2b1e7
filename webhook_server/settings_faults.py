"""Judge settings: what keeps a server from starting with them, what does nothing alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from urllib.parse import urlsplit

from webhook_server.settings import Settings

SECRET_BYTES = 24  # 192 bits: cannot be guessed even by one who may try offline
SERVER_KEY_HEX = 64  # 32 bytes, as auth.tokens.KEY_BYTES
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
LOG_FORMATS = ("text", "json")
LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1")

# https://cloud.google.com/storage/docs/buckets#naming; a prefix stays plain, as keys do.
BLOB_URL = re.compile(
    r"\A(file:///.*|gs://(?!goog)[a-z0-9][a-z0-9._-]{1,61}[a-z0-9](/[A-Za-z0-9_-]+)*/?)\Z", re.ASCII
)
# https://cloud.google.com/resource-manager/docs/creating-managing-projects; or its number.
_SECRETS_URL = re.compile(
    r"\A(file:///.*|gcp://([a-z][a-z0-9-]{4,28}[a-z0-9]|[0-9]{6,20}))\Z", re.ASCII
)
# https://cloud.google.com/kms/docs/resource-hierarchy#retrieve_resource_id
KMS_KEY = re.compile(
    r"\Aprojects/[a-z0-9.:-]{1,63}/locations/[a-z0-9-]{1,63}/keyRings/[A-Za-z0-9_-]{1,63}"
    r"/cryptoKeys/[A-Za-z0-9_-]{1,63}\Z",
    re.ASCII,
)
# GitHub's number of a repository: a name can be given up and registered by somebody else.
_DATA_BUCKET = re.compile(
    r"[0-9]{1,20}=gs://(?!goog)[a-z0-9][a-z0-9._-]{1,61}[a-z0-9](/[^,\s*?\[\]#\\]*)?", re.ASCII
)


def faults(settings: Settings) -> Iterator[str]:
    """Tell everything that keeps a server from starting with these settings."""
    yield from _range_faults(settings)
    yield from _budget_faults(settings)
    yield from _url_faults(settings)
    yield from _way_faults(settings)
    yield from _bucket_faults(settings)
    yield from _secret_faults(settings)
    if settings.github_configured:
        yield from _github_faults(settings)


def _range_faults(settings: Settings) -> Iterator[str]:
    zero = timedelta(0)
    if settings.port > 65535:  # noqa: PLR2004 - the last TCP port
        yield f"CYNTHUS_PORT: should be from 0 to 65535, found {settings.port}. Choose another."
    if settings.log_level not in LOG_LEVELS:
        yield (
            f"CYNTHUS_LOG_LEVEL: should be one of {', '.join(LOG_LEVELS)},"
            f" found {settings.log_level!r}. Write one of them."
        )
    if settings.log_format not in LOG_FORMATS:
        yield (
            f"CYNTHUS_LOG_FORMAT: should be text or json, found {settings.log_format!r}."
            " Write one of them."
        )
    if settings.trail_months < 0:
        yield (
            f"CYNTHUS_TRAIL_MONTHS: should be 0 or more, found {settings.trail_months}."
            " Write digits only; 0 keeps the trail for ever."
        )
    for name, duration in (
        ("MAX_DURATION", settings.max_duration),
        ("BUILD_LIMIT", settings.build_limit),
    ):
        if duration <= zero:
            yield f"CYNTHUS_{name}: should be above zero, found {duration}. Write seconds."
    if settings.github_write_spacing < zero:
        yield "CYNTHUS_GITHUB_WRITE_SPACING: should not be negative. Write seconds, such as 1."
    for name, amount in (
        ("LOG_LIMIT_BYTES", settings.log_limit_bytes),
        ("OUTPUT_LIMIT_BYTES", settings.output_limit_bytes),
        ("OUTPUT_LIMIT_FILES", settings.output_limit_files),
        ("CHECKPOINT_LIMIT_BYTES", settings.checkpoint_limit_bytes),
        ("CHECKPOINT_DAYS", settings.checkpoint_days),
        ("DATA_CACHE_BYTES", settings.data_cache_bytes),
    ):
        if amount < 1:
            yield f"CYNTHUS_{name}: should be at least 1, found {amount}. Write digits only."


def _budget_faults(settings: Settings) -> Iterator[str]:
    for name, text, usd in (
        ("REPOSITORY_BUDGET", settings.repository_budget, settings.repository_budget_usd),
        ("OWNER_BUDGET", settings.owner_budget, settings.owner_budget_usd),
    ):
        if text and usd is None:
            yield (
                f"CYNTHUS_{name}: should be US dollars with at most two decimals, found {text!r}."
                " Write a plain number such as 500 or 99.50, or leave it empty for no limit."
            )


def _url_faults(settings: Settings) -> Iterator[str]:
    for name, url in (
        ("PUBLIC_URL", settings.public_url),
        ("GITHUB_API_URL", settings.github_api_url),
        ("GITHUB_UPLOADS_URL", settings.github_uploads_url),
        ("OIDC_ISSUER", settings.oidc_issuer),
        ("GCP_COMPUTE_URL", settings.gcp_compute_url),
        ("GCP_BILLING_URL", settings.gcp_billing_url),
        ("GCP_SECRETS_URL", settings.gcp_secrets_url),
        ("GCP_IAM_URL", settings.gcp_iam_url),
        ("HF_URL", settings.hf_url),
        ("KAGGLE_URL", settings.kaggle_url),
    ):
        if url and not _is_web_url(url):
            yield (
                f"CYNTHUS_{name}: should be https://HOST (http only for this machine),"
                f" found {url!r}. Write the whole address, without user name or query."
            )
    if settings.otel_endpoint and not settings.otel_endpoint.startswith(("http://", "https://")):
        yield (
            "OTEL_EXPORTER_OTLP_ENDPOINT: should begin with http:// or https://,"
            f" found {settings.otel_endpoint!r}. Write the collector's whole address."
        )
    if settings.database_url and not settings.database_url.startswith(
        ("sqlite:///", "postgresql+psycopg://")
    ):
        # The value may carry a password, so it is not shown.
        yield (
            "CYNTHUS_DATABASE_URL: should begin with sqlite:/// or postgresql+psycopg://,"
            " found something else. Write one of the two forms."
        )
    if settings.blob_url and not BLOB_URL.match(settings.blob_url):
        yield (
            "CYNTHUS_BLOB_URL: should be file:///PATH, or gs://BUCKET/PREFIX with a bucket of 3 to"
            " 63 lower-case letters, digits, `-`, `_` or `.`, found"
            f" {settings.blob_url!r}. Write such an address."
        )
    if settings.gcp_kms_key and not KMS_KEY.match(settings.gcp_kms_key):
        yield (
            "CYNTHUS_GCP_KMS_KEY: should be projects/P/locations/L/keyRings/R/cryptoKeys/K, found"
            f" {settings.gcp_kms_key!r}. Copy the key's resource name."
        )
    if settings.secrets_url and not _SECRETS_URL.match(settings.secrets_url):
        yield (
            "CYNTHUS_SECRETS_URL: should be file:///PATH or gcp://PROJECT, found"
            f" {settings.secrets_url!r}. Write such an address, with the project's id."
        )


def is_protected(url: str) -> bool:
    """Return whether what travels to this address is encrypted, or never leaves this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.hostname or "") in LOOPBACK_NAMES


def _way_faults(settings: Settings) -> Iterator[str]:
    """Tell addresses over which users' data or secrets would travel in plain text."""
    for name, url in (
        ("CYNTHUS_PUBLIC_URL", settings.public_url),
        ("CYNTHUS_HF_URL", settings.hf_url),
        ("CYNTHUS_KAGGLE_URL", settings.kaggle_url),
        ("STORAGE_EMULATOR_HOST", settings.storage_emulator_host),
    ):
        if url and _is_web_url(url) and not is_protected(url):
            yield (
                f"{name}: should be https outside this machine, found {url!r}."
                " Let a proxy in front speak TLS (deploying.md), and write its https address."
            )


def _bucket_faults(settings: Settings) -> Iterator[str]:
    for text in settings.data_buckets:
        if not _DATA_BUCKET.fullmatch(text):
            yield (
                "CYNTHUS_DATA_BUCKETS: should be ID=gs://BUCKET/PREFIX/ with the repository's"
                f" number, found {text!r}. `gh api repos/OWNER/NAME --jq .id` tells the number."
            )


def _is_web_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError:
        return False
    if parts.username or parts.query or parts.fragment or not host:
        return False
    # A name without a dot is a neighbour on a private network (compose, Kubernetes), like loopback.
    return parts.scheme == "https" or (
        parts.scheme == "http" and (host in LOOPBACK_NAMES or "." not in host or _private(host))
    )


def _private(host: str) -> bool:
    import ipaddress

    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host.endswith((".internal", ".local"))


def _secret_faults(settings: Settings) -> Iterator[str]:
    if settings.api_token and _short(settings.api_token):
        yield (
            f"CYNTHUS_API_TOKEN: should have at least {SECRET_BYTES} bytes, found"
            f" {len(settings.api_token.encode())}. Make one with `openssl rand -hex 24`."
        )
    key = settings.server_key
    if key and not _is_hex_key(key):
        yield (
            f"CYNTHUS_SERVER_KEY: should be {SERVER_KEY_HEX} hex digits, found {len(key)}"
            " characters. Make one with `openssl rand -hex 32`."
        )


def _short(secret: str) -> bool:
    return len(secret.encode()) < SECRET_BYTES


def _is_hex_key(text: str) -> bool:
    return len(text) == SERVER_KEY_HEX and all(c in "0123456789abcdefABCDEF" for c in text)


def _github_faults(settings: Settings) -> Iterator[str]:
    secrets = [part.strip() for part in settings.webhook_secret.split(",") if part.strip()]
    if not secrets or any(_short(secret) for secret in secrets):
        yield (
            f"CYNTHUS_WEBHOOK_SECRET: should have at least {SECRET_BYTES} bytes, found"
            f" {min((len(s.encode()) for s in secrets), default=0)}. Set the one of the GitHub"
            " App; make it with `openssl rand -hex 24`."
        )
    if not settings.allowed:
        yield (
            "CYNTHUS_ALLOWED: should name who may use this server, found nothing."
            " Write owners or owner/repo, comma separated."
        )
    if not settings.github_private_key:
        yield (
            "CYNTHUS_GITHUB_PRIVATE_KEY: should be the App's private key, found nothing."
            " Set the PEM text or the path of the PEM file."
        )


def half_set(settings: Settings) -> Iterator[str]:
    """Tell settings that do nothing without another one, or that stand in set-up's way."""
    if not settings.github_configured:
        for name, value in (
            ("WEBHOOK_SECRET", settings.webhook_secret),
            ("GITHUB_PRIVATE_KEY", settings.github_private_key),
        ):
            if value:
                yield (
                    f"CYNTHUS_{name} is set without CYNTHUS_GITHUB_APP_ID: an App that set-up makes"
                    " has its own. Unset it, or set the App's id as well."
                )
    if settings.gcp_project and not settings.gcp_service_account:
        yield (
            "CYNTHUS_GCP_PROJECT is set without CYNTHUS_GCP_SERVICE_ACCOUNT: nothing is lent from"
            " Google Cloud. Name the instances' service account."
        )
    if settings.gcp_service_account and not settings.gcp_project:
        yield (
            "CYNTHUS_GCP_SERVICE_ACCOUNT is set without CYNTHUS_GCP_PROJECT: nothing is lent from"
            " Google Cloud. Name the project."
        )
    if settings.provider == "gcp" and not settings.gcp_project:
        yield "CYNTHUS_PROVIDER is gcp without CYNTHUS_GCP_PROJECT. Name the project."
    if settings.blob_days and not settings.blob_url.startswith("gs://"):
        yield (
            "CYNTHUS_BLOB_DAYS is set without a bucket in CYNTHUS_BLOB_URL: nothing is deleted."
            " Name the bucket, or unset it."
        )
