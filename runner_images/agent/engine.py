"""The one door to the Docker SDK, imported when a run needs it.

The SDK costs 0.3 s and 12 MiB: whether an engine answers is asked without it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from docker import APIClient

DEFAULT_SOCKET = "/var/run/docker.sock"
PING_TIMEOUT_S = 5.0  # a loaded engine answers in milliseconds; a hung one is none


def socket_path(docker_host: str) -> str | None:
    """Return the engine's socket, or None when `DOCKER_HOST` names one we do not use."""
    if not docker_host:
        return DEFAULT_SOCKET
    # Over TCP the engine is another machine: its metadata address and GPUs are not ours to guard.
    return docker_host.removeprefix("unix://") if docker_host.startswith("unix://") else None


def answers(path: str | None) -> bool:
    """Say whether an engine answers there.

    `_ping`: https://docs.docker.com/reference/api/engine/version/v1.41/#tag/System
    """
    if path is None or not os.path.exists(path):
        return False
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PING_TIMEOUT_S)
            connection.connect(path)
            connection.sendall(b"GET /_ping HTTP/1.0\r\nHost: engine\r\n\r\n")
            return b" 200 " in connection.recv(64)
    except OSError:
        return False


def connect(path: str) -> APIClient:
    """Open the engine's interface, at the newest version that both sides speak."""
    from docker import APIClient

    return APIClient(base_url=f"unix://{path}", version="auto", timeout=60)


def import_early() -> None:
    """Load the SDK beside the enrolment, so that the run does not wait for it."""
    threading.Thread(target=_import, daemon=True).start()


def _import() -> None:
    with contextlib.suppress(ImportError):  # `connect` will say so where it can be reported
        __import__("docker")
