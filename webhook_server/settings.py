"""What a server can be told: one frozen `Settings`, each with its variable and its words."""

# ruff: noqa: RUF009 - `_setting` makes a dataclass field

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

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


def _amount(text: str) -> Decimal | None:
    return Decimal(text) if _USD.fullmatch(text) else None
