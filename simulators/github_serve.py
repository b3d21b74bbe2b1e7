"""Carry REST requests between ASGI and the gate, faults included."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.types import Receive, Scope, Send

from simulators import github_faults as faults
from simulators.github_gate import Gate
from simulators.github_http import Answer, ApiError, Call, Route
from simulators.github_limits import Limits
from simulators.github_state import Doc
from simulators.github_world import World

LARGEST_JSON = 25 << 20  # no JSON body that GitHub takes is larger
LARGEST_ASSET = (2 << 30) - 1  # https://docs.github.com/repositories (About releases): under 2 GiB
_HTML = "<html><head><title>Unicorn! &middot; GitHub</title></head><body>Error</body></html>"


class Api:
    """The ASGI program at `/api`."""

    def __init__(self, world: World, gate: Gate, limits: Limits) -> None:
        self._world = world
        self._gate = gate
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        path = _path(request).removeprefix("/api") or "/"
        call = Call(
            world=self._world,
            method=request.method,
            path=path,
            query=request.url.query,
            headers=dict(request.headers),
        )
        key = call.headers.get("authorization", "anonymous")
        try:
            self._limits.enter(key)
        except ApiError as error:
            answer = Answer(status=error.status, json=error.body, headers=error.headers)
            await _response(answer)(scope, receive, send)
            return
        try:
            await self._serve(call, request, send)
        except ClientDisconnect:
            return
        finally:
            self._limits.leave(key)

    async def _serve(self, call: Call, request: Request, send: Send) -> None:
        with self._world.store.lock:
            fault = faults.answer_fault(self._world, call.method, call.path)
        await self._read_body(call, request)
        try:
            response = (
                await self._struck(call, fault, request) if fault else await self._answer(call)
            )
        finally:
            if call.body_file and Path(call.body_file).exists():
                os.unlink(call.body_file)
        if response is None:
            abort(send)
            return
        await response(request.scope, request.receive, send)

    async def _answer(self, call: Call) -> Response:
        answer = await run_in_threadpool(self._gate.handle, call)
        return _response(answer, head=call.method == "HEAD")

    async def _struck(self, call: Call, fault: Doc, request: Request) -> Response | None:
        match fault["kind"]:
            case "hang":
                self._note(call, 0, fault)
                await _held(request, fault["delay_s"])
                return None
            case "drop_answer":
                await run_in_threadpool(self._gate.handle, call)
                return None
            case "truncated_json":
                answer = await run_in_threadpool(self._gate.handle, call)
                body = answer.raw or b""
                return Response(
                    body[: len(body) // 2], answer.status, media_type="application/json"
                )
            case "html":
                self._note(call, fault["status"], fault)
                return Response(_HTML, fault["status"], media_type="text/html")
            case "starter":
                call.headers = {**call.headers, "x-simulated-fault": "starter"}
                return await self._answer(call)
            case _:
                self._note(call, fault["status"], fault)
                return _plain_fault(fault)

    def _note(self, call: Call, status: int, fault: Doc) -> None:
        with self._world.store.lock:
            self._gate.note(call, status, fault["kind"])
            self._world.store.commit()

    async def _read_body(self, call: Call, request: Request) -> None:
        found = self._gate.match(call.method, call.path)
        if found and found.route.upload:
            call.body_file = await self._read_file(request)
            return
        parts: list[bytes] = []
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size <= LARGEST_JSON:
                parts.append(chunk)
        call.body = b"".join(parts)

    async def _read_file(self, request: Request) -> str:
        folder = self._world.store.folder / "assets"
        handle, name = tempfile.mkstemp(dir=folder, prefix="incoming-")
        size = 0
        with os.fdopen(handle, "wb") as file:
            async for chunk in request.stream():
                size += len(chunk)
                if size <= LARGEST_ASSET + 1:
                    file.write(chunk)
        return name


def _response(answer: Answer, *, head: bool = False) -> Response:
    if answer.file is not None:
        return FileResponse(
            answer.file, answer.status, dict(answer.headers), media_type=answer.media_type
        )
    body: Any = answer.raw
    if body is None and answer.json is not None:
        body = json.dumps(answer.json).encode()
    headers = dict(answer.headers)
    if head:
        headers["content-length"] = str(len(body or b""))
        body = b""
    if answer.status in {204, 304}:
        return Response(None, answer.status, headers)
    return Response(body, answer.status, headers, media_type=answer.media_type)


def _plain_fault(fault: Doc) -> Response:
    body = fault["body"]
    if isinstance(body, str):
        return Response(body, fault["status"], fault["headers"])

    shown = body if body is not None else {"message": "Server Error"}
    return Response(
        json.dumps(shown), fault["status"], fault["headers"], media_type="application/json"
    )


async def _held(request: Request, longest_s: float) -> None:
    """Say nothing for a while, or until the client has left."""

    async def left() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(left(), longest_s)


def abort(send: Send) -> None:
    """Cut the connection without an answer, as a network does.

    ASGI has no word for it: uvicorn's `send` is a bound method of the object that holds the
    transport.
    """
    cycle = getattr(send, "__self__", None)
    transport = getattr(cycle, "transport", None)
    if transport is None:
        raise RuntimeError("cannot cut the connection: this server's transport is out of reach")
    transport.abort()


def _path(request: Request) -> str:
    """Return the decoded path; of a package's name the slash stays encoded, as GitHub wants it."""
    if "/packages/" not in request.url.path:
        return request.url.path
    return str(request.scope["raw_path"].partition(b"?")[0].decode("ascii", "replace"))


class Plain:
    """The ASGI program of the control endpoints and the OIDC issuer: no limits, no identity."""

    def __init__(self, world: World, start: str, routes: tuple[Route, ...]) -> None:
        self._world = world
        self._start = start
        self._routes = [(route, route.regex()) for route in routes]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        path = request.url.path
        call = Call(
            world=self._world,
            method=request.method,
            path=path.removeprefix(self._start),
            query=request.url.query,
            headers=dict(request.headers),
            body=await request.body(),
        )
        fault = None
        if self._start != "/_sim":
            with self._world.store.lock:
                fault = faults.answer_fault(self._world, call.method, path)
        if fault and fault["kind"] in {"hang", "drop_answer"}:
            if fault["kind"] == "hang":
                await _held(request, fault["delay_s"])
            abort(send)
            return
        if fault:
            html = fault["kind"] == "html"
            response = Response(_HTML, fault["status"]) if html else _plain_fault(fault)
        else:
            response = _response(await run_in_threadpool(self._handle, call))
        await response(scope, receive, send)

    def _handle(self, call: Call) -> Answer:
        with self._world.store.lock:
            try:
                return self._routed(call)
            except ApiError as error:
                return Answer(status=error.status, json=error.body, headers=error.headers)
            except (KeyError, TypeError, ValueError) as error:
                # The control door is for tests: say what was wrong with the wish.
                message = f"the request could not be understood: {error!r}"
                return Answer(status=422, json={"message": message})
            finally:
                self._world.store.commit()

    def _routed(self, call: Call) -> Answer:
        for route, pattern in self._routes:
            found = pattern.match(call.path)
            if found and route.method == call.method:
                call.args = found.groupdict()
                return route.handler(call)
        raise ApiError(404, f"there is no {call.method} {self._start}{call.path}")
