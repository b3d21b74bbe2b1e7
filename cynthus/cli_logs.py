"""cynthus logs: print a run's log, or follow it to the run's end."""

from __future__ import annotations

import argparse
import sys

from cynthus.cli_connection import add_run_argument, add_server_argument, connect, harmless
from cynthus.client import Client
from cynthus.wire import EventKind, RunEvent


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Name what can be asked."""
    add_run_argument(parser)
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the run ends")
    parser.add_argument("--attempt", type=int, help="which attempt (default: the newest)")
    parser.add_argument("--rank", type=int, help="of a gang only this instance's log")
    add_server_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Print it; a followed run that does not succeed ends with 1."""
    client = connect(args)
    if args.follow:
        return _follow(client, args.run, args.rank)
    for chunk in client.log(args.run, args.attempt, args.rank):
        _write(chunk.decode("utf-8", "replace"))
    return 0


def _follow(client: Client, run_id: str, rank: int | None) -> int:
    client.get(run_id)  # a wrong id, or a server that is away, is told at once
    for event in client.follow(run_id):
        if event.kind is EventKind.LOG and rank in {None, event.rank}:
            _write(str(event.body.get("text", "")))
        elif event.kind is EventKind.STATE:
            _tell(event)
    outcome = client.get(run_id).outcome
    return 0 if outcome == "succeeded" else 1


def _tell(event: RunEvent) -> None:
    """Say on standard error where the run stands, so that the log alone can be piped."""
    word = event.body.get("outcome") or event.body.get("state")
    print(harmless(f"── {word}: {event.body.get('reason') or ''}"), file=sys.stderr, flush=True)


def _write(text: str) -> None:
    sys.stdout.write(harmless(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()
