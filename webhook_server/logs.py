"""Write one line for each thing that happened, never a secret.

A call says what happened in words, then its fields: `log.info("pass failed run=%s", run.id)`. As
text it is that line; as JSON the words are the member `event`, and each field is a member. The
fields are read from the call's own template, so that no value can be taken for a field.
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from webhook_server.about import subjects
from webhook_server.runs.redact import Redactor
from webhook_server.settings import Secret, Settings

#: What is written anyway: no call may have a field of these names.
RESERVED = frozenset({"ts", "level", "event", "logger", "replica", "error", "traceback"})
#: What a person who reads text wants to know as well, where the line does not say it itself.
_SHOWN = ("run", "delivery", "request")
#: Words, then fields: what every call of ours looks like (a test reads them all).
TEMPLATE = re.compile(
    r"(?P<words>[A-Za-z][A-Za-z ,'-]*[A-Za-z])(?P<fields>(?: [a-z][a-z0-9_]*=%[sd])*)"
)
_FIELD = re.compile(r" ([a-z][a-z0-9_]*)=%[sd]")
_TEMPLATES_KEPT = 1024  # ours are a hundred; libraries make some of theirs as they go


class _Masked(logging.Formatter):
    """The last step before a line is written: also tracebacks pass here."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S%z")
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a line break in a value cannot fake another line."""
        text = self._redactor.text(super().format(record))
        return text if record.exc_info else text.replace("\n", "\\n").replace("\r", "\\r")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's
        """Return the line itself, with what it is about where it does not say so."""
        text, told = super().formatMessage(record), subjects()
        missing = [f" {name}={told[name]}" for name in _SHOWN if name in told]
        return text + "".join(one for one in missing if one.partition("=")[0] + "=" not in text)


class _Json(logging.Formatter):
    """One JSON object a line; masked last, as text is."""

    def __init__(self, redactor: Redactor, replica: str) -> None:
        super().__init__()
        self._redactor, self._replica = redactor, replica

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        value = self._redactor.value(dict(self._members(record)))
        text = json.dumps(value, ensure_ascii=False, default=str)
        # What no single value shows may still stand in the whole line.
        return self._redactor.text(text) if self._redactor.finds(text) else text

    def _members(self, record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
        at = datetime.fromtimestamp(record.created, UTC)
        yield "ts", at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        yield "level", record.levelname.lower()
        words, fields = told(record)
        yield "event", words
        yield "logger", record.name
        yield "replica", self._replica
        yield from subjects().items()
        yield from fields.items()
        if record.exc_info and record.exc_info[0] is not None:
            yield "error", record.exc_info[0].__name__
            yield "traceback", self.formatException(record.exc_info)


def told(record: logging.LogRecord) -> tuple[str, dict[str, Any]]:
    """Return what a line says: its words, and its fields. A library's line is all words."""
    found = _template(record.msg) if isinstance(record.msg, str) else None
    arguments = record.args if isinstance(record.args, tuple) else ()
    if found is None or len(found[1]) != len(arguments):
        return record.getMessage(), {}
    words, names = found
    return words, {name: _plain(value) for name, value in zip(names, arguments, strict=True)}


@lru_cache(_TEMPLATES_KEPT)
def _template(text: str) -> tuple[str, tuple[str, ...]] | None:
    found = TEMPLATE.fullmatch(text)
    return None if found is None else (found["words"], tuple(_FIELD.findall(found["fields"])))


def _plain(value: object) -> Any:
    kept = value is None or type(value) in {bool, int, float}  # an enum of texts is a text
    return value if kept else str(value)


def set_up(settings: Settings, server_key: bytes) -> None:
    """Log to standard error, at the level and in the form of the settings."""
    redactor = Redactor(_known(settings, server_key))
    handler = logging.StreamHandler()
    as_json = settings.log_format == "json"
    handler.setFormatter(_Json(redactor, replica()) if as_json else _Masked(redactor))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level)
    # uvicorn tells of requests that were cut off; we count them, and log what matters ourselves.
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    for chatty in ("urllib3", "github", "docker", "alembic", "google", "opentelemetry"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def replica() -> str:
    """Name this process among others on the same database."""
    return f"{socket.gethostname()}/{os.getpid()}"


def _known(settings: Settings, server_key: bytes) -> set[str]:
    secrets = {value for value in vars(settings).values() if isinstance(value, Secret) and value}
    parts = {part.strip() for part in settings.webhook_secret.split(",") if part.strip()}
    password = settings.database_url.partition("://")[2].rpartition("@")[0].partition(":")[2]
    return {*secrets, *parts, server_key.hex(), *({password} if password else set())}
