"""A simulated container registry as one program on one loopback port.

    python -m simulators registry --kind ghcr --port N [--state DIR] [--user NAME:PASSWORD]

It behaves as one vendor's does: `oci_vendors.py` says how they differ. Content lies in DIR and
survives `kill -9`; tokens and open uploads' addresses do not. The control endpoints and the fault
switches are described in docs/simulators.md.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import tempfile
import threading
from pathlib import Path

from simulators.oci_api import Api
from simulators.oci_serve import Server
from simulators.oci_store import Store
from simulators.oci_tokens import Accounts, TokenService
from simulators.oci_vendors import VENDORS


def main(argv: list[str]) -> int:
    """Serve until stopped."""
    args = _arguments(argv)
    folder = (args.state or Path(tempfile.mkdtemp(prefix="registry-sim-"))).resolve()
    vendor = VENDORS[args.kind]
    accounts = Accounts(
        users=dict(args.user),
        readers=dict(args.reader),
        identity_tokens={token: name for name, token in args.identity_token},
        public=args.public,
    )
    api = Api(vendor, Store(folder), TokenService(vendor, accounts))
    api.made.update(args.repository)
    with Server(api, port=args.port) as server:
        for name in (signal.SIGTERM, signal.SIGINT):
            # `shutdown` waits for the serving thread, which is this one: ask from another.
            signal.signal(name, lambda *_: threading.Thread(target=server.shutdown).start())
        _announce(server.url, folder / "ready.json")
        server.serve_forever(poll_interval=0.05)
    return 0


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m simulators registry", description=__doc__)
    parser.add_argument("--kind", choices=sorted(VENDORS), default="distribution")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--state", type=Path, default=None, metavar="DIR")
    for name, words in _PAIRS.items():
        parser.add_argument(
            name, type=_pair, action="append", default=[], metavar="NAME:SECRET", help=words
        )
    parser.add_argument("--public", action="store_true", help="everybody may pull")
    parser.add_argument(
        "--repository",
        action="append",
        default=[],
        metavar="PROJECT/NAME",
        help="made before the first push, as artifact-registry wants it",
    )
    return parser.parse_args(argv)


_PAIRS = {
    "--user": "may pull, push and delete",
    "--reader": "may pull",
    "--identity-token": "a user's refresh token, as `docker login` gets one",
}


def _pair(text: str) -> tuple[str, str]:
    name, _, secret = text.partition(":")
    return name, secret


def _announce(url: str, ready: Path) -> None:
    partial = ready.with_name(ready.name + ".partial")
    partial.write_text(json.dumps({"url": url, "pid": os.getpid()}))
    partial.replace(ready)
    print(f"registry simulator at {url}", flush=True)  # noqa: T201 - the ready line is the interface
