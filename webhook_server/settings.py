"""Read the environment once into one frozen `Settings`."""

# ruff: noqa: RUF009 - `_setting` makes a dataclass field

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from cynthus.errors import UserError

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
_USD = re.compile(r"[0-9]{1,9}(\.[0-9]{1,2})?", re.ASCII)  # less than a billion, in cents

T = TypeVar("T")


class Secret(str):
    """Text that does not show itself in a repr or a log."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Hide the value."""
        return "***"


def _setting(env: str, default: T, doc: str, *, whose: str = "CYNTHUS_") -> T:
    return field(default=default, metadata={"env": f"{whose}{env}", "doc": doc})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every setting of the server; the metadata is what docs/settings.md is generated from."""

    host: str = _setting("HOST", "127.0.0.1", "address to listen on")
    port: int = _setting("PORT", 8080, "port to listen on; 0 takes a free one")
    public_url: str = _setting(
        "PUBLIC_URL",
        "",
        "address under which GitHub, agents and people reach the server; default: the one it"
        " listens on",
    )
    state_dir: Path = _setting(
        "STATE_DIR",
        Path("cynthus-state"),
        "folder for the database, blobs, secrets and the server key",
    )
    database_url: str = _setting(
        "DATABASE_URL",
        "",
        "`sqlite:///PATH` or `postgresql+psycopg://…`; default: SQLite in the state folder",
    )
    blob_url: str = _setting(
        "BLOB_URL",
        "",
        "`file:///PATH`, or `gs://BUCKET/PREFIX` of Cloud Storage (google_storage.md); default: a"
        " folder in the state folder",
    )
    blob_days: int = _setting(
        "BLOB_DAYS",
        0,
        "days that Cloud Storage keeps a run's outputs, by a rule that `cynthus gcp setup-storage`"
        " gives the bucket; 0: for ever",
    )
    secrets_url: str = _setting(
        "SECRETS_URL",
        "",
        "`file:///PATH` (encrypted), or `gcp://PROJECT` for Secret Manager (google_storage.md);"
        " default: a folder in the state folder",
    )
    server_key: Secret = _setting(
        "SERVER_KEY",
        Secret(),
        "the key from which all tokens are derived, 64 hex digits, the same for every replica;"
        " default: made once in the state folder",
    )
    signing_key: Secret = _setting(
        "SIGNING_KEY",
        Secret(),
        "private key that signs the provenance of releases: Ed25519 or ECDSA P-256, PEM text or the"
        " path of a PEM file; empty: they are not signed",
    )
    allowed: tuple[str, ...] = _setting(
        "ALLOWED",
        (),
        "owners, `owner/repo`, or numeric ids that may use this server, comma separated; default:"
        " what was chosen at `/setup`",
    )
    webhook_secret: Secret = _setting(
        "WEBHOOK_SECRET",
        Secret(),
        "the GitHub App's webhook secret, at least 24 bytes; two, comma separated, while it is"
        " being rotated; default: that of the App made at `/setup`",
    )
    github_api_url: str = _setting("GITHUB_API_URL", "https://api.github.com", "GitHub's REST API")
    github_uploads_url: str = _setting(
        "GITHUB_UPLOADS_URL", "", "GitHub's upload host; default: the one that the API names"
    )
    github_app_id: str = _setting(
        "GITHUB_APP_ID",
        "",
        "id of the GitHub App; default: the App made at `/setup` ([setup.md](setup.md)); none: no"
        " GitHub (runs are submitted by the command line only)",
    )
    github_private_key: Secret = _setting(
        "GITHUB_PRIVATE_KEY",
        Secret(),
        "the App's private key (PEM text, or the path of a PEM file); default: that of the App made"
        " at `/setup`",
    )
    github_write_spacing: timedelta = _setting(
        "GITHUB_WRITE_SPACING",
        timedelta(seconds=1),
        "least time between two writes to GitHub, in seconds; GitHub asks for one second",
    )
    oidc_issuer: str = _setting(
        "OIDC_ISSUER",
        "https://token.actions.githubusercontent.com",
        "issuer of the workflow jobs' tokens, compared exactly",
    )
    oidc_audience: str = _setting("OIDC_AUDIENCE", "cynthus", "audience that the tokens must name")
    api_token: Secret = _setting(
        "API_TOKEN",
        Secret(),
        "operator's token for the command line and the dashboard, at least 24 bytes; empty: both"
        " answer loopback only, and only without a proxy",
    )
    provider: str = _setting("PROVIDER", "local", "provider of specs that name none")
    bundles_dir: str = _setting(
        "BUNDLES_DIR",
        "",
        "folder from which `file://` images may run as plain processes, for repositories that"
        " trust each other: each may name any bundle in it; empty: none may",
    )
    local_slots: int = _setting(
        "LOCAL_SLOTS", 0, "runs at a time on this machine; 0: half its cores, at least one"
    )
    gcp_project: str = _setting(
        "GCP_PROJECT", "", "Google Cloud project that lends instances; empty: no Google Cloud"
    )
    gcp_places: tuple[str, ...] = _setting(
        "GCP_PLACES",
        ("us-central1", "us-east1", "us-west1", "europe-west4"),
        "regions or zones for specs that name none, in order, comma separated",
    )
    gcp_image: str = _setting(
        "GCP_IMAGE",
        "projects/cos-cloud/global/images/family/cos-stable",
        "boot image: a Container-Optimized OS or an Ubuntu accelerator image (family or image)",
    )
    gcp_driver: str = _setting(
        "GCP_DRIVER",
        "",
        "NVIDIA driver of the instances, a branch (580) or a version (580.126.09), which"
        " Container-Optimized OS installs, or `default`: whatever its release takes; empty: 580"
        " there for T4 and newer, and on Ubuntu what the image's name says",
    )
    gcp_agent_image: str = _setting(
        "GCP_AGENT_IMAGE",
        "",
        "image of the agent, by digest, that the instances pull; empty: they fetch /agent.pyz and"
        " need Python on their boot image",
    )
    gcp_network: str = _setting(
        "GCP_NETWORK", "global/networks/default", "network of the instances"
    )
    gcp_subnetwork: str = _setting(
        "GCP_SUBNETWORK",
        "",
        "name of the subnetwork in every region; empty: the network's own automatic one",
    )
    gcp_external_ip: int = _setting(
        "GCP_EXTERNAL_IP",
        0,
        "1 gives instances an external address; 0: none, they need Private Google Access or NAT",
    )
    gcp_service_account: str = _setting(
        "GCP_SERVICE_ACCOUNT",
        "",
        "service account of the instances: it should read the image registry and nothing else;"
        " empty: nothing is lent from Google Cloud",
    )
    gcp_compute_url: str = _setting(
        "GCP_COMPUTE_URL", "", "Compute Engine's API; empty: the real service"
    )
    gcp_secrets_url: str = _setting(
        "GCP_SECRETS_URL", "", "Secret Manager's API; empty: the real service"
    )
    gcp_iam_url: str = _setting(
        "GCP_IAM_URL", "", "IAM Credentials' API, for signed URLs; empty: the real service"
    )
    storage_emulator_host: str = _setting(
        "STORAGE_EMULATOR_HOST",
        "",
        "Cloud Storage's API, such as http://127.0.0.1:9023; empty: the real service",
        whose="",
    )
    google_application_credentials: str = _setting(
        "GOOGLE_APPLICATION_CREDENTIALS",
        "",
        "key or federation file for Google Cloud, read by Google's libraries; default: the account"
        " of the instance that this server runs on",
        whose="",
    )
    gcp_billing_url: str = _setting(
        "GCP_BILLING_URL", "", "Cloud Billing's API, for prices; empty: the real service"
    )
    gcp_certs_url: str = _setting(
        "GCP_CERTS_URL",
        "https://www.googleapis.com/oauth2/v3/certs",
        "Google's public keys, against which instance identity tokens are verified",
    )
    hf_url: str = _setting("HF_URL", "https://huggingface.co", "Hugging Face's hub")
    kaggle_url: str = _setting("KAGGLE_URL", "https://api.kaggle.com", "Kaggle's API")
    data_buckets: tuple[str, ...] = _setting(
        "DATA_BUCKETS",
        (),
        "which repository may stage from which `gs://` source, with this server's own rights:"
        " `ID=gs://BUCKET/PREFIX/` with GitHub's number of the repository, comma separated;"
        " default: none from any (data.md)",
    )
    repository_budget: str = _setting(
        "REPOSITORY_BUDGET",
        "",
        "USD that one repository may spend in a month, counting what its live runs may still cost;"
        " empty: no limit",
    )
    owner_budget: str = _setting(
        "OWNER_BUDGET",
        "",
        "USD that all repositories of one owner may spend in a month, counted alike; empty: no"
        " limit",
    )
    max_duration: timedelta = _setting(
        "MAX_DURATION", timedelta(hours=24), "longest run this server allows, in seconds"
    )
    build_limit: timedelta = _setting(
        "BUILD_LIMIT", timedelta(hours=1), "longest wait for the Action's image, in seconds"
    )
    log_limit_bytes: int = _setting(
        "LOG_LIMIT_BYTES", 64 << 20, "log kept of one attempt; more is counted and left out"
    )
    output_limit_bytes: int = _setting(
        "OUTPUT_LIMIT_BYTES",
        20 << 30,
        "outputs kept of one attempt, all files together; more is left out and said",
    )
    output_limit_files: int = _setting(
        "OUTPUT_LIMIT_FILES",
        100_000,
        "output files kept of one attempt; beyond the first 500 small ones they are packed",
    )
    checkpoint_limit_bytes: int = _setting(
        "CHECKPOINT_LIMIT_BYTES",
        100 << 30,
        "largest checkpoint that is saved; of each run (and rank) the newest two are kept",
    )
    checkpoint_days: int = _setting(
        "CHECKPOINT_DAYS",
        7,
        "days that a finished run's checkpoints are kept, for `retry` and `reproduce`",
    )
    data_cache_bytes: int = _setting(
        "DATA_CACHE_BYTES",
        100 << 30,
        "cached data kept in the blob store for one repository (data.md); what was used longest"
        " ago goes first, never what a live run uses",
    )
    data_cache_days: int = _setting(
        "DATA_CACHE_DAYS", 30, "days that cached data is kept unused; 0: for ever"
    )
    gcp_kms_key: str = _setting(
        "GCP_KMS_KEY",
        "",
        "`projects/P/locations/L/keyRings/R/cryptoKeys/K`: encrypts the disks of instances, and is"
        " the bucket's default key; empty: Google's own keys",
    )
    trail_months: int = _setting(
        "TRAIL_MONTHS",
        24,
        "months that the trail is kept (observability.md); 0: for ever",
    )
    ready_file: str = _setting(
        "READY_FILE", "", "file that gets the server's address as JSON once it answers"
    )
    log_level: str = _setting("LOG_LEVEL", "INFO", "DEBUG, INFO, WARNING or ERROR")
    log_format: str = _setting(
        "LOG_FORMAT", "text", "text for people, json for programs (observability.md)"
    )
    otel_endpoint: str = _setting(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "",
        "collector of traces (OTLP over HTTP), such as http://127.0.0.1:4318; needs the extra"
        " `otel`; empty: nothing is traced",
        whose="",
    )

    @property
    def github_configured(self) -> bool:
        """Return whether this server is the back end of a GitHub App."""
        return bool(self.github_app_id)

    @property
    def hubs(self) -> dict[str, str]:
        """Return the addresses of the hubs, by the scheme of their sources."""
        return {"hf": self.hf_url.rstrip("/"), "kaggle": self.kaggle_url.rstrip("/")}

    @property
    def repository_budget_usd(self) -> Decimal | None:
        """Return what one repository may spend in a month; None: no limit."""
        return _amount(self.repository_budget)

    @property
    def owner_budget_usd(self) -> Decimal | None:
        """Return what all repositories of one owner may spend in a month; None: no limit."""
        return _amount(self.owner_budget)


def read(environment: Mapping[str, str] | None = None) -> Settings:
    """Read settings from `environment` (default: the process's, over the file `.env`).

    Raises: UserError naming each variable, what it should be and what was found.
    """
    source = {**_dotenv(), **os.environ} if environment is None else environment
    values: dict[str, Any] = {}
    for item in fields(Settings):
        text = source.get(item.metadata["env"], "").strip()
        if text:
            values[item.name] = _convert(item.metadata["env"], item.default, text)
    settings = Settings(**values)
    found = list(faults(settings))
    if found:
        raise UserError("\n".join(found))
    return settings


def _convert(name: str, default: object, text: str) -> object:
    if isinstance(default, Secret):
        return Secret(text)
    if isinstance(default, Path):
        return Path(text)
    if isinstance(default, tuple):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if isinstance(default, timedelta):
        return _seconds(name, text)
    if isinstance(default, int):
        if not text.isascii() or not text.isdigit():
            raise UserError(f"{name}: should be a whole number, found {text!r}. Write digits only.")
        return int(text)
    return text


def _seconds(name: str, text: str) -> timedelta:
    try:
        return timedelta(seconds=float(Decimal(text)))
    except (InvalidOperation, OverflowError, ValueError):
        raise UserError(
            f"{name}: should be seconds, found {text!r}. Write a number such as 3600 or 0.5."
        ) from None


def _dotenv() -> dict[str, str]:
    path = Path(".env")
    if not path.is_file():
        return {}
    pairs = (line.split("=", 1) for line in path.read_text("utf-8").splitlines() if "=" in line)
    return {
        key.strip(): value.strip().strip("\"'") for key, value in pairs if not key.startswith("#")
    }


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
    for name, text in (
        ("REPOSITORY_BUDGET", settings.repository_budget),
        ("OWNER_BUDGET", settings.owner_budget),
    ):
        if text and _amount(text) is None:
            yield (
                f"CYNTHUS_{name}: should be US dollars with at most two decimals, found {text!r}."
                " Write a plain number such as 500 or 99.50, or leave it empty for no limit."
            )


def _amount(text: str) -> Decimal | None:
    return Decimal(text) if _USD.fullmatch(text) else None


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
