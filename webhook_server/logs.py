"""Write one line for each thing that happened, never a secret."""

from __future__ import annotations

import logging

from webhook_server.runs.redact import Redactor
from webhook_server.settings import Secret, Settings


class _Masked(logging.Formatter):
    """The last step before a line is written: also tracebacks pass here."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S%z")
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a line break in a value cannot fake another line."""
        text = self._redactor.text(super().format(record))
        return text if record.exc_info else text.replace("\n", "\\n").replace("\r", "\\r")


def set_up(settings: Settings, server_key: bytes) -> None:
    """Log to standard error at the level of the settings."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Masked(Redactor(_known(settings, server_key))))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level)
    # uvicorn tells of requests that were cut off; we count them, and log what matters ourselves.
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    for chatty in ("urllib3", "github", "docker", "alembic", "google"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _known(settings: Settings, server_key: bytes) -> set[str]:
    secrets = {value for value in vars(settings).values() if isinstance(value, Secret) and value}
    parts = {part.strip() for part in settings.webhook_secret.split(",") if part.strip()}
    password = settings.database_url.partition("://")[2].rpartition("@")[0].partition(":")[2]
    return {*secrets, *parts, server_key.hex(), *({password} if password else set())}
