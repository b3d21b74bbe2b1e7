"""Open the store of secrets that the settings name."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from webhook_server.settings import Settings
from webhook_server.stores.file_secrets import FileSecrets
from webhook_server.stores.secret_protocol import SecretStore


def open_secret_store(settings: Settings, state_dir: Path, server_key: bytes) -> SecretStore:
    """Return the store that `CYNTHUS_SECRETS_URL` names.

    Raises: UserError for Google Cloud without credentials.
    """
    parts = urlsplit(settings.secrets_url)
    if parts.scheme == "gcp":
        # Imported late: Google's libraries cost a second and 60 MiB, and most servers need none.
        from webhook_server.stores.secret_manager import open_manager_secrets

        return open_manager_secrets(settings)
    folder = Path(unquote(parts.path)) if parts.path else state_dir / "secrets"
    return FileSecrets(folder, server_key)
