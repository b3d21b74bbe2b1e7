"""Find the server that a subcommand talks to."""

from __future__ import annotations

import argparse
import os
import re
import tempfile
from pathlib import Path

from cynthus.client import DEFAULT_SERVER, Client
from cynthus.errors import UserError

# What a terminal would obey, but for colours: a log must not move the cursor or set the title.
_COMMANDS = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # titles, links
    r"|\x1b\[[0-9;:?<=>!]*[A-Za-ln-z@`{|}~]"  # all control sequences except those ending in m
    r"|\x1b(?!\[[0-9;:]*m)."
    r"|[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f]"
)


def add_server_argument(parser: argparse.ArgumentParser) -> None:
    """Let the user name the server."""
    parser.add_argument(
        "--server",
        metavar="URL",
        help=f"address of the server (CYNTHUS_SERVER; default {DEFAULT_SERVER})."
        " CYNTHUS_TOKEN or CYNTHUS_API_TOKEN holds the token",
    )


def add_run_argument(parser: argparse.ArgumentParser) -> None:
    """Let the user name a run."""
    parser.add_argument("run", metavar="RUN", help="the run's id, as `cynthus status` shows it")


def writable(folder: Path, option: str) -> Path:
    """Return a folder for files, tried: better now than when they have come.

    Raises: UserError.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"can be written")
    except OSError as error:
        raise UserError(
            f"{option}: should be a folder that can be written, found {folder}: {error.strerror}."
            f" Name another with {option}."
        ) from error
    return folder


def no_room(folder: Path, option: str, error: OSError) -> UserError:
    """Say why files could not be copied."""
    return UserError(
        f"{folder}: should have room for the outputs, found: {error.strerror or error}."
        f" Make room, or name another folder with {option}, and try again."
    )


def connect(args: argparse.Namespace) -> Client:
    """Return a client of the named server."""
    server = args.server or os.environ.get("CYNTHUS_SERVER") or DEFAULT_SERVER
    token = os.environ.get("CYNTHUS_TOKEN") or os.environ.get("CYNTHUS_API_TOKEN") or ""
    return Client(server, token)


def harmless(text: str) -> str:
    """Return text that a terminal shows and does not obey."""
    return _COMMANDS.sub("", text)
