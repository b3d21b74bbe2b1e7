"""cynthus pull: download a run's outputs, each checked by its digest."""

from __future__ import annotations

import argparse
from pathlib import Path

from cynthus.cli_connection import (
    add_run_argument,
    add_server_argument,
    connect,
    harmless,
    no_room,
    writable,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Name what can be asked."""
    add_run_argument(parser)
    parser.add_argument(
        "--to", metavar="FOLDER", help="where to put them (default: cynthus-outputs/RUN)"
    )
    add_server_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Download what is not there yet."""
    client = connect(args)
    folder = Path(args.to or Path("cynthus-outputs") / args.run)
    outputs = client.outputs(args.run)
    if not outputs:
        print("the run has no outputs (yet). `cynthus status` shows where it stands.")
        return 0
    writable(folder, "--to")
    for output in outputs:
        try:
            client.download(output, folder)
        except OSError as error:
            raise no_room(folder, "--to", error) from error
        print(harmless(f"{folder / output.path} ({output.size_bytes:,} bytes)"))
    return 0
