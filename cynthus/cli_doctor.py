"""cynthus doctor: look for what keeps runs from working, here and at the server."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable
from pathlib import Path

from cynthus.cli_connection import add_server_argument, connect, harmless
from cynthus.cli_table import print_table
from cynthus.codec import encode
from cynthus.errors import Transient
from cynthus.local_checks import local_findings
from cynthus.wire_doctor import Finding, Verdict

DONE, FAILS, AWAY = 0, 1, 3
_COLUMNS = ("", "what", "found")
_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Name what can be asked."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_server_argument(parser)
    parser.epilog = (
        "Exit code 0: all works, warnings aside; 1: something fails; 3: the server is not reached,"
        " and only this machine was looked at."
    )


def run(args: argparse.Namespace) -> int:
    """Print what was found; this machine's part also where no server answers."""
    here = local_findings(Path.cwd(), os.environ)
    there: tuple[Finding, ...] = ()
    trouble = ""
    client = connect(args)
    try:
        there = client.doctor().findings
    except Transient as error:
        trouble = str(error)
    if args.json:
        told = {"here": encode(here), "server": encode(there), "trouble": trouble}
        print(json.dumps(told, indent=2))
    else:
        _print("this machine", here)
        if trouble:
            print(harmless(f"\n{trouble}"))
        else:
            _print(f"\nthe server at {client.server}", there)
    return _code((*here, *there), away=bool(trouble))


def _code(findings: Iterable[Finding], *, away: bool) -> int:
    if away:
        return AWAY
    return FAILS if any(one.verdict is Verdict.FAIL for one in findings) else DONE


def _print(title: str, findings: tuple[Finding, ...]) -> None:
    print(harmless(title))
    print_table(_COLUMNS, [(one.verdict.value, one.name, one.found) for one in findings], _COLOURS)
    for one in findings:
        if one.remedy:
            print(harmless(f"  {one.name}: {one.remedy}"))
