"""How often somebody may ask a simulated Hugging Face.

https://huggingface.co/docs/hub/rate-limits: fixed windows of five minutes, a bucket for the API and
one for resolvers, told in two headers of every answer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Literal

from simulators.hub_hf_doors import refused
from simulators.hub_http import Refusal

Bucket = Literal["api", "resolvers"]
WINDOW_S = 300
# The lowest two rows of the table: nobody, and a free account.
QUOTAS: dict[tuple[Bucket, bool], int] = {
    ("api", False): 500,
    ("resolvers", False): 3000,
    ("api", True): 1000,
    ("resolvers", True): 5000,
}


class Limits:
    """Counts the requests of each caller."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._used: dict[tuple[Bucket, str, int], int] = {}
        self.enforced = False  # a test of 10,000 files would wait for minutes
        self.quotas = dict(QUOTAS)

    def take(self, bucket: Bucket, caller: str) -> dict[str, str]:
        """Count one request of a caller, "" for nobody; return the headers of the answer.

        Raises: Refusal (429).
        """
        quota = self.quotas[bucket, bool(caller)]
        window, passed = divmod(int(self._now()), WINDOW_S)
        with self._lock:
            used = self._used.get((bucket, caller, window), 0) + self.enforced
            self._used[bucket, caller, window] = used
        headers = limit_headers(bucket, max(quota - used, 0), WINDOW_S - passed, quota)
        if used > quota:
            raise too_many(headers)
        return headers


def limit_headers(bucket: Bucket, left: int, reset_s: int, quota: int) -> dict[str, str]:
    """Return the two headers, as the hub writes them."""
    return {
        "RateLimit": f'"{bucket}";r={left};t={reset_s}',
        "RateLimit-Policy": f'"fixed window";"{bucket}";q={quota};w={WINDOW_S}',
    }


def too_many(headers: dict[str, str]) -> Refusal:
    """Return the refusal of somebody who asks too often."""
    message = (
        "We had to rate limit you. To continue using our service, create a HF account or login."
    )
    refusal = refused(429, message)
    refusal.answer.headers |= headers
    return refusal
