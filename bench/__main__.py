"""Measure everything, or one thing: `python -m bench [--only name]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from bench import command_line, server
from bench.result import Result, table, write

OUT = Path(__file__).parent / "out" / "results.json"

MEASUREMENTS: dict[str, Callable[[], list[Result]]] = {
    "help_s": lambda: [command_line.help_s()],
    "validate_s": lambda: [command_line.validate_s()],
    "serve_start_s": server.start,
    "idle": server.idle,
    "accept_ms": server.accept,
    "list_ms": server.lists,
    "run_overhead_s": server.run_overhead,
    "agent": server.agent_cost,
}


def main() -> int:
    """Run the measurements, print the table; exit 1 when a target was missed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", choices=sorted(MEASUREMENTS), help="measure this alone")
    chosen = parser.parse_args().only
    results: list[Result] = []
    for name, measure in MEASUREMENTS.items():
        if chosen in (None, name):
            print(f"measuring {name} …", file=sys.stderr, flush=True)
            results += measure()
    write(results, OUT)
    print(table(results))
    return 0 if all(result.ok for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
