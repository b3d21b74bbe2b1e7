"""`cynthus gcp refresh-prices`: let the server's program read Google's list prices anew."""

from __future__ import annotations

import argparse

from cynthus.server_program import become_server


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take nothing: the server's settings say it all."""
    parser.epilog = (
        "Run it on the server's machine, with its settings. A running server takes the new prices"
        " up within a minute; it also reads them by itself, once a day. Exit codes: 0 done, 2 a"
        " setting is wrong, 3 Google refused or was away, and the old prices stay."
    )


def run(_args: argparse.Namespace) -> int:
    """Become the server's program: its exit code, 0, 2 or 3, is ours."""
    become_server("gcp refresh-prices", ["refresh-prices"], extras="server,gcp")
