"""Several calls of the JSON interface in one request.

https://cloud.google.com/storage/docs/batch
"""

from __future__ import annotations

import http
import io
import json
from collections.abc import Iterable
from email.message import Message
from email.parser import BytesParser
from urllib.parse import urlsplit

from simulators.gcp_http import Answer, GoogleError, Request, Route, Router
from simulators.gcp_storage_refusals import bad
from simulators.gcp_world import World

_MOST_CALLS = 100  # the page above
_BOUNDARY = "batch_simulated"


class Batch:
    """Carries out the calls of a batch one after the other."""

    def __init__(self, world: World, routes: Iterable[Route]) -> None:
        self._world = world
        self._router = Router(route for route in routes if route.locked)

    def run(self, request: Request) -> Answer:
        """Answer a batch: every call has its own status, the batch itself succeeds."""
        content_type = request.headers.get("content-type", "")
        head = f"Content-Type: {content_type}\r\n\r\n".encode()
        message = BytesParser().parsebytes(head + request.body())
        calls = message.get_payload()
        if not message.is_multipart() or not isinstance(calls, list):
            raise bad(
                "Failed to parse batch request, error: missing boundary.", reason="badRequest"
            )
        if len(calls) > _MOST_CALLS:
            raise bad(f"Batch size too large: at most {_MOST_CALLS} calls are allowed.")
        parts = [self._part(call) for call in calls if isinstance(call, Message)]
        body = "".join(f"--{_BOUNDARY}\r\n{part}\r\n" for part in parts) + f"--{_BOUNDARY}--\r\n"
        return Answer(data=body.encode(), media_type=f"multipart/mixed; boundary={_BOUNDARY}")

    def _part(self, call: Message) -> str:
        id_ = (call.get("Content-ID") or "<0>").strip().strip("<>")
        answer = self._answer(_request(call))
        body = "" if answer.json is None else json.dumps(answer.json)
        phrase = http.HTTPStatus(answer.status).phrase
        return (
            f"Content-Type: application/http\r\nContent-ID: <response-{id_}>\r\n\r\n"
            f"HTTP/1.1 {answer.status} {phrase}\r\nContent-Type: {answer.media_type}\r\n"
            f"Content-Length: {len(body.encode())}\r\n\r\n{body}"
        )

    def _answer(self, request: Request) -> Answer:
        found = self._router.find(request.method, request.path)
        if found is None:
            return GoogleError(404, "Not Found", reason="notFound").answer()
        route, request.args = found
        try:
            for gate in self._world.gates:
                gate(request, route)
            with self._world.lock:
                return route.handler(request)
        except GoogleError as error:
            return error.answer()

    def routes(self) -> list[Route]:
        """Return the route; it holds no lock as its calls take it one by one."""
        return [
            Route(
                method="POST",
                pattern="/batch/storage/v1",
                handler=self.run,
                verb="storage.batch",
                locked=False,
            )
        ]


def _request(call: Message) -> Request:
    text = call.get_payload()
    head, _, body = str(text).replace("\r\n", "\n").partition("\n\n")
    first, *lines = head.split("\n")
    method, target, *_ = [*first.split(" "), "", ""]
    parts = urlsplit(target)
    headers = {k.strip().lower(): v.strip() for k, _, v in (ln.partition(":") for ln in lines)}
    return Request(
        method=method,
        path=parts.path,
        query=parts.query,
        headers=headers,
        source=io.BytesIO(body.strip().encode()),
    )
