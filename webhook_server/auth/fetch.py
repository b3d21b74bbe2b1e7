"""Read one small document from a fixed URL, bounded in time and in size."""

from __future__ import annotations

import http.client
import socket
import threading
import urllib.parse
from contextlib import suppress

from cynthus.errors import Transient

LIMIT_S = 8.0  # the caller is a request that has to be answered within 10 s
LIMIT_BYTES = 256 * 1024  # GitHub's key set has 5 kB
_OK = 200


def fetch(url: str, *, limit_s: float = LIMIT_S, limit_bytes: int = LIMIT_BYTES) -> bytes:
    """Return the body of a 200 answer; redirects are not followed.

    Raises: Transient for anything else, after `limit_s` at the latest.
    """
    parts = urllib.parse.urlsplit(url)
    secure = parts.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=limit_s / 2)
    # A socket's own time-out starts anew with every byte; a slow drip is ended from outside.
    alarm = threading.Timer(limit_s, _cut, [connection])
    alarm.daemon = True
    alarm.start()
    try:
        return _read(connection, parts.path or "/", limit_bytes)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Transient(f"{url}: could not be read: {type(error).__name__}.") from error
    finally:
        alarm.cancel()
        connection.close()


def _read(connection: http.client.HTTPConnection, path: str, limit_bytes: int) -> bytes:
    connection.request("GET", path, headers={"Accept": "application/json", "Connection": "close"})
    answer = connection.getresponse()
    if answer.status != _OK:
        raise ValueError(f"answered {answer.status}")
    body = answer.read(limit_bytes + 1)
    if len(body) > limit_bytes:
        raise ValueError("answered too much")
    return body


def _cut(connection: http.client.HTTPConnection) -> None:
    if connection.sock is not None:
        with suppress(OSError):  # it may have ended in this very moment
            connection.sock.shutdown(socket.SHUT_RDWR)
