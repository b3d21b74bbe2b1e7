"""Write docs/settings.md from `webhook_server.settings.Settings`."""

from __future__ import annotations

from dataclasses import Field, fields
from datetime import timedelta
from pathlib import Path
from typing import Any

from webhook_server.settings import Secret, Settings

PAGE = Path(__file__).parent / "settings.md"
HEAD = """\
# Settings of the server

The server reads these environment variables once, when it starts; a file `.env` in its working
directory may hold them too, and the environment wins. A value that cannot be used stops the start
with a message that names the variable.

This page is generated: change `webhook_server/settings.py`, then run
`python -m docs.generate_settings`.

| variable | default | meaning |
|---|---|---|
"""


def settings_page() -> str:
    """Return the whole page."""
    return HEAD + "".join(_row(item) for item in fields(Settings))


def _row(item: Field[Any]) -> str:
    doc = item.metadata["doc"].replace("|", r"\|")
    return f"| `{item.metadata['env']}` | {_default(item.default)} | {doc} |\n"


def _default(value: object) -> str:
    if isinstance(value, Secret) or value in ("", ()):
        return ""
    if isinstance(value, timedelta):
        return f"`{value.total_seconds():g}`"
    return f"`{value}`"


if __name__ == "__main__":
    PAGE.write_text(settings_page(), "utf-8")
