"""How much a caller may ask: hourly budgets and the secondary limits."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field

from simulators.github_http import ApiError, Caller
from simulators.github_state import Doc
from simulators.github_world import World

# https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api
DEFAULTS: dict[str, int] = {
    "installation": 5000,
    "app": 5000,
    "user": 5000,
    "job": 1000,  # GITHUB_TOKEN: per hour and repository
    "anonymous": 60,
    "points_per_minute": 900,
    "content_per_minute": 80,
    "content_per_hour": 500,
    "concurrent": 100,
}
_LIMITS_PAGE = "https://docs.github.com/rest/overview/rate-limits-for-the-rest-api"
_SECONDARY_PAGE = f"{_LIMITS_PAGE}#about-secondary-rate-limits"
_SECONDARY = (
    "You have exceeded a secondary rate limit. Please wait a few minutes before you try again. "
    "For more on scraping GitHub and how it may affect your rights, please review our Terms of "
    "Service (https://docs.github.com/en/site-policy/github-terms/github-terms-of-service)"
)
_FREE_METHODS = {"GET", "HEAD", "OPTIONS"}


@dataclass
class Window:
    """Dated points in a sliding window."""

    points: deque[tuple[float, int]] = field(default_factory=deque)

    def sum_since(self, since: float) -> int:
        """Forget what is older and add up the rest."""
        while self.points and self.points[0][0] <= since:
            self.points.popleft()
        return sum(cost for _, cost in self.points)


class Limits:
    """Counts what each caller asked for. Budgets are kept on disk, short windows are not."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._points: dict[str, Window] = defaultdict(Window)
        self._content: dict[str, Window] = defaultdict(Window)
        self._running: dict[str, int] = defaultdict(int)

    def limit(self, name: str) -> int:
        """Return a limit as `/_sim/limits` left it."""
        limits: dict[str, int] = self._world.store.setting("limits", {})
        return limits.get(name, DEFAULTS[name])

    def budget(self, caller: Caller) -> Doc:
        """Return this hour's `limit`, `used`, `remaining` and `reset` of a caller."""
        used = self._bucket(caller)
        limit = self.limit(caller.kind)
        return {
            "limit": limit,
            "used": min(used["used"], limit),
            "remaining": max(0, limit - used["used"]),
            "reset": used["reset"],
            "resource": "core",
        }

    def _bucket(self, caller: Caller) -> Doc:
        key, now = caller.limit_key, int(self._world.store.now().timestamp())
        found = self._world.store.first("budget", key=key)
        if found is None:
            found = self._world.store.put("budget", {"key": key, "used": 0, "reset": now + 3600})
        if found["reset"] <= now:
            found |= {"used": 0, "reset": now + 3600}
        return found

    def charge(self, caller: Caller) -> None:
        """Take one request from the hour's budget, or refuse."""
        bucket = self._bucket(caller)
        if bucket["used"] >= self.limit(caller.kind):
            raise ApiError(403, _exceeded(caller), docs=_LIMITS_PAGE)
        bucket["used"] += 1
        self._world.store.put("budget", bucket)

    def refund(self, caller: Caller) -> None:
        """Give back a request that was answered 304, which is free."""
        bucket = self._bucket(caller)
        bucket["used"] = max(0, bucket["used"] - 1)
        self._world.store.put("budget", bucket)

    def charge_secondary(self, caller: Caller, method: str, *, notifies: bool) -> None:
        """Take points from the sliding windows, or refuse with `retry-after`."""
        key, now = caller.limit_key, self._world.store.now().timestamp()
        cost = 1 if method in _FREE_METHODS else 5
        if self._points[key].sum_since(now - 60) + cost > self.limit("points_per_minute"):
            raise secondary(60)
        if notifies:
            self._charge_content(key, now)
        self._points[key].points.append((now, cost))

    def _charge_content(self, key: str, now: float) -> None:
        window = self._content[key]
        hour = window.sum_since(now - 3600)
        minute = sum(cost for at, cost in window.points if at > now - 60)
        if minute >= self.limit("content_per_minute"):
            raise secondary(60)
        if hour >= self.limit("content_per_hour"):
            raise secondary(3600)
        window.points.append((now, 1))

    def enter(self, key: str) -> None:
        """Count a request in flight, or refuse the hundred-and-first."""
        if self._running[key] >= self.limit("concurrent"):
            raise secondary(60)
        self._running[key] += 1

    def leave(self, key: str) -> None:
        """Count a request as answered."""
        self._running[key] -= 1


def secondary(retry_after_s: int) -> ApiError:
    """Return GitHub's answer to too much in too short a time."""
    headers = {"Retry-After": str(retry_after_s)}
    return ApiError(403, _SECONDARY, headers=headers, docs=_SECONDARY_PAGE)


def _exceeded(caller: Caller) -> str:
    match caller.kind:
        case "installation":
            return (
                f"API rate limit exceeded for installation ID {(caller.installation or {})['id']}."
            )
        case "user":
            return f"API rate limit exceeded for user ID {(caller.user or {})['id']}."
        case "anonymous":
            return "API rate limit exceeded for 127.0.0.1. (But here's the good news: Authenticated requests get a higher rate limit. Check out the documentation for more details.)"  # noqa: E501 - GitHub's words
        case _:
            return "API rate limit exceeded for installation."
