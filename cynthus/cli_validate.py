"""`cynthus validate FILE…`: every fault of specs and policies, for people, GitHub, programs."""

from __future__ import annotations

import argparse
import json
import sys

from cynthus import specfile
from cynthus.errors import Fault, UserError
from cynthus.nodes import MOST_FAULTS, harmless
from cynthus.specfile import LARGEST_FILE

FORMATS = ("text", "github", "json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="a spec, a cynthus-policy.yml, or - for standard input",
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="text",
        help="text for people, github for annotations on the lines, json for programs",
    )


def run(args: argparse.Namespace) -> int:
    """Check all files; 2 when any has a fault."""
    faults = [fault for path in args.files for fault in faults_of(path)]
    if args.format == "json":
        print(to_json(faults))
    elif args.format == "github":
        for fault in faults:
            print(annotation(fault))
    else:
        _print_text(faults, args.files)
    return 2 if faults else 0


def _print_text(faults: list[Fault], files: list[str]) -> None:
    for fault in faults:
        print(fault, file=sys.stderr)
    if not faults:
        names = ", ".join(_name(path) for path in files)
        print(f"{names}: fine")
        return
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    more = f"; the list of a file ends at {MOST_FAULTS}" if len(faults) >= MOST_FAULTS else ""
    print(f"{count} found{more}.", file=sys.stderr)


def faults_of(path: str) -> tuple[Fault, ...]:
    """Return the faults of one file, its being unreadable among them."""
    try:
        _check(read_bytes(path), path)
    except UserError as error:
        return error.faults
    return ()


def _check(text: bytes, path: str) -> None:
    """Read a file as what its name says it is. Raises: UserError with all its faults."""
    if path.endswith("policy.yml"):
        # Imported when asked (decision 3): a tenth of the time that a spec's validation takes.
        from cynthus import policyfile

        if policyfile.is_policy(path):
            policyfile.parse(text, _name(path))
            return
    specfile.parse(text, _name(path))


def read_bytes(path: str) -> bytes:
    """Return a file's bytes, or standard input's for `-`; never more than a spec may have, and one.

    Raises: UserError with one fault when it cannot be read.
    """
    try:
        if path == "-":
            return sys.stdin.buffer.read(LARGEST_FILE + 1)
        with open(path, "rb") as file:  # not pathlib, which costs 10 ms of start-up
            return file.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        message = (
            f"should be a file, found: {reason.lower()}. Check the name, or run `cynthus init`."
        )
        fault = Fault(path=_name(path), line=1, column=1, where="", message=message)
        raise UserError(str(fault), (fault,)) from error


def _name(path: str) -> str:
    """Return a path for messages; a hostile file name is no workflow command either."""
    if path == "-":
        return "standard input"
    return harmless(path.encode("utf-8", "replace").decode())


def annotation(fault: Fault) -> str:
    """Return a fault as a workflow command that puts it on its line.

    https://docs.github.com/en/actions/reference/workflow-commands-for-github-actions
    """
    place = f"file={_property(fault.path)},line={fault.line},col={fault.column}"
    where = f"{fault.where}: " if fault.where else ""
    return f"::error {place},title=cynthus::{_data(where + fault.message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def to_json(faults: list[Fault]) -> str:
    """Return faults as JSON: a list of objects with path, line, column, where and message."""
    rows = [
        {
            "path": fault.path,
            "line": fault.line,
            "column": fault.column,
            "where": fault.where,
            "message": fault.message,
        }
        for fault in faults
    ]
    return json.dumps(rows, indent=2)
