"""Git over HTTP: `git http-backend` behind ASGI, then the events of what was pushed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from simulators import github_push as push
from simulators.github_auth import caller_of, reaches
from simulators.github_git import GIT_ENVIRONMENT
from simulators.github_http import ApiError, Caller
from simulators.github_state import Doc
from simulators.github_world import World

PATH = re.compile(r"^/([^/]+)/([^/]+?)(?:\.git)?/(info/refs|git-upload-pack|git-receive-pack)$")
_CHUNK = 64 * 1024


@dataclass(frozen=True, kw_only=True)
class Visit:
    """Someone fetching from or pushing to a repository."""

    repo: Doc
    caller: Caller
    service: str
    pushing: bool


class SmartHttp:
    """The ASGI program at `/OWNER/REPO.git/…`."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            visit = await run_in_threadpool(self._visit, request)
        except ApiError as error:
            await _refusal(error)(scope, receive, send)
            return
        await self._serve(request, visit, send)

    def _visit(self, request: Request) -> Visit:
        found = PATH.match(request.url.path)
        if found is None:
            raise ApiError(404, "Not Found")
        service = found[3]
        wanted = request.query_params.get("service") if service == "info/refs" else service
        with self._world.store.lock:
            caller = caller_of(self._world, request.headers.get("authorization"))
            repo = self._world.find_repo(found[1], found[2]) or self._world.moved_repo(
                found[1], found[2]
            )
            pushing = wanted == "git-receive-pack"
            self._admit(repo, caller, pushing=pushing)
        return Visit(repo=repo or {}, caller=caller, service=service, pushing=pushing)

    def _admit(self, repo: Doc | None, caller: Caller, *, pushing: bool) -> None:
        if repo is None or not self._reads(repo, caller):
            if caller.kind == "anonymous":
                raise ApiError(401, "Repository not found.")
            raise ApiError(404, "Repository not found.")
        if not pushing or repo["open"]:
            return
        if caller.kind == "anonymous":
            raise ApiError(401, "Authentication required")
        if not self._writes(repo, caller):
            name = (caller.user or {}).get("login", "")
            raise ApiError(
                403, f"Permission to {self._world.full_name(repo)}.git denied to {name}."
            )

    def _reads(self, repo: Doc, caller: Caller) -> bool:
        if caller.is_integration:
            within = reaches(self._world, caller, repo) and "contents" in caller.permissions
            return within or not repo["private"]
        return self._world.may(repo, caller.user, "read")

    def _writes(self, repo: Doc, caller: Caller) -> bool:
        if caller.is_integration:
            granted = caller.permissions.get("contents") == "write"
            return granted and reaches(self._world, caller, repo)
        return self._world.may(repo, caller.user, "write")

    async def _serve(self, request: Request, visit: Visit, send: Send) -> None:
        process = await asyncio.create_subprocess_exec(
            "git",
            "http-backend",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=self._environment(request, visit),
        )
        feeding = asyncio.create_task(_feed(request, process))
        status, headers = await _cgi_headers(process)
        # Not a StreamingResponse: that one reads from the client too, to notice when it leaves,
        # and would take parts of a body that git is still sending.
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        async for piece in self._body(process, feeding, visit):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    def _environment(self, request: Request, visit: Visit) -> dict[str, str]:
        headers = request.headers
        environment = {
            **GIT_ENVIRONMENT,
            "GIT_PROJECT_ROOT": str(self._world.git(visit.repo).folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": f"/{visit.service}",
            "REQUEST_METHOD": request.method,
            "QUERY_STRING": request.url.query,
            "CONTENT_TYPE": headers.get("content-type", ""),
            "REMOTE_USER": (visit.caller.user or {}).get("login", "anonymous"),
            "REMOTE_ADDR": "127.0.0.1",
            "GIT_PROTOCOL": headers.get("git-protocol", ""),
            "HTTP_CONTENT_ENCODING": headers.get("content-encoding", ""),
        }
        # Without a length git reads to the end, which is what a chunked body needs.
        if "content-length" in headers:
            environment["CONTENT_LENGTH"] = headers["content-length"]
        return environment

    async def _body(
        self, process: asyncio.subprocess.Process, feeding: asyncio.Task[None], visit: Visit
    ) -> AsyncIterator[bytes]:
        # The last piece is held back until the push is in the store: when git says "done",
        # a crash can no longer lose the event.
        held = b""
        stdout = process.stdout
        assert stdout is not None
        while chunk := await stdout.read(_CHUNK):
            if held:
                yield held
            held = chunk
        await process.wait()
        await feeding
        if visit.pushing and visit.service == "git-receive-pack":
            await run_in_threadpool(self._settle, visit)
        if held:
            yield held

    def _settle(self, visit: Visit) -> None:
        with self._world.store.lock:
            pusher = visit.caller.user or self._world.owner(visit.repo)
            by_job = visit.caller.kind == "job"
            push.settle(self._world, visit.repo, pusher, by_job=by_job)
            self._world.store.commit()


async def _feed(request: Request, process: asyncio.subprocess.Process) -> None:
    stdin = process.stdin
    assert stdin is not None
    try:
        async for chunk in request.stream():
            stdin.write(chunk)
            await stdin.drain()
    except (BrokenPipeError, ConnectionResetError, ClientDisconnect):
        pass  # git has heard enough, or the client went away; either way the input ends here
    finally:
        stdin.close()


async def _cgi_headers(process: asyncio.subprocess.Process) -> tuple[int, dict[str, str]]:
    stdout = process.stdout
    assert stdout is not None
    status, headers = 200, {}
    while line := (await stdout.readline()).decode().strip():
        name, _, value = line.partition(":")
        if name.lower() == "status":
            status = int(value.split()[0])
        else:
            headers[name] = value.strip()
    return status, headers


def _refusal(error: ApiError) -> Response:
    headers = {"WWW-Authenticate": 'Basic realm="GitHub"'} if error.status == 401 else {}
    return PlainTextResponse(error.body["message"], error.status, headers)


def catch_up(world: World) -> None:
    """Make the events of pushes that a crash came after."""
    with world.store.lock:
        for repo in world.store.find("repo"):
            push.settle(world, repo, world.owner(repo))
        world.store.commit()
