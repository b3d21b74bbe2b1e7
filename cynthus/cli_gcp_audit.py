"""cynthus gcp audit: what is lent, what the server knows, the difference, and what it costs."""

from __future__ import annotations

import argparse
import json
import sys

from cynthus.cli_connection import add_server_argument, connect, harmless
from cynthus.cli_table import print_table
from cynthus.client import Client
from cynthus.codec import encode
from cynthus.errors import UserError
from cynthus.wire_money import AuditView, LentView, SweepAsk, SweepView

DONE, DIFFERS = 0, 1
_COLUMNS = ("standing", "name", "kind", "provider", "place", "fate", "an hour")
_COLOURS = {"unknown": "red", "missing": "yellow", "over": "yellow", "working": "green"}
_UNKNOWN = "unknown"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Name what can be asked."""
    parser.add_argument("--json", action="store_true", help="print JSON, amounts as exact text")
    parser.add_argument(
        "--sweep",
        action="store_true",
        help="delete what the server does not know, after you have typed how many there are",
    )
    parser.add_argument(
        "--confirm",
        type=int,
        metavar="COUNT",
        help="with --sweep: how many, for scripts; another count deletes nothing",
    )
    add_server_argument(parser)
    parser.epilog = (
        "All providers of the server are looked at. Exit code 1: something is unknown, missing or"
        " unanswered."
    )


def run(args: argparse.Namespace) -> int:
    """Print the audit; 1 when the two sides differ."""
    if args.confirm is not None and not args.sweep:
        raise UserError("--confirm: should come with --sweep, found alone. Write both.")
    client = connect(args)
    audit = client.audit()
    if args.sweep:
        return _sweep(client, audit, args)
    if args.json:
        print(json.dumps(encode(audit), indent=2))
    else:
        _print(audit)
    return DIFFERS if _differs(audit) else DONE


def _differs(audit: AuditView) -> bool:
    return bool(_unknown(audit) or audit.missing or audit.unanswered)


def _unknown(audit: AuditView) -> list[str]:
    """Return the names that the server does not know; a name may stand for several things."""
    return sorted({lent.name for lent in audit.lent if lent.standing == _UNKNOWN})


def _print(audit: AuditView) -> None:
    rows = [_row(lent) for lent in sorted(audit.lent, key=lambda lent: (lent.standing, lent.name))]
    rows += [
        ("missing", one.name, "instance", one.provider, "-", "not listed", "-")
        for one in audit.missing
    ]
    if rows:
        print_table(_COLUMNS, rows, _COLOURS)
    for line in _lines(audit):
        print(harmless(line))


def _row(lent: LentView) -> tuple[str, ...]:
    price = "?" if lent.usd_per_hour is None else f"${lent.usd_per_hour}"
    return (lent.standing, lent.name, lent.kind, lent.provider, lent.place, lent.fate, price)


def _lines(audit: AuditView) -> list[str]:
    unknown = len(_unknown(audit))
    at_least = f", and {audit.unpriced} without a known price" if audit.unpriced else ""
    lines = [f"{len(audit.lent)} lent for ${audit.usd_per_hour} an hour{at_least}"]
    if unknown:
        lines.append(f"{unknown} unknown to the server, ${audit.unknown_usd_per_hour} an hour")
    lines += [f"{one.provider}: gave no complete list ({one.detail})" for one in audit.unanswered]
    lines += [f"unknown ones are kept: {audit.kept}"] if audit.kept else []
    return lines


# ── sweep ───────────────────────────────────────────────────────────────────────────────────────


def _sweep(client: Client, audit: AuditView, args: argparse.Namespace) -> int:
    names = _unknown(audit)
    if not args.json:
        _print(audit)
    if not names:
        return _told(SweepView(begun=(), spared=()), as_json=args.json)
    count = args.confirm if args.confirm is not None else _typed(len(names))
    if count != len(names):
        raise UserError(
            f"sweep: should be confirmed with the number of unknown names, {len(names)}, found"
            " another. Nothing was deleted; look at the audit, and try again."
        )
    return _told(client.sweep(SweepAsk(names=tuple(names), count=count)), as_json=args.json)


def _typed(count: int) -> int:
    """Ask a person for the number: a word would be typed without looking."""
    if not sys.stdin.isatty():
        raise UserError(
            f"sweep: should be confirmed by a person, found no terminal. Write --confirm {count}"
            " if these are to be deleted."
        )
    try:
        text = input(f"type {count} to delete {count} unknown for ever: ")
    except EOFError:  # Ctrl-D
        return 0
    return count if text.strip() == str(count) else 0


def _told(swept: SweepView, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps(encode(swept), indent=2))
    else:
        print(f"{len(swept.begun)} deletions begun")
        for one in swept.spared:
            print(harmless(f"{one.name}: spared, {one.reason}"))
    return DIFFERS if swept.spared else DONE
