"""`cynthus show FILE`: what a spec means, with its defaults filled in."""

from __future__ import annotations

import argparse
import json

from cynthus.cli_validate import read_bytes
from cynthus.spec import Spec, spec_digest, spec_to_json
from cynthus.specfile import parse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "file",
        nargs="?",
        default="cynthus.yaml",
        metavar="FILE",
        help="a spec, or - for standard input",
    )
    parser.add_argument("--json", action="store_true", help="print the normal form as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the spec's meaning."""
    text = read_bytes(args.file)
    spec = parse(text, args.file)
    print(as_json(spec) if args.json else as_text(spec, text))
    return 0


def as_json(spec: Spec) -> str:
    """Return the normal form; `##[` is escaped, since GitHub's runner obeys it in any line."""
    return json.dumps(spec_to_json(spec), indent=2).replace("##[", "#\\u0023[")


def as_text(spec: Spec, text: bytes) -> str:
    """Return one `place = value` per line, the values as JSON."""
    lines = [f"sha256 = {spec_digest(text)}"]
    lines += (f"{where} = {value}" for where, value in _leaves("", spec_to_json(spec)))
    return "\n".join(lines)


def _leaves(where: str, value: object) -> list[tuple[str, str]]:
    if isinstance(value, dict) and value:
        return [
            leaf
            for key, inner in value.items()
            for leaf in _leaves(f"{where}/{key}" if where else str(key), inner)
        ]
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return [leaf for n, item in enumerate(value) for leaf in _leaves(f"{where}/{n}", item)]
    return [(where, json.dumps(value).replace("##[", "#\\u0023["))]
