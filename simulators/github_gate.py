"""What every REST request passes: version, identity, limits, route, conditions."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulators.github_auth import caller_of
from simulators.github_http import NOBODY, Answer, ApiError, Call, Route, not_found
from simulators.github_limits import Limits
from simulators.github_state import Doc, Json
from simulators.github_world import World

# https://docs.github.com/rest/about-the-rest-api/api-versions
VERSIONS = ("2022-11-28", "2026-03-10")
REQUESTS_KEPT = 20_000  # enough for a soak test; older lines of the log are dropped
_RATE_FREE = ("/rate_limit",)


@dataclass(frozen=True, kw_only=True)
class Match:
    """The operation a path and method lead to."""

    route: Route
    args: dict[str, str]


class Gate:
    """Answers REST calls the way api.github.com does, whatever the operation."""

    def __init__(self, world: World, limits: Limits, routes: Sequence[Route]) -> None:
        self._world = world
        self.exchanges: Path | None = None  # a file that every request and answer is written to
        self._limits = limits
        self._routes = [(route, route.regex()) for route in routes]

    def match(self, method: str, path: str) -> Match | None:
        """Return the operation, or None."""
        for route, pattern in self._routes:
            found = pattern.match(path)
            if found and route.method == ("GET" if method == "HEAD" else method):
                return Match(route=route, args=found.groupdict())
        return None

    def by_id(self, path: str) -> str:
        """Turn `/repositories/ID/…` into `/repos/OWNER/NAME/…`, an alias GitHub redirects to."""
        found = re.match(r"^/repositories/(\d{1,18})(/.*)?$", path)
        repo = self._world.store.get("repo", int(found[1])) if found else None
        if not found or repo is None:
            return path
        return f"/repos/{self._world.full_name(repo)}{found[2] or ''}"

    def handle(self, call: Call) -> Answer:
        """Answer one call, refusals included, and write it into the log."""
        with self._world.store.lock:
            try:
                answer = self._answer(call)
            except ApiError as error:
                answer = Answer(status=error.status, json=error.body, headers=error.headers)
            finished = self._finish(call, answer)
            self.note(call, finished.status)
            self._write(call, finished)
            self._world.store.commit()
        return finished

    def _write(self, call: Call, answer: Answer) -> None:
        if self.exchanges is None:
            return
        sent = None if call.body_file else _json_of(call.body)
        seen = {
            "method": call.method,
            "path": self.by_id(call.path).removeprefix("/uploads"),
            "query": call.query,
            "request": sent,
            "status": answer.status,
            "response": _json_of(answer.raw or b""),
        }
        with self.exchanges.open("a") as file:
            file.write(json.dumps(seen) + "\n")

    def _answer(self, call: Call) -> Answer:
        version = call.headers.get("x-github-api-version")
        if version is not None and version not in VERSIONS:
            raise ApiError(
                400,
                f'"{version}" is not a supported version. Please use a supported version.',
                docs="https://docs.github.com/rest/about-the-rest-api/api-versions",
            )
        if "user-agent" not in call.headers:
            raise ApiError(403, "Request forbidden by administrative rules.")
        call.caller = caller_of(self._world, call.headers.get("authorization"))
        path = self.by_id(call.path)
        found = self.match(call.method, path)
        self._charge(call, path, found)
        moved = self._moved(call, path)
        if moved:
            return moved
        return self._perform(call, found)

    def _charge(self, call: Call, path: str, found: Match | None) -> None:
        if path in _RATE_FREE:
            return
        self._limits.charge(call.caller)
        notifies = bool(found and found.route.notifies)
        self._limits.charge_secondary(call.caller, call.method, notifies=notifies)

    def _moved(self, call: Call, path: str) -> Answer | None:
        found = re.match(r"^(/uploads)?/repos/([^/]+)/([^/]+)(/.*)?$", path)
        if not found or self._world.find_repo(found[2], found[3]):
            return None
        repo = self._world.moved_repo(found[2], found[3])
        if repo is None:
            return None
        query = f"?{call.query}" if call.query else ""
        rest = f"{found[1] or ''}/repositories/{repo['id']}{found[4] or ''}{query}"
        url = f"{self._world.store.base_url}/api{rest}"
        # 307 keeps the method; https://docs.github.com/rest (follow redirects)
        status = 301 if call.method in {"GET", "HEAD"} else 307
        message = "Moved Permanently" if status == 301 else "Temporary Redirect"
        body = {"message": message, "url": url, "documentation_url": "https://docs.github.com/rest"}
        return Answer(status=status, json=body, headers={"Location": url})

    def _perform(self, call: Call, found: Match | None) -> Answer:
        if found is None:
            raise not_found()
        if found.route.app_only and call.caller.kind != "app":
            if call.caller is NOBODY:
                raise ApiError(401, "A JSON web token could not be decoded")
            raise ApiError(
                401 if call.caller.kind != "user" else 403,
                "A JSON web token could not be decoded"
                if call.caller.kind != "user"
                else "You must authenticate with a JSON web token.",
            )
        call.args = found.args
        return found.route.handler(call)

    def _finish(self, call: Call, answer: Answer) -> Answer:
        headers: dict[str, str] = {
            "X-GitHub-Media-Type": "github.v3; format=json",
            "X-GitHub-Request-Id": secrets.token_hex(8).upper(),
            "x-github-api-version-selected": call.headers.get("x-github-api-version", VERSIONS[0]),
            "Access-Control-Allow-Origin": "*",
            "Server": "github.com",
            **answer.headers,
        }
        body = answer.raw
        if body is None and answer.file is None:
            body = b"" if answer.json is None else json.dumps(answer.json).encode()
        if call.method == "GET" and answer.status == 200 and body is not None:
            etag = f'W/"{hashlib.sha256(body).hexdigest()}"'
            headers |= {"ETag": etag, "Cache-Control": "private, max-age=60, s-maxage=60"}
            if _same(call.headers.get("if-none-match"), etag):
                self._limits.refund(call.caller)
                answer, body = Answer(status=304), b""
        headers |= self._rate_headers(call)
        return Answer(
            status=answer.status,
            json=answer.json,
            raw=body,
            file=answer.file,
            headers=headers,
            media_type=answer.media_type,
        )

    def _rate_headers(self, call: Call) -> Mapping[str, str]:
        budget = self._limits.budget(call.caller)
        return {f"x-ratelimit-{name}": str(value) for name, value in budget.items()}

    def note(self, call: Call, status: int, fault: str | None = None) -> None:
        """Write a request into the log that `/_sim/requests` shows."""
        installation = call.caller.installation
        entry: Doc = {
            "at": self._world.store.stamp(),
            "method": call.method,
            "path": call.path,
            "query": call.query,
            "status": status,
            "token_kind": call.caller.kind,
            "installation_id": installation["id"] if installation else None,
            "permissions": dict(call.caller.permissions),
            "fault": fault,
        }
        self._world.store.put("request", entry)
        self._world.store.delete("request", entry["id"] - REQUESTS_KEPT)


def _json_of(body: bytes) -> Json:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _same(condition: str | None, etag: str) -> bool:
    if condition is None:
        return False
    wanted = {part.strip().removeprefix("W/") for part in condition.split(",")}
    return "*" in wanted or etag.removeprefix("W/") in wanted


def rate_limit(call: Call, limits: Limits) -> Answer:
    """Answer `GET /rate_limit`, which is free."""
    core = limits.budget(call.caller)
    other: dict[str, Any] = {"limit": 30, "used": 0, "remaining": 30, "reset": core["reset"]}
    resources = {
        "core": core,
        "search": {**other, "resource": "search"},
        "graphql": {**other, "resource": "graphql"},
        "integration_manifest": {**other, "resource": "integration_manifest"},
    }
    body: Doc = {"resources": resources}
    if call.headers.get("x-github-api-version") != "2026-03-10":
        body["rate"] = core
    return Answer(json=body)
