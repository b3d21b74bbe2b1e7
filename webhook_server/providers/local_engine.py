"""Ask this machine's Docker engine for containers by label, or have it remove them.

Two calls over its socket: the SDK would cost the idle server 12 MiB for them.
https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Container
"""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any
from urllib.parse import quote

TIMEOUT_S = 20.0  # removing a container with a large layer takes seconds on a busy disk


class EngineAway(Exception):  # noqa: N818 - reads as what happened
    """The engine did not answer."""


def containers(path: str, labels: dict[str, str]) -> list[dict[str, Any]]:
    """Return every container that wears all these labels, running or not; raises EngineAway."""
    wanted = {"label": [f"{key}={value}" for key, value in labels.items()]}
    status, body = _call(path, "GET", f"/containers/json?all=1&filters={quote(json.dumps(wanted))}")
    if status != http.client.OK:
        raise EngineAway(f"the Docker engine answered {status}")
    found: list[dict[str, Any]] = json.loads(body)
    return found


def remove(path: str, container_id: str) -> bool:
    """Kill and remove one container; False: not done yet. Raises EngineAway."""
    status, _ = _call(path, "DELETE", f"/containers/{container_id}?force=1&v=1")
    return status in (http.client.NO_CONTENT, http.client.NOT_FOUND)


def _call(path: str, method: str, target: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("engine", timeout=TIMEOUT_S)
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.settimeout(TIMEOUT_S)
        connection.sock.connect(path)
        connection.request(method, target)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise EngineAway(f"the Docker engine at {path} does not answer: {error}") from error
    finally:
        connection.close()
