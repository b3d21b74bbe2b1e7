"""cynthus serve: start the server in this process's place."""

from __future__ import annotations

import argparse

from cynthus.server_program import become_server


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Name what the server takes beside its settings."""
    parser.add_argument(
        "--role",
        choices=("all", "api", "worker"),
        default="all",
        help="all (default): doors and loops; api: doors only; worker: loops only",
    )
    parser.add_argument("--host", help="address to listen on (CYNTHUS_HOST)")
    parser.add_argument("--port", type=int, help="port to listen on, 0: any (CYNTHUS_PORT)")


def run(args: argparse.Namespace) -> int:
    """Become the server: signals, exit code and terminal are its own."""
    words = ["--role", args.role]
    words += ["--host", args.host] if args.host else []
    words += ["--port", str(args.port)] if args.port is not None else []
    become_server("serve", words)
