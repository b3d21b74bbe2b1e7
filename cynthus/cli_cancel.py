"""cynthus cancel: ask for a run's end, or for that of all."""

from __future__ import annotations

import argparse

from cynthus.cli_connection import add_server_argument, connect
from cynthus.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Name what can be asked."""
    parser.add_argument(
        "run", metavar="RUN", nargs="?", help="the run's id, as `cynthus status` shows it"
    )
    parser.add_argument("--all", action="store_true", help="all runs that have not ended")
    parser.add_argument(
        "--repository-id", metavar="ID", type=int, help="with --all: those of one repository"
    )
    add_server_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Ask, and say how to see what comes of it. Raises: UserError."""
    if (args.run is None) != args.all or (args.repository_id is not None and not args.all):
        raise UserError(
            "cancel: should name one run, or --all with or without --repository-id."
            " `cynthus status` shows the runs."
        )
    client = connect(args)
    if args.all:
        number = client.cancel_all(args.repository_id)
        print(f"asked of {number} runs. `cynthus status` shows their ends.")
        return 0
    client.cancel(args.run)
    print(f"asked. `cynthus logs -f {args.run}` shows its end.")
    return 0
