"""Run simulated histories from the command line, or replay one and make it short."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path

from tests.simulation.batch import Batch, in_processes, lived, mode_of, report
from tests.simulation.ended import Ended
from tests.simulation.oracles import violations
from tests.simulation.page import write
from tests.simulation.scenario import Mode, drawn
from tests.simulation.shrink import shrunk

RESULTS = Path("bench/out/simulation.json")
ALL_MARKS_FROM = 10_000  # histories: with as many, a mark that is never reached is a fault


def main(arguments: list[str]) -> int:
    """Do what the arguments say; 0: nothing was violated."""
    told = _parser().parse_args(arguments)
    if told.write is not None:
        write(told.write, RESULTS)
        return 0
    mode = Mode(told.mode) if told.mode else None
    if told.seed is not None:
        return _replay(told.seed, mode_of(told.seed, mode), tuple(told.off), told.shrink)
    return _batch(told.seeds, told.first, mode, told.workers)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many histories")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first seed")
    parser.add_argument("--mode", choices=[mode.value for mode in Mode], help="default: both")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, help="replay this one with its log")
    parser.add_argument("--off", nargs="*", default=[], help="faults to leave out of it")
    parser.add_argument("--shrink", action="store_true", help="make it short first")
    parser.add_argument("--write", type=Path, help="fill this page from the newest batch instead")
    return parser


def _batch(number: int, first: int, mode: Mode | None, workers: int) -> int:
    batch, began, cpu_s = Batch(), time.monotonic(), 0.0
    for part, seconds in in_processes(range(first, first + number), mode, workers):
        batch.add(part)
        cpu_s += seconds
        _keep(batch, cpu_s)  # a batch of hours that is cut short has proven what it has lived
        print(f"\r{batch.histories} histories, {len(batch.violations)} violations", end="")
    wall_s = time.monotonic() - began
    per_minute = batch.histories / cpu_s * 60
    print(f"\n{per_minute:.0f} histories a minute and core, {wall_s:.0f} s on {workers} workers")
    report(batch, print)
    is_short = number < ALL_MARKS_FROM or mode is not None
    return int(bool(batch.violations) or bool(batch.missed and not is_short))


def _keep(batch: Batch, cpu_s: float) -> None:
    """Write what a batch was so far."""
    results = {
        "histories": batch.histories,
        "calls": batch.calls,
        "per_minute_and_core": round(batch.histories / cpu_s * 60),
        "faults": dict(batch.faults),
        "marks": dict(batch.marks),
        "missed": batch.missed,
        "violations": [[seed, mode, asdict(one)] for seed, mode, one in batch.violations],
    }
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n")


def _replay(seed: int, mode: Mode, off: tuple[str, ...], is_shrunk: bool) -> int:
    scenario = drawn(seed, mode, off)
    if is_shrunk:
        scenario, _ = shrunk(scenario, lived)
    ended = lived(scenario)
    _print(ended)
    found = violations(ended)
    for one in found:
        print(f"VIOLATED {one.invariant}: {one.text}")
    if scenario.off:
        print(f"python -m tests.simulation --seed {seed} --mode {mode} --off", *scenario.off)
    return int(bool(found))


def _print(ended: Ended) -> None:
    """Print calls and facts with what the server said, in the order of time; reads are left out."""
    lines = [
        (one.at, f"{one.replica or '·'} {one.kind} {one.name} {one.fate} {one.detail}")
        for one in ended.record.log
        if (one.kind, one.fate) != ("db.read", "ok")
    ]
    lines += [(at, f"    said: {text} | {words}") for at, text, words in ended.record.said]
    for at, line in sorted(lines, key=lambda pair: pair[0]):
        print(f"{at:9.3f} {line}")
    print(f"digest {ended.record.digest()}, {ended.calls} calls, {ended.injected} faults")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
