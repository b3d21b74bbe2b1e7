"""Start one simulator: `python -m simulators github|actions|gcp|hub|registry …`."""

from __future__ import annotations

import argparse
import importlib
import sys

# Each module has `main(argv) -> int`; loaded only when asked for, as each has its dependencies.
SIMULATORS = {
    "actions": "simulators.actions_sim",
    "gcp": "simulators.gcp_sim",
    "github": "simulators.github_sim",
    "hub": "simulators.hub_sim",
    "registry": "simulators.oci_sim",
}


def main(argv: list[str]) -> int:
    """Hand the remaining arguments to the simulator named first."""
    parser = argparse.ArgumentParser(prog="python -m simulators", description=__doc__)
    parser.add_argument("simulator", choices=sorted(SIMULATORS))
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="…", help="see SIMULATOR --help")
    args = parser.parse_args(argv)
    exit_code: int = importlib.import_module(SIMULATORS[args.simulator]).main(args.rest)
    return exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
