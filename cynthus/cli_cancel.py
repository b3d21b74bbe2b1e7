"""cynthus cancel: ask for a run's end."""

from __future__ import annotations

import argparse

from cynthus.cli_connection import add_run_argument, add_server_argument, connect


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Name what can be asked."""
    add_run_argument(parser)
    add_server_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Ask, and say how to see what comes of it."""
    connect(args).cancel(args.run)
    print(f"asked. `cynthus logs -f {args.run}` shows its end.")
    return 0
