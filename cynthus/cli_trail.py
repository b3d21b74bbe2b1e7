"""cynthus trail: print who did what, why, by which right."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

from cynthus.cli_connection import add_server_argument, connect, harmless


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Name what can be asked."""
    parser.add_argument("--run", default="", metavar="RUN", help="only lines of this run")
    parser.add_argument("--repository", default="", help="owner/name, or GitHub's number")
    parser.add_argument("--person", default="", metavar="LOGIN", help="only what this person did")
    parser.add_argument("--verb", default="", help="only this: start, cancel, approve, order, …")
    parser.add_argument("--since", default="", help="a date or a moment: 2026-01-31T12:00:00Z")
    parser.add_argument("--until", default="", help="as --since; not included")
    parser.add_argument(
        "--after", type=int, default=0, metavar="SEQ", help="go on beyond the line of this number"
    )
    parser.add_argument("--json", action="store_true", help="print each line as a JSON object")
    add_server_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Print it, oldest first, to its end."""
    asked = {
        "run": args.run,
        "repository": args.repository,
        "actor": args.person,
        "verb": args.verb,
        "since": args.since,
        "until": args.until,
    }
    wanted = {name: text for name, text in asked.items() if text}
    for line in connect(args).trail(wanted, after=args.after):
        print(json.dumps(line, ensure_ascii=False) if args.json else told(line))
    return 0


def told(line: Mapping[str, Any]) -> str:
    """Return one line for a terminal; nothing in it moves its cursor."""
    actor, proof = line["actor"], line["proof"]
    done = line["verb"] if line["done"] else f"{line['verb']} refused"
    about = [f"run {line['run_id']}"] if line["run_id"] else []
    about += [text for text in (line["subject"], line["text"]) if text]
    right = " ".join(text for text in (proof["means"], proof["role"], proof["ref"]) if text)
    parts = (line["at"], actor["name"], done, ", ".join(about), f"({line['source']}; {right})")
    return harmless("  ".join(part for part in parts if part).replace("\n", " "))
