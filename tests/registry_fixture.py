"""A real container registry for a test session, on an ephemeral loopback port."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from demo.processes import free_port

START_LIMIT_S = 60
STARTED: list[str] = []  # hosts: what an engine keeps of their images is of no use afterwards
_MANIFESTS = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
)


@dataclass(frozen=True)
class Registry:
    """A registry that answers: https://distribution.github.io/distribution/spec/api/."""

    host: str  # 127.0.0.1:PORT

    def manifest(self, name: str, reference: str) -> tuple[str, dict[str, Any]]:
        """Return the digest and the manifest of an image."""
        request = urllib.request.Request(
            f"http://{self.host}/v2/{name}/manifests/{reference}",
            headers={"Accept": ", ".join(_MANIFESTS)},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.headers["Docker-Content-Digest"], json.load(answer)

    def blob(self, name: str, digest: str) -> bytes:
        """Return a blob."""
        url = f"http://{self.host}/v2/{name}/blobs/{digest}"
        with urllib.request.urlopen(url, timeout=60) as answer:
            return bytes(answer.read())

    def push(self, name: str, layer: bytes, **config: Any) -> str:
        """Store an image of one layer, without an engine; return its reference by digest."""
        described: dict[str, Any] = {
            "architecture": "amd64",
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
        settings = json.dumps(described).encode()
        parts = {
            "application/vnd.docker.container.image.v1+json": settings,
            "application/vnd.docker.image.rootfs.diff.tar": layer,
        }
        stored = [
            {"mediaType": kind, "size": len(content), "digest": self._upload(name, content)}
            for kind, content in parts.items()
        ]
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFESTS[0],
            "config": stored[0],
            "layers": stored[1:],
        }
        body = json.dumps(manifest).encode()
        self._send("PUT", f"/v2/{name}/manifests/{_digest(body)}", body, _MANIFESTS[0])
        return f"{self.host}/{name}@{_digest(body)}"

    def _upload(self, name: str, content: bytes) -> str:
        place = self._send("POST", f"/v2/{name}/blobs/uploads/", b"", "")
        mark = "&" if "?" in place else "?"
        path = place.removeprefix(f"http://{self.host}") + f"{mark}digest={_digest(content)}"
        self._send("PUT", path, content, "application/octet-stream")
        return _digest(content)

    def _send(self, method: str, path: str, body: bytes, kind: str) -> str:
        request = urllib.request.Request(
            f"http://{self.host}{path}", data=body, method=method, headers={"Content-Type": kind}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return str(answer.headers["Location"])


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@contextmanager
def a_registry(folder: Path, *, htpasswd: str | None = None) -> Iterator[Registry]:
    """Run a registry until the block ends, with a login when `htpasswd` lines are given."""
    program = shutil.which("docker-registry")
    if program is None:
        reason = "no docker-registry on PATH: apt-get install docker-registry"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    host = f"127.0.0.1:{free_port()}"
    config = folder / "registry.json"  # JSON is YAML, which the registry reads
    config.write_text(json.dumps(_config(folder, host, htpasswd)))
    with (folder / "registry.log").open("wb") as log:
        process = subprocess.Popen([program, "serve", str(config)], stdout=log, stderr=log)
    try:
        _await(host, process, folder / "registry.log")
        STARTED.append(host)
        yield Registry(host)
    finally:
        process.terminate()
        process.wait(60)


def _config(folder: Path, host: str, htpasswd: str | None) -> dict[str, Any]:
    config: dict[str, Any] = {
        "version": "0.1",
        "log": {"level": "warn"},
        "storage": {
            "filesystem": {"rootdirectory": str(folder / "blobs")},
            "delete": {"enabled": True},
        },
        "http": {"addr": host},
    }
    if htpasswd is not None:
        (folder / "htpasswd").write_text(htpasswd)
        config["auth"] = {"htpasswd": {"realm": "test", "path": str(folder / "htpasswd")}}
    return config


def _await(host: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while not _answers(host):
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail("docker-registry did not start: " + log.read_text()[-500:])
        time.sleep(0.02)


def _answers(host: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{host}/v2/", timeout=2):
            return True
    except urllib.error.HTTPError as error:
        return error.code == 401
    except OSError:
        return False


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Yield a registry without a login."""
    with a_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running
