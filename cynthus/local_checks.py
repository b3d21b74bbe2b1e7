"""Look at what `cynthus run` and a repository need on this machine, without a server."""

from __future__ import annotations

import http.client
import json
import platform
import shutil
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from cynthus.errors import UserError
from cynthus.specfile import parse
from cynthus.wire_doctor import Finding, fail, ok, warn

OLDEST_PYTHON = (3, 11)  # pyproject.toml: requires-python
SPEC = "cynthus.yaml"
_TIMEOUT_S = 5.0  # an engine on this machine answers within milliseconds
_SOCKET = "/var/run/docker.sock"
_LITTLE_BYTES = 10 << 30  # an image of a framework with CUDA is larger than half of it
_GIB = 1 << 30


def local_findings(folder: Path, environment: Mapping[str, str]) -> tuple[Finding, ...]:
    """Return what was found in this folder and on this machine; starts and changes nothing."""
    return (
        python_finding(sys.version_info[:2]),
        engine_finding(environment.get("DOCKER_HOST") or f"unix://{_SOCKET}"),
        _room(folder),
        spec_finding(folder / SPEC),
    )


def python_finding(found: tuple[int, ...]) -> Finding:
    """Say whether this Python is new enough."""
    text = f"{platform.python_implementation()} {'.'.join(map(str, found))}"
    if found >= OLDEST_PYTHON:
        return ok("Python", text)
    return fail("Python", text, f"Install Python {'.'.join(map(str, OLDEST_PYTHON))} or newer.")


def engine_finding(address: str) -> Finding:
    """Say whether a Docker engine answers at `address`: unix:///PATH or tcp://HOST:PORT.

    https://docs.docker.com/reference/api/engine/
    """
    remedy = "Start Docker, or let this user use it: `cynthus run` builds and runs images there."
    kind, _, place = address.partition("://")
    try:
        version = _engine_version(kind, place)
    except (OSError, ValueError, http.client.HTTPException) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        return warn("Docker engine", f"none answers at {address}: {why}", remedy)
    return ok("Docker engine", f"version {version} at {address}")


def _engine_version(kind: str, place: str) -> str:
    host = "engine" if kind == "unix" else place
    connection = http.client.HTTPConnection(host, timeout=_TIMEOUT_S)
    try:
        if kind == "unix":
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(_TIMEOUT_S)
            connection.sock.connect(place)
        connection.request("GET", "/version")
        answer = connection.getresponse()
        value = json.loads(answer.read(1 << 20))
    finally:
        connection.close()
    if not isinstance(value, dict) or "Version" not in value:
        raise ValueError("not an engine")
    return str(value["Version"])


def _room(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    text = f"{free / _GIB:.1f} GiB free here"
    if free >= _LITTLE_BYTES:
        return ok("disk", text)
    return warn("disk", text, "Make room: images and outputs need some.")


def spec_finding(path: Path) -> Finding:
    """Say whether the folder's spec can be used."""
    try:
        text = path.read_bytes()
    except OSError:
        return warn("spec", f"there is no {path.name} here", "Write one with `cynthus init`.")
    try:
        spec = parse(text, path.name)
    except UserError as error:
        first = str(error).splitlines()[0]
        return fail("spec", first, f"See all faults with `cynthus validate {path.name}`.")
    return ok("spec", f"{path.name} describes {spec.name!r}")
