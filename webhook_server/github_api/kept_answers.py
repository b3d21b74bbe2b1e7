"""Keep answers with their ETags: GitHub charges nothing for what has not changed.

https://docs.github.com/rest/using-the-rest-api/best-practices-for-using-the-rest-api#use-conditional-requests-if-appropriate
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

MOST = 500  # answers, most of a few kB: a repository's facts, a pull request, a role, a spec
LARGEST_BYTES = 64 << 10  # what is larger is rarely asked for twice


@dataclass(frozen=True)
class KeptAnswer:
    """A good answer, and the tag under which GitHub knows it."""

    etag: str
    value: Any


class KeptAnswers:
    """The answers used last; safe to use from many threads. May be lost at any time."""

    def __init__(self) -> None:
        self._answers: OrderedDict[object, KeptAnswer] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: object) -> KeptAnswer | None:
        """Return what was answered last."""
        with self._lock:
            found = self._answers.get(key)
            if found is not None:
                self._answers.move_to_end(key)
            return found

    def keep(self, key: object, headers: dict[str, str], value: Any) -> None:
        """Keep an answer that has a tag and is not large."""
        etag, size = headers.get("etag", ""), headers.get("content-length", "")
        if not etag or (size.isdigit() and int(size) > LARGEST_BYTES):
            return
        with self._lock:
            self._answers[key] = KeptAnswer(etag, value)
            self._answers.move_to_end(key)
            while len(self._answers) > MOST:
                self._answers.popitem(last=False)
