"""What bringing outputs costs beside a bare upload of the same bytes to the same door."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from bench.result import Result, at_least, at_most
from bench.runs import _agent_of, _request
from bench.served import MIB, ours, settled
from cynthus.client import Client
from cynthus.wire import RunView
from demo.server import Server
from webhook_server.auth.blob_urls import PutTerms, put_url
from webhook_server.auth.server_key import server_key
from webhook_server.stores.blob_protocol import blob_key

SIZE_BYTES = 2_000_000_000
SAMPLES = 3  # of each side, in turn
BLOCK_BYTES = 1 << 20
MANY = 100_000
MANY_SCRIPT = f"""\
from os import makedirs
for n in range({MANY}):
    folder = f"outputs/{{n // 1000:03}}"
    n % 1000 or makedirs(folder)
    with open(f"{{folder}}/{{n:06}}.txt", "w") as file:
        file.write(f"step {{n:06}}\\n" * 85)
"""
LOOK_S = 0.05  # between two looks at the agent's memory


def outputs() -> list[Result]:
    """2 GB from a command's folder to the blob store: the agent's rate over the bare upload's."""
    with tempfile.TemporaryDirectory(prefix="cynthus-bench-outputs-", dir=_memory()) as own:
        folder = Path(own)
        file, image = _file(folder), _bundle(folder)
        settings = {"CYNTHUS_BUNDLES_DIR": own}
        with ours(folder / "state", settings) as server:
            settled(server)
            ratios, peaks, bare = [], [], []
            for number in range(SAMPLES):
                bare_s = _put_bare(server, file, number)
                view, ours_s, peak = _collect(server, image, f"ln '{file}' outputs/weights", number)
                _check_whole(server, view)
                ratios.append(bare_s / ours_s)
                peaks.append(peak)
                bare.append(SIZE_BYTES / bare_s / 1e6)
    beside = f"a bare PUT of the same 2 GB to the same door: {sorted(bare)[1]:.0f} MB/s"
    return [
        at_least("outputs_ratio", "", ratios, 0.85, beside),
        at_most("outputs_agent_rss_mib", "MiB", peaks, 120, "peak while it collects 2 GB"),
    ]


def many_outputs() -> list[Result]:
    """100,000 files of 1 kB, in a hundred folders: all but the first 500 travel in archives."""
    with tempfile.TemporaryDirectory(prefix="cynthus-bench-outputs-", dir=_memory()) as own:
        folder = Path(own)
        image = _bundle(folder)
        (folder / "bundle" / "workspace" / "many.py").write_text(MANY_SCRIPT)
        with ours(folder / "state", {"CYNTHUS_BUNDLES_DIR": own}) as server:
            settled(server)
            view, seconds, peak = _collect(server, image, "python3 many.py", 0)
    files = sum(output.packed or 1 for output in view.outputs)
    if files != MANY:
        raise RuntimeError(f"run {view.id}: should bring {MANY} files, found {files}")
    beside = f"100,000 files of 1 kB in {len(view.outputs)} blobs"
    return [
        at_most("many_outputs_s", "s", [seconds], 60, beside),
        at_most("many_outputs_agent_rss_mib", "MiB", [peak], 120, "its peak meanwhile"),
    ]


def _memory() -> str | None:
    """Return a disk of memory with room for both copies, and one more; None: there is none.

    On a real disk each second of two uploads pays for writing back the first.
    """
    shared = Path("/dev/shm")
    roomy = shared.is_dir() and shutil.disk_usage(shared).free > 3 * SIZE_BYTES
    return str(shared) if roomy else None


def _file(folder: Path) -> Path:
    path, block = folder / "weights", os.urandom(BLOCK_BYTES)
    with path.open("wb") as file:
        for _ in range(SIZE_BYTES // BLOCK_BYTES):
            file.write(block)
        file.write(block[: SIZE_BYTES % BLOCK_BYTES])
    return path


def _bundle(folder: Path) -> str:
    (folder / "bundle" / "workspace").mkdir(parents=True)
    found = {"bin": "/usr/bin", "workspace": "workspace"}
    (folder / "bundle" / "bundle.json").write_text(json.dumps(found))
    return (folder / "bundle").as_uri()


def _put_bare(server: Server, file: Path, number: int) -> float:
    """Return the seconds of one PUT without an agent: a file, read and sent in blocks."""
    key = blob_key(0, "bare", number + 1, "weights")
    secret = server_key("", server.state)
    terms = PutTerms(size_bytes=SIZE_BYTES, sha256="", over=0)
    expires_at = datetime.now(UTC) + timedelta(minutes=10)
    parts = urlsplit(put_url(server.url, secret, key, terms, expires_at))
    begin = time.perf_counter()
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=120)
    with file.open("rb") as content:
        connection.request(
            "PUT", f"{parts.path}?{parts.query}", content, {"content-length": str(SIZE_BYTES)}
        )
    status = connection.getresponse().status
    connection.close()
    if status != http.client.CREATED:
        raise RuntimeError(f"the bare upload: should be answered 201, found {status}")
    seconds = time.perf_counter() - begin
    (server.state / "blobs" / key).unlink()
    return seconds


def _collect(server: Server, image: str, command: str, number: int) -> tuple[RunView, float, float]:
    """Return the run, how long the server waited for its outputs, the agent's peak in MiB."""
    client = Client(server.url, server.api_token)
    request = _request(1000 + number, image, command)
    text = request.spec_text + "outputs:\n  - path: outputs\n"
    run_id = client.submit(type(request)(**{**vars(request), "spec_text": text})).run_id
    moments: dict[str, datetime] = {}
    peak, over = [0.0], threading.Event()
    for event in client.follow(run_id):
        state = str(event.body.get("state", "")) if event.kind == "state" else ""
        if state:
            moments.setdefault(state, event.at)
        if state == "running":
            watcher = threading.Thread(
                target=_watch, args=(_agent_of(server), peak, over), daemon=True
            )
            watcher.start()
        if state == "finished":
            break
    over.set()
    view = client.get(run_id)
    if view.outcome != "succeeded":
        raise RuntimeError(f"run {run_id}: should succeed, found {view.outcome}: {view.reason}")
    return view, (moments["releasing"] - moments["collecting"]).total_seconds(), peak[0]


def _check_whole(server: Server, view: RunView) -> None:
    """Look whether all has come, then make room for the next."""
    if [one.size_bytes for one in view.outputs] != [SIZE_BYTES]:
        raise RuntimeError(f"run {view.id}: should bring 2 GB, found {view.outputs}")
    for blob in (server.state / "blobs" / "0" / view.id).rglob("*"):
        if blob.is_file():
            blob.unlink()


def _watch(process: psutil.Process, peak: list[float], over: threading.Event) -> None:
    while not over.wait(LOOK_S):
        try:
            peak[0] = max(peak[0], process.memory_info().rss / MIB)
        except psutil.NoSuchProcess:
            return
