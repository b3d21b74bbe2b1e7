"""cynthus status: show runs, or one run and where it stands."""

from __future__ import annotations

import argparse
import json
from decimal import Decimal
from typing import Any

from cynthus.cli_connection import add_server_argument, connect, harmless
from cynthus.cli_table import print_table
from cynthus.codec import encode
from cynthus.money import of_limit, usd
from cynthus.wire import AttemptView, RunView

_COLUMNS = ("id", "name", "repository", "commit", "state", "cost", "reason")
_COLOURS = {
    "succeeded": "green",
    "failed": "red",
    "infrastructure": "red",
    "timed_out": "red",
    "over_budget": "red",
    "cancelled": "yellow",
    "running": "cyan",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Name what can be asked."""
    parser.add_argument("run", metavar="RUN", nargs="?", help="a run's id; none: the newest runs")
    parser.add_argument("--limit", type=int, default=20, help="how many runs (default 20)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_server_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Print it."""
    client = connect(args)
    if args.run:
        view = client.get(args.run)
        _print(json.dumps(encode(view), indent=2) if args.json else told_text(view))
        return 0
    rows = client.list(limit=args.limit)
    if args.json:
        _print(json.dumps(rows, indent=2))
    else:
        _table([_cells(row) for row in rows])
    return 0


def _print(text: str) -> None:
    print(text)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        row["id"],
        row["name"] or "(unreadable spec)",
        row["repository"],
        row["commit_sha"][:7],
        row["outcome"] or row["state"],
        usd(Decimal(row["cost_usd"])),
        row["reason"],
    )


def _table(rows: list[tuple[str, ...]]) -> None:
    if not rows:
        print("no runs yet. Start one with `cynthus run`, or push a commit.")
        return
    print_table(_COLUMNS, rows, _COLOURS)


def _estimate(view: RunView) -> str:
    return f" (an estimate by {view.price_source})" if view.price_source else ""


def told_text(view: RunView) -> str:
    """Return one run as lines for a terminal; nothing in them moves its cursor."""
    lines = [
        f"{view.name or '(unreadable spec)'} {view.id}",
        f"  state      {view.outcome or view.state}: {view.reason or ''}",
        f"  commit     {view.repository} {view.commit_sha[:7]} ({view.trigger})",
        f"  cost       {of_limit(view.cost_usd, view.max_cost_usd)}{_estimate(view)}",
    ]
    lines += _hold(view)
    if view.asked_by:
        lines.append(f"  asked by   {view.asked_by}")
    lines += [f"  override   {key}={value}" for key, value in view.overrides.items()]
    if view.phase or view.progress is not None:
        done = "" if view.progress is None else f" {view.progress:.0%}"
        lines.append(f"  progress   {view.phase or ''}{done}")
    lines += [f"  metric     {name} = {value:g}" for name, value in sorted(view.metrics.items())]
    lines += [_attempt(one) for one in view.attempts]
    lines += [f"  output     {o.path} ({o.size_bytes:,} bytes)" for o in view.outputs]
    lines += [f"  notice     {notice}" for notice in view.notices]
    if view.release_url:
        lines.append(f"  release    {view.release_url}")
    lines.append(f"  page       {view.url}")
    return "\n".join(harmless(line) for line in lines)


def _hold(view: RunView) -> list[str]:
    if view.hold is None:
        return []
    who = f"  held       {view.hold.who} may approve it, up to {usd(view.hold.cap_usd)}"
    return [who, *(f"             {reason}" for reason in view.hold.reasons)]


def _attempt(told: AttemptView) -> str:
    count = f"{told.nodes} x " if told.nodes > 1 else ""
    machine = "" if told.machine in {"", told.place} else f" {count}{told.machine}"
    spot = " spot" if told.spot else ""
    lost = f" (lost {told.lost_s:.0f} s)" if told.lost_s else ""
    warm = f" kept warm by run {told.warm_run}" if told.warm_run else ""
    where = f"{told.provider} {told.place}{machine}{spot}{warm}"
    return (
        f"  attempt {told.number}  {where} ${told.cost_usd:.4f} {told.reason or ''}{lost}".rstrip()
    )
