"""Say sizes and times as people read them."""

from __future__ import annotations

import time
from collections.abc import Sequence

MOST_SENTENCES = 20  # of one kind: after so many a reader knows, and a summary has other things


class Watch:
    """A stopwatch that prints as the seconds since it was made."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s"

    @property
    def seconds(self) -> float:
        """Return the seconds so far."""
        return round(time.monotonic() - self._started, 3)


def size(size_bytes: int) -> str:
    """Return a size in powers of ten, as registries count."""
    number = float(size_bytes)
    for unit in ("B", "kB", "MB"):
        if number < 1000:  # noqa: PLR2004 - SI
            return f"{number:.0f} {unit}"
        number /= 1000
    return f"{number:.2f} GB"


def first_few(sentences: Sequence[str]) -> tuple[str, ...]:
    """Return as many as somebody reads, and how many more there are."""
    rest = len(sentences) - MOST_SENTENCES
    return (*sentences[:MOST_SENTENCES], *((f"and {rest} more like these",) if rest > 0 else ()))
