"""Live many histories with GitHub: `python -m tests.simulation.hub_batch --seeds 100 --from 0`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from tests.simulation.judging import seeded


def main(words: Sequence[str] | None = None) -> int:
    """Print what is said of each bad history; 1: there was one."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.hub_batch")
    parser.add_argument("--seeds", type=int, default=100, help="how many histories")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first seed")
    wish = parser.parse_args(words)
    bad, began_s = 0, time.process_time()
    for seed in range(wish.first, wish.first + wish.seeds):
        said = seeded("hub", seed)
        bad += bool(said)
        for one in said:
            print(f"seed {seed}: {one}", flush=True)
    rate = wish.seeds / (time.process_time() - began_s) * 60
    print(f"{wish.seeds} histories with GitHub, {bad} bad, {rate:.0f} a minute on one core")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
