"""`cynthus verify FOLDER`: whether downloaded files are what a run made, and who says so."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cynthus.cli_connection import harmless
from cynthus.errors import UserError
from cynthus.verifying import verify


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Name what can be asked."""
    parser.add_argument(
        "folder", metavar="FOLDER", help="where all files of one release lie, as downloaded"
    )
    parser.add_argument(
        "--key",
        metavar="PEM",
        help="file with the server's public key (its /api/v1/signing-key): who signed counts too",
    )


def run(args: argparse.Namespace) -> int:
    """Print what was found; 0: all is as it was made, 1: something is not."""
    report = verify(Path(args.folder), _key(args.key))
    for name in report.checked:
        print(harmless(f"ok: {name}"))
    for note in report.notes:
        print(harmless(f"note: {note}"))
    for fault in report.faults:
        print(harmless(fault), file=sys.stderr)
    return 1 if report.faults else 0


def _key(path: str | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(
            f"--key: should be a file with a public key, found nothing that can be read at {path}."
            " Take it from the server's /api/v1/signing-key."
        ) from error
