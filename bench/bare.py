"""The smallest honest programs to measure against: `python -m bench.bare KIND PORT FOLDER`.

`webhooks`: plain ASGI; verifies the HMAC over the raw body, commits the delivery with fsync, many
in one commit, then answers. `insert`: a FastAPI route that commits one row with fsync, then
answers. `list`: plain ASGI; answers bytes that are there already.
"""

from __future__ import annotations

import asyncio
import hmac
import sqlite3
import sys
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import uvicorn

SECRET = "the-benchs-own-secret-long-enough"
BATCH = 256

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Door = Callable[[Message, Receive, Send], Awaitable[None]]
Row = tuple[str, bytes]
_Job = tuple[Row, "asyncio.Future[None]"]


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE deliveries (guid TEXT PRIMARY KEY, body BLOB)")
    return database


class _Writer:
    """Commits what has queued up, then answers all of it."""

    def __init__(self, path: Path) -> None:
        self._database = _open(path)
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        threading.Thread(target=self._serve, daemon=True).start()

    async def insert(self, row: Row) -> None:
        answer = asyncio.get_running_loop().create_future()
        self._jobs.put((row, answer))
        await answer

    def _serve(self) -> None:
        while True:
            jobs = [self._jobs.get()]
            try:
                while len(jobs) < BATCH:
                    jobs.append(self._jobs.get_nowait())
            except Empty:
                pass
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany(
                "INSERT OR IGNORE INTO deliveries VALUES (?, ?)", [row for row, _ in jobs]
            )
            self._database.execute("COMMIT")
            jobs[0][1].get_loop().call_soon_threadsafe(_answer_all, jobs)


def _answer_all(jobs: list[_Job]) -> None:
    for _, answer in jobs:
        if not answer.done():
            answer.set_result(None)


def _webhooks(folder: Path) -> Door:
    writer = _Writer(folder / "bare.db")

    async def door(scope: Message, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        parts, more = [], True
        while more:
            message = await receive()
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)
        body = b"".join(parts)
        signed = b"sha256=" + hmac.digest(SECRET.encode(), body, "sha256").hex().encode()
        if not hmac.compare_digest(signed, headers.get(b"x-hub-signature-256", b"")):
            await _answer(send, 401, b"")
            return
        await writer.insert((headers[b"x-github-delivery"].decode(), body))
        await _answer(send, 202, b'{"status":"accepted"}')

    return door


def _list(_: Path) -> Door:
    async def door(_scope: Message, _receive: Receive, send: Send) -> None:
        await _answer(send, 200, b'{"runs":[]}')

    return door


async def _answer(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _insert(folder: Path) -> Any:
    from fastapi import Body, FastAPI

    app = FastAPI()
    database, one_at_a_time = _open(folder / "bare.db"), threading.Lock()

    @app.post("/insert", status_code=202)
    def insert(value: dict[str, Any] = Body()) -> dict[str, str]:  # noqa: B008 - FastAPI's way
        with one_at_a_time:
            database.execute(
                "INSERT INTO deliveries VALUES (?, ?)", (value["trigger"], value["spec_text"])
            )
        return {"run_id": value["trigger"]}

    return app


KINDS: dict[str, Callable[[Path], Any]] = {"webhooks": _webhooks, "insert": _insert, "list": _list}


def main() -> None:
    """Serve until killed."""
    kind, port, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    uvicorn.run(
        KINDS[kind](folder),
        host="127.0.0.1",
        port=port,
        lifespan="off",
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main()
