"""cynthus data: show, evict or remove what the blob store keeps of data."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter

from cynthus.cli_connection import add_server_argument, connect, harmless
from cynthus.cli_table import print_table
from cynthus.client import Client
from cynthus.codec import encode
from cynthus.errors import UserError
from cynthus.wire_kept import TreeView

_COLUMNS = ("repository", "for", "source", "revision", "files", "size", "last used", "used by")
_REVISION = 12  # characters of a commit, as Git shows it
_UNITS = ("B", "kB", "MB", "GB", "TB")
_STEP = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Name what can be asked."""
    verbs = parser.add_subparsers(dest="verb", metavar="WHAT", required=True)
    shown = verbs.add_parser("ls", help="show what is cached, the last used first")
    shown.add_argument("--repository", default="", help="owner/name, or GitHub's number")
    gone = verbs.add_parser("gc", help="evict what is too old or too much, as the server does")
    gone.add_argument("--dry-run", action="store_true", help="only say what would go")
    purged = verbs.add_parser(
        "purge", help="remove a repository's cached data, checkpoints and outputs"
    )
    purged.add_argument("repository", help="owner/name, or GitHub's number")
    purged.add_argument("--yes", action="store_true", help="do not ask: for scripts")
    for verb in (shown, gone, purged):
        verb.add_argument("--json", action="store_true", help="print JSON")
        add_server_argument(verb)


def run(args: argparse.Namespace) -> int:
    """Do what is asked."""
    client = connect(args)
    match args.verb:
        case "ls":
            _list(client, args)
        case "gc":
            _collect(client, args)
        case _:
            _purge(client, args)
    return 0


def _list(client: Client, args: argparse.Namespace) -> None:
    view = client.data(args.repository)
    if args.json:
        print(json.dumps(encode(view), indent=2))
        return
    _print(view.trees)
    kept = f"kept {view.limit_days} days unused" if view.limit_days else "kept for ever"
    total = sum(use.size_bytes for use in view.uses)
    print(f"{size(total)} in all; {size(view.limit_bytes)} at most for a repository, {kept}")


def _collect(client: Client, args: argparse.Namespace) -> None:
    view = client.collect_data(dry_run=args.dry_run)
    if args.json:
        print(json.dumps(encode(view), indent=2))
        return
    _print(view.trees)
    if view.dry_run:
        print(f"{len(view.trees)} datasets would go: nothing was changed")
    else:
        print(
            f"{len(view.trees)} datasets evicted, their bytes go within a day;"
            f" {view.blobs} blobs deleted, {size(view.size_bytes)}"
        )


def _purge(client: Client, args: argparse.Namespace) -> None:
    if not args.yes:
        _confirm(args.repository)
    blobs: Counter[str] = Counter()
    total = 0
    while True:
        step = client.purge_data(args.repository)
        blobs.update(step.blobs)
        total += step.size_bytes
        if not step.more:
            break
    if args.json:
        told = {"repository_id": step.repository_id, "blobs": dict(blobs), "size_bytes": total}
        print(json.dumps({**told, "remains": step.remains}, indent=2))
        return
    for kind, number in sorted(blobs.items()):
        print(harmless(f"removed: {number} of {kind}"))
    print(f"{size(total)} removed. What may remain, and where:")
    for line in step.remains:
        print(harmless(f"  {line}"))


def _confirm(repository: str) -> None:
    if not sys.stdin.isatty():
        raise UserError("--yes: should be given where nobody can be asked. Write it.")
    print(f"This removes all cached data, checkpoints and outputs of {harmless(repository)}.")
    if input("Type the repository once more to go on: ").strip() != repository:
        raise UserError("repository: should have been typed the same way. Nothing was removed.")


def _print(trees: tuple[TreeView, ...]) -> None:
    if trees:
        print_table(_COLUMNS, [_row(tree) for tree in trees])


def _row(tree: TreeView) -> tuple[str, ...]:
    number = tree.owner_id if tree.repository_id is None else tree.repository_id
    return (
        tree.repository or (f"owner {number}" if tree.repository_id is None else str(number)),
        tree.part,
        tree.source,
        tree.revision[:_REVISION],
        str(tree.files) if tree.state == "ready" else tree.state,
        size(tree.size_bytes),
        f"{tree.used_at:%Y-%m-%d %H:%M}",
        ", ".join(tree.used_by) or "-",
    )


def size(count: int) -> str:
    """Return bytes as people read them: 1.2 GB."""
    amount = float(count)
    for unit in _UNITS[:-1]:
        if amount < _STEP:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= _STEP
    return f"{amount:.1f} {_UNITS[-1]}"
