"""The server as its operator meets it: a process that starts, refuses, serves, drains."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest

ROOT = Path(__file__).parents[2]
WEBHOOK_SECRET = "webhook-secret-0123456789abcdef"
TOKEN = "operator-token-0123456789abcdef"


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "CYNTHUS_STATE_DIR": str(tmp_path / "state"),
        "CYNTHUS_READY_FILE": str(tmp_path / "ready.json"),
        "CYNTHUS_PORT": "0",
        **more,
    }


@contextmanager
def server(tmp_path: Path, *words: str, **more: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    ready = tmp_path / "ready.json"
    ready.unlink(missing_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-m", *(words or ("webhook_server",))],
        cwd=tmp_path,
        env=environment(tmp_path, **more),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for _ in range(6000):
            if ready.exists() or process.poll() is not None:
                break
            time.sleep(0.01)
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        yield json.loads(ready.read_text())["url"], process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=60)


def get(url: str) -> bytes:
    with urlopen(url, timeout=60) as answer:
        return answer.read()


def test_it_starts_in_an_empty_folder_answers_and_ends_on_sigterm(tmp_path: Path) -> None:
    with server(tmp_path) as (url, process):
        assert get(f"{url}/healthz") == b"ok\n"
        assert get(f"{url}/readyz") == b"ready\n"
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "server started" in told
    assert "server stopped" in told
    key = tmp_path / "state" / "server.key"
    assert key.stat().st_mode & 0o077 == 0
    assert key.stat().st_size == 32


def test_it_starts_again_on_what_it_left_with_the_same_key(tmp_path: Path) -> None:
    keys = []
    for _ in range(2):
        with server(tmp_path) as (url, process):
            assert get(f"{url}/readyz") == b"ready\n"
            keys.append((tmp_path / "state" / "server.key").read_bytes())
            process.send_signal(signal.SIGKILL)
    assert keys[0] == keys[1]


def test_the_command_line_starts_it(tmp_path: Path) -> None:
    with server(tmp_path, "cynthus", "serve", "--port", "0") as (url, _):
        assert get(f"{url}/healthz") == b"ok\n"


@pytest.mark.case("R7")
def test_a_second_server_on_the_same_state_is_refused(tmp_path: Path) -> None:
    with server(tmp_path):
        second = run(tmp_path)
        assert second.returncode == 2
        assert "Traceback" not in second.stderr


def run(tmp_path: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "webhook_server"],
        cwd=tmp_path,
        env=environment(tmp_path, **more),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


NO_KEY = {"GOOGLE_APPLICATION_CREDENTIALS": "/no/such/key.json"}


@pytest.mark.case("W2")
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"CYNTHUS_WEBHOOK_SECRET": "short"}, "CYNTHUS_WEBHOOK_SECRET"),
        ({"CYNTHUS_ALLOWED": ""}, "CYNTHUS_ALLOWED"),
        ({"CYNTHUS_API_TOKEN": "short"}, "CYNTHUS_API_TOKEN"),
        ({"CYNTHUS_BLOB_URL": "gs://No_Bucket"}, "CYNTHUS_BLOB_URL"),
        ({"CYNTHUS_SECRETS_URL": "gs://bucket"}, "CYNTHUS_SECRETS_URL"),
        ({"CYNTHUS_BLOB_URL": "gs://bucket", **NO_KEY}, "GOOGLE_APPLICATION_CREDENTIALS"),
        ({"CYNTHUS_SECRETS_URL": "gcp://project", **NO_KEY}, "GOOGLE_APPLICATION_CREDENTIALS"),
        ({"CYNTHUS_PORT": "99999"}, "CYNTHUS_PORT"),
    ],
)
def test_it_does_not_start_with_what_would_not_be_safe(
    tmp_path: Path, change: dict[str, str], told: str
) -> None:
    github = {
        "CYNTHUS_GITHUB_APP_ID": "7",
        "CYNTHUS_GITHUB_PRIVATE_KEY": "-----BEGIN RSA PRIVATE KEY-----",
        "CYNTHUS_WEBHOOK_SECRET": WEBHOOK_SECRET,
        "CYNTHUS_ALLOWED": "acme",
    }
    refused = run(tmp_path, **{**github, **change})
    assert refused.returncode == 2
    assert told in refused.stderr
    assert "Traceback" not in refused.stderr
    assert WEBHOOK_SECRET not in refused.stderr


def test_a_taken_port_is_said_plainly(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused = run(tmp_path, CYNTHUS_PORT=str(taken.getsockname()[1]))
    assert refused.returncode == 2
    assert "taken" in refused.stderr


@pytest.mark.case("A8")
def test_secrets_never_reach_the_log(tmp_path: Path) -> None:
    more = {"CYNTHUS_API_TOKEN": TOKEN, "CYNTHUS_LOG_LEVEL": "DEBUG"}
    with server(tmp_path, **more) as (url, process):
        host = url.removeprefix("http://")
        name, _, port = host.partition(":")
        with socket.create_connection((name, int(port))) as connection:
            connection.sendall(
                f"GET /?token={TOKEN} HTTP/1.1\r\nHost: {host}\r\n"
                f"Authorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n".encode()
            )
            while connection.recv(65536):
                pass
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=60)
    assert TOKEN not in told
    assert (tmp_path / "state" / "server.key").read_bytes().hex() not in told


# ── secrets ─────────────────────────────────────────────────────────────────────────────────────


def secret(tmp_path: Path, *words: str, value: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "webhook_server", "secret", *words],
        cwd=tmp_path,
        env=environment(tmp_path),
        input=value,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_secret_is_set_listed_and_removed_by_the_command(tmp_path: Path) -> None:
    where = ("--repository-id", "7")
    assert secret(tmp_path, "set", *where, "HF_TOKEN", value="hf_0123456789\n").returncode == 0
    assert secret(tmp_path, "list", *where).stdout == "HF_TOKEN\n"
    assert secret(tmp_path, "list", "--repository-id", "8").stdout == ""
    stored = b"".join(p.read_bytes() for p in (tmp_path / "state").rglob("*") if p.is_file())
    assert b"hf_0123456789" not in stored
    assert secret(tmp_path, "remove", *where, "HF_TOKEN").returncode == 0
    assert secret(tmp_path, "list", *where).stdout == ""


@pytest.mark.case("A9")
@pytest.mark.parametrize(
    ("name", "value"),
    [("HF_TOKEN", "short"), ("HF_TOKEN", ""), ("../x", "long enough"), ("PATH", "long enough")],
)
def test_a_secret_that_could_not_be_kept_safe_is_refused(
    tmp_path: Path, name: str, value: str
) -> None:
    refused = secret(tmp_path, "set", "--repository-id", "7", name, value=value)
    assert refused.returncode == 2
    assert not value or value not in refused.stderr


def test_a_server_loads_no_library_of_what_it_has_not(tmp_path: Path) -> None:
    """Google's libraries cost a second and tens of MiB, the two others 9 MiB and 3."""
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from webhook_server import doors, ground, settings_reader\n"
        "found = settings_reader.read({'CYNTHUS_STATE_DIR': sys.argv[1]})\n"
        "with ground.ground(found, None) as below:\n"
        "    doors.open_doors(doors.open_parts(below, jobs=None, alive=tuple)).pages.get()\n"
        "print(*sys.modules)\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "state")]
    answer = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    loaded = answer.stdout.split()
    assert "webhook_server.stores.file_blobs" in loaded
    absent = ("google.auth", "google.cloud", "grpc", "cryptography", "sqlalchemy.dialects.postgres")
    assert not [name for name in loaded if name.startswith(absent)]
