"""Simulated hubs of models and data as one program on two loopback ports.

    python -m simulators hub --port N [--state DIR]

Hugging Face, Kaggle and a plain host of files answer at the first; what they send a client on to
lies at the second, under another host's name. The world lies in DIR as a journal of what was asked
for and survives `kill -9`. The endpoints and fault switches are described in docs/simulators.md.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import ssl
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path

from simulators.hub_serve import Listener
from simulators.hub_world import Hub


def main(argv: list[str]) -> int:
    """Serve until stopped."""
    args = _arguments(argv)
    folder = (args.state or Path(tempfile.mkdtemp(prefix="hub-sim-"))).resolve()
    hub = Hub(folder)
    with ExitStack() as stack:
        server = stack.enter_context(Listener(hub, "api", port=args.port))
        storage = stack.enter_context(Listener(hub, "storage"))
        hub.api.url = f"http://127.0.0.1:{server.port}"
        hub.storage.url = f"http://localhost:{storage.port}"  # another host, for clients
        ready = {"url": hub.api.url, "storage_url": hub.storage.url}
        beside = [storage]
        if args.certificate:
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(args.certificate)
            beside.append(stack.enter_context(Listener(hub, "api", tls=tls)))
            ready["https_url"] = f"https://127.0.0.1:{beside[-1].port}"
        for name in (signal.SIGTERM, signal.SIGINT):
            # `shutdown` waits for the serving thread, which is this one: ask from another.
            signal.signal(name, lambda *_: threading.Thread(target=server.shutdown).start())
        for other in beside:
            threading.Thread(target=other.serve_forever, args=(0.05,), daemon=True).start()
            stack.callback(other.shutdown)
        _announce(ready, folder / "ready.json")
        server.serve_forever(poll_interval=0.05)
    return 0


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m simulators hub", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--state", type=Path, default=None, metavar="DIR")
    parser.add_argument(
        "--certificate",
        type=Path,
        default=None,
        metavar="FILE",
        help="certificate and key (PEM): the same also by https, at a port of its own",
    )
    return parser.parse_args(argv)


def _announce(told: dict[str, str], ready: Path) -> None:
    partial = ready.with_name(ready.name + ".partial")
    partial.write_text(json.dumps({**told, "pid": os.getpid()}))
    partial.replace(ready)
    print(f"hub simulator at {told['url']}", flush=True)  # noqa: T201 - the ready line is the interface
