"""How many examples a property is tried with: a third before each change, all with LONG=1."""

from __future__ import annotations

import os


def examples(most: int) -> int:
    """Return how many of `most` are tried now."""
    return most if os.environ.get("LONG") else -(-most // 3)
