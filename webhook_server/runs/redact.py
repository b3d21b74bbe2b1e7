"""Hide secret values in text, in each form in which a program would print them: pure."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, quote_plus

HIDDEN = "***"
SHORTEST = 4  # a shorter mask would blank out ordinary words
_MOST_FORMS = 4096  # a pattern of more alternatives costs more than a beat may take


class Redactor:
    """Replaces every known value by `***`."""

    def __init__(self, values: Iterable[str]) -> None:
        forms = sorted({form for value in values for form in _forms(value)}, key=len, reverse=True)
        if len(forms) > _MOST_FORMS:
            raise ValueError(f"at most {_MOST_FORMS} masked forms fit one attempt")
        self._pattern = re.compile("|".join(map(re.escape, forms))) if forms else None

    def text(self, text: str) -> str:
        """Return `text` without any known value."""
        return text if self._pattern is None else self._pattern.sub(HIDDEN, text)

    def value(self, value: Any) -> Any:
        """Return a JSON value with every text in it redacted, the names of members too."""
        if self._pattern is None:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(str(key)): self.value(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.value(item) for item in value]
        return value

    def finds(self, text: str) -> bool:
        """Return whether `text` shows a known value."""
        return self._pattern is not None and self._pattern.search(text) is not None


def _forms(value: str) -> Iterable[str]:
    lines = value.splitlines() if "\n" in value or "\r" in value else []
    for part in {value, value.strip(), *lines, *(line.strip() for line in lines)}:
        if len(part) >= SHORTEST:
            yield from _spellings(part)


def _spellings(text: str) -> Iterable[str]:
    raw = text.encode("utf-8", "surrogatepass")
    yield text
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]
    yield quote(raw, safe="")
    yield quote(raw)
    yield quote_plus(raw)
    yield raw.hex()
    yield raw.hex().upper()
    yield from _base64_cores(raw)


def _base64_cores(raw: bytes) -> Iterable[str]:
    """Yield what base64 makes of `raw` wherever it begins within a longer text.

    Base64 works on groups of three bytes, so the first and last characters depend on the
    neighbours: only the core between them is the same everywhere.
    """
    for before in range(3):
        padded = base64.b64encode(b"\0" * before + raw).decode().rstrip("=")
        first = -(-before * 8 // 6)  # characters that carry a bit of the bytes before
        whole = (before + len(raw)) * 8 // 6  # characters whose bits are all known
        core = padded[first:whole]
        if len(core) >= SHORTEST * 2:  # a shorter core turns up by chance
            yield core
            yield core.replace("+", "-").replace("/", "_")
