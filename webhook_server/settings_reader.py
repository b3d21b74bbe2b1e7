"""Read the environment once into one frozen `Settings`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from cynthus.errors import UserError
from webhook_server.settings import Secret, Settings
from webhook_server.settings_faults import faults


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
