"""Who we are towards GitHub, and where it is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from cynthus.errors import UserError
from webhook_server.runs.github_pace import WRITE_SPACING


@dataclass(frozen=True, kw_only=True)
class AppSettings:
    """Who we are towards GitHub, and where it is."""

    api_url: str
    uploads_url: str  # empty: where GitHub's answers say
    app_id: str
    private_key: str  # PEM text, or the path of a PEM file
    write_spacing: timedelta = WRITE_SPACING


def pem(key: str) -> str:
    """Return the PEM text. The value is never shown: it may be the key itself, mistyped."""
    if "-----BEGIN" in key:
        return key.replace("\\n", "\n")  # how a PEM travels in one line of an .env file
    try:
        text = Path(key).read_text("ascii")
    except (OSError, ValueError):
        text = ""
    if "-----BEGIN" not in text:
        raise UserError(
            "CYNTHUS_GITHUB_PRIVATE_KEY: should be the App's private key (PEM), or the path of a "
            "file with it, found neither. Download one on the App's settings page."
        )
    return text


def web_url(api_url: str) -> str:
    """Return where people see what the API at this address tells of.

    https://docs.github.com/enterprise-server/rest/quickstart: a server of one's own has its API
    below the address that people use.
    """
    parts = urlsplit(api_url)
    host = parts.netloc.removeprefix("api.")
    return f"{parts.scheme}://{host}"
