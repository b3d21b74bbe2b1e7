"""Make text from outside storable: no NUL, no half characters, no NaN."""

from __future__ import annotations

import math
from typing import Any

_REPLACEMENT = "\ufffd"  # Unicode's own sign for what could not be shown
_BAD = {0: _REPLACEMENT} | dict.fromkeys(range(0xD800, 0xE000), _REPLACEMENT)

_AS_THEY_ARE = frozenset({int, bool, type(None)})


def clean(value: Any) -> Any:
    """Return a JSON value that both databases store: PostgreSQL takes no NUL in text.

    https://www.postgresql.org/docs/current/datatype-character.html
    """
    if type(value) in _AS_THEY_ARE:  # most of what a sample holds: asked before all else
        return value
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {clean_text(str(key)): clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(item) for item in value]
    return value


def clean_text(text: str) -> str:
    """Return `text` with every NUL and every lone surrogate replaced."""
    if text.isascii() and "\0" not in text:
        return text
    return text.translate(_BAD)


def cut_bytes(text: str, limit: int) -> str:
    """Return the beginning of `text` that takes at most `limit` bytes as UTF-8."""
    return text.encode()[:limit].decode(errors="ignore")
