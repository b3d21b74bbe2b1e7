"""`cynthus agent`: become the program on an instance."""

from __future__ import annotations

import argparse
import os
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take all words as they are: the agent reads them itself."""
    parser.add_argument(
        "words",
        nargs=argparse.REMAINDER,
        metavar="run|poll …",
        help="`cynthus agent run --help` shows them",
    )


def run(args: argparse.Namespace) -> int:
    """Replace this process by the agent, so that signals and the exit code are its own."""
    words = args.words or ["--help"]
    # The contract package imports no program of ours: it starts it.
    os.execv(sys.executable, [sys.executable, "-m", "runner_images.agent", *words])  # noqa: S606 - no shell is wanted
