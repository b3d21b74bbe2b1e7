"""The table of subcommands; each lives in `cynthus/cli_<name>.py` and is imported when asked for.

Such a module has `add_arguments(parser) -> None` and `run(args) -> int`.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

#: name → (module, one line for --help)
SUBCOMMANDS = {
    "validate": ("cynthus.cli_validate", "check spec files and show every fault with its line"),
    "show": ("cynthus.cli_show", "print what a spec means, with its defaults filled in"),
    "init": ("cynthus.cli_init", "write a commented cynthus.yaml fit for this folder"),
    "plan": ("cynthus.cli_plan", "say what a run would get and cost; order nothing"),
    "run": ("cynthus.cli_run", "run this folder here and now, without GitHub"),
    "serve": ("cynthus.cli_serve", "start the server"),
    "status": ("cynthus.cli_status", "show runs and where they stand"),
    "logs": ("cynthus.cli_logs", "print a run's log, -f to follow it"),
    "cancel": ("cynthus.cli_cancel", "stop a run"),
    "trail": ("cynthus.cli_trail", "print who did what, why, by which right"),
    "pull": ("cynthus.cli_pull", "download a run's outputs"),
    "data": ("cynthus.cli_data", "show, evict or remove what the blob store keeps of data"),
    "doctor": ("cynthus.cli_doctor", "look for what keeps runs from working, and say what to do"),
    "verify": ("cynthus.cli_verify", "check the downloaded files of a release"),
    "gcp": ("cynthus.cli_gcp", "set up what the server keeps on Google Cloud"),
    "agent": ("cynthus.cli_agent", "be the program on an instance: agent run | poll"),
}


def run(words: list[str]) -> int:
    """Run the subcommand that the words name, and return its exit code."""
    asked = next((word for word in words if not word.startswith("-")), None)
    parser = _parser(asked)
    args = parser.parse_args(words)
    if args.subcommand is None:
        parser.print_help()
        return 2
    code: int = import_module(SUBCOMMANDS[args.subcommand][0]).run(args)
    return code


def _parser(asked: str | None) -> argparse.ArgumentParser:
    """Return a parser that knows all names, and the arguments of the one that is asked for."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--debug",
        action="store_true",
        default=argparse.SUPPRESS,
        help="show the traceback of an unexpected error",
    )
    parser = argparse.ArgumentParser(
        prog="cynthus", description="Turn a commit into a finished GPU run.", parents=[common]
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and end")
    names = parser.add_subparsers(dest="subcommand", metavar="COMMAND", title="commands")
    for name, (module, line) in SUBCOMMANDS.items():
        sub = names.add_parser(name, help=line, description=line, parents=[common])
        if name == asked:
            import_module(module).add_arguments(sub)
    return parser


class _Version(argparse.Action):
    """Look the version up only when it is asked for: importlib.metadata is slow to import."""

    def __call__(self, *_: object) -> None:
        """Print it and end."""
        from cynthus.version import own_version

        print(f"cynthus {own_version()}")
        sys.exit(0)
