"""`cynthus gcp`: the table of its verbs; each lives in `cynthus/cli_gcp_<verb>.py`.

Such a module has `add_arguments(parser) -> None` and `run(args) -> int`, as subcommands have.
"""

from __future__ import annotations

import argparse
from importlib import import_module

#: name → (module, one line for --help)
VERBS = {
    "audit": (
        "cynthus.cli_gcp_audit",
        "compare what is lent with what the server knows, and what it costs",
    ),
    "refresh-prices": (
        "cynthus.cli_gcp_refresh_prices",
        "read Google's list prices anew, by which offers are compared and costs counted",
    ),
    "setup-storage": (
        "cynthus.cli_gcp_setup_storage",
        "make the bucket for outputs, or say and put right what is wrong with it",
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Name the verbs with what each takes."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, (module, line) in VERBS.items():
        import_module(module).add_arguments(verbs.add_parser(name, help=line, description=line))


def run(args: argparse.Namespace) -> int:
    """Run the verb and return its exit code."""
    code: int = import_module(VERBS[args.verb][0]).run(args)
    return code
