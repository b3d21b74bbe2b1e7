"""Read the environment once into one frozen `Settings`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from pathlib import Path

from cynthus.errors import UserError


class Secret(str):
    """Text that does not show itself in a repr or a log."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Hide the value."""
        return "***"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every setting of the server; the metadata is what docs/settings.md is generated from."""

    host: str = field(
        default="127.0.0.1", metadata={"env": "CYNTHUS_HOST", "doc": "address to listen on"}
    )
    port: int = field(
        default=8080,
        metadata={"env": "CYNTHUS_PORT", "doc": "port to listen on; 0 takes a free one"},
    )
    public_url: str = field(
        default="",
        metadata={
            "env": "CYNTHUS_PUBLIC_URL",
            "doc": "address under which GitHub, agents and people reach the server; default: the one it listens on",
        },
    )
    state_dir: Path = field(
        default=Path("cynthus-state"),
        metadata={
            "env": "CYNTHUS_STATE_DIR",
            "doc": "folder for the database, blobs, secrets and the server key",
        },
    )
    database_url: str = field(
        default="",
        metadata={
            "env": "CYNTHUS_DATABASE_URL",
            "doc": "`sqlite:///PATH` or `postgresql+psycopg://…`; default: SQLite in the state folder",
        },
    )
    blob_url: str = field(
        default="",
        metadata={
            "env": "CYNTHUS_BLOB_URL",
            "doc": "`file:///PATH`; default: a folder in the state folder",
        },
    )
    secrets_url: str = field(
        default="",
        metadata={
            "env": "CYNTHUS_SECRETS_URL",
            "doc": "`file:///PATH` (encrypted); default: a folder in the state folder",
        },
    )
    allowed: tuple[str, ...] = field(
        default=(),
        metadata={
            "env": "CYNTHUS_ALLOWED",
            "doc": "owners, `owner/repo`, or numeric ids that may use this server, comma separated",
        },
    )
    webhook_secret: Secret = field(
        default=Secret(),
        metadata={
            "env": "CYNTHUS_WEBHOOK_SECRET",
            "doc": "the GitHub App's webhook secret, at least 24 bytes; two, comma separated, while it is being rotated",
        },
    )
    github_api_url: str = field(
        default="https://api.github.com",
        metadata={"env": "CYNTHUS_GITHUB_API_URL", "doc": "GitHub's REST API"},
    )
    github_uploads_url: str = field(
        default="",
        metadata={
            "env": "CYNTHUS_GITHUB_UPLOADS_URL",
            "doc": "GitHub's upload host; default: the one that the API names",
        },
    )
    github_app_id: str = field(
        default="",
        metadata={
            "env": "CYNTHUS_GITHUB_APP_ID",
            "doc": "id of the GitHub App; empty: no GitHub (runs are submitted by the command line only)",
        },
    )
    github_private_key: Secret = field(
        default=Secret(),
        metadata={
            "env": "CYNTHUS_GITHUB_PRIVATE_KEY",
            "doc": "the App's private key (PEM text, or the path of a PEM file)",
        },
    )
    oidc_issuer: str = field(
        default="https://token.actions.githubusercontent.com",
        metadata={
            "env": "CYNTHUS_OIDC_ISSUER",
            "doc": "issuer of the workflow jobs' tokens, compared exactly",
        },
    )
    oidc_audience: str = field(
        default="cynthus",
        metadata={"env": "CYNTHUS_OIDC_AUDIENCE", "doc": "audience that the tokens must name"},
    )
    api_token: Secret = field(
        default=Secret(),
        metadata={
            "env": "CYNTHUS_API_TOKEN",
            "doc": "operator's token for the command line and the dashboard, at least 24 bytes; empty: both answer loopback only, and only without a proxy",
        },
    )
    provider: str = field(
        default="local",
        metadata={"env": "CYNTHUS_PROVIDER", "doc": "provider of specs that name none"},
    )
    bundles_dir: str = field(
        default="",
        metadata={
            "env": "CYNTHUS_BUNDLES_DIR",
            "doc": "folder from which `file://` images may run as plain processes; empty: none may",
        },
    )
    local_slots: int = field(
        default=0,
        metadata={
            "env": "CYNTHUS_LOCAL_SLOTS",
            "doc": "runs at a time on this machine; 0: half its cores, at least one",
        },
    )
    max_duration: timedelta = field(
        default=timedelta(hours=24),
        metadata={
            "env": "CYNTHUS_MAX_DURATION",
            "doc": "longest run this server allows, in seconds",
        },
    )
    build_limit: timedelta = field(
        default=timedelta(hours=1),
        metadata={
            "env": "CYNTHUS_BUILD_LIMIT",
            "doc": "longest wait for the Action's image, in seconds",
        },
    )
    log_limit_bytes: int = field(
        default=64 << 20,
        metadata={
            "env": "CYNTHUS_LOG_LIMIT_BYTES",
            "doc": "log kept of one attempt; more is counted and left out",
        },
    )
    ready_file: str = field(
        default="",
        metadata={
            "env": "CYNTHUS_READY_FILE",
            "doc": "file that gets the server's address as JSON once it answers",
        },
    )
    log_level: str = field(
        default="INFO",
        metadata={"env": "CYNTHUS_LOG_LEVEL", "doc": "DEBUG, INFO, WARNING or ERROR"},
    )


def read(environment: Mapping[str, str] | None = None) -> Settings:
    """Read settings from `environment` (default: the process's, over the file `.env`).

    Raises: UserError naming the variable, what it should be and what was found.
    """
    source = {**_dotenv(), **os.environ} if environment is None else environment
    values = {}
    for item in fields(Settings):
        text = source.get(item.metadata["env"], "").strip()
        if text:
            values[item.name] = _convert(item.metadata["env"], item.default, text)
    return Settings(**values)


def _convert(name: str, default: object, text: str) -> object:
    if isinstance(default, Secret):
        return Secret(text)
    if isinstance(default, Path):
        return Path(text)
    if isinstance(default, tuple):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if isinstance(default, (int, timedelta)):
        if not text.isascii() or not text.isdigit():
            raise UserError(f"{name}: should be a whole number, found {text!r}. Write digits only.")
        return timedelta(seconds=int(text)) if isinstance(default, timedelta) else int(text)
    return text


def _dotenv() -> dict[str, str]:
    path = Path(".env")
    if not path.is_file():
        return {}
    pairs = (line.split("=", 1) for line in path.read_text("utf-8").splitlines() if "=" in line)
    return {
        key.strip(): value.strip().strip("\"'") for key, value in pairs if not key.startswith("#")
    }
