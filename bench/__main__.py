"""Measure everything, or one thing: `python -m bench [--only name]`."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from pathlib import Path

from bench.measurements import MEASUREMENTS, NAMES
from bench.result import Result, table, write

OUT = Path(__file__).parent / "out" / "results.json"


def main() -> int:
    """Run the measurements, print the table; exit 1 when a target was missed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", choices=NAMES, metavar="NAME", help="one of: " + " ".join(NAMES))
    chosen = parser.parse_args().only
    results: list[Result] = []
    for names, measure in MEASUREMENTS:
        if chosen is None or chosen in names:
            begin = time.monotonic()
            print(f"measuring {', '.join(names)} …", end=" ", file=sys.stderr, flush=True)
            results += measure()
            print(f"{time.monotonic() - begin:.0f} s", file=sys.stderr)
    write(results, OUT)
    load = ", ".join(f"{number:.1f}" for number in os.getloadavg())
    print(f"{platform.system()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"load of the last 1, 5, 15 minutes: {load} (above the cores: others work here too)")
    print(table(results))
    return 0 if all(result.ok for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
