"""Start one simulator: `python -m simulators github|actions …`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable


def _github() -> Callable[[list[str]], int]:
    from simulators import github_sim

    return github_sim.main


def _actions() -> Callable[[list[str]], int]:
    from simulators import actions_sim

    return actions_sim.main


# Loaded only when asked for: one simulator's dependencies are not the other's.
SIMULATORS = {"github": _github, "actions": _actions}


def main(argv: list[str]) -> int:
    """Hand the remaining arguments to the simulator named first."""
    parser = argparse.ArgumentParser(prog="python -m simulators", description=__doc__)
    parser.add_argument("simulator", choices=sorted(SIMULATORS))
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="…", help="see SIMULATOR --help")
    args = parser.parse_args(argv)
    return SIMULATORS[args.simulator]()(args.rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
