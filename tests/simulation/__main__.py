"""Run simulated histories from the command line, or replay one and make it short."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from tests.simulation.batch import in_processes, report
from tests.simulation.ended import Ended
from tests.simulation.page import write
from tests.simulation.results import begun, keep
from tests.simulation.scenario import Mode
from tests.simulation.shrink import shrunk
from tests.simulation.worlds import WORLDS

OUT = Path("bench/out")
ALL_MARKS_FROM = 10_000  # histories: with as many, a mark that is never reached is a fault
_KEEP_EVERY_S = 10.0  # what a batch of hours that is cut short loses


def main(arguments: list[str]) -> int:
    """Do what the arguments say; 0: nothing was violated."""
    told = _parser().parse_args(arguments)
    if told.write is not None:
        write(told.write, OUT)
        return 0
    mode = Mode(told.mode) if told.mode else None
    if told.seed is not None:
        its_mode = WORLDS[told.world].mode_of(told.seed, mode)
        return _replay(told.world, told.seed, its_mode, tuple(told.off), told.shrink)
    return _batch(told.world, range(told.first, told.first + told.seeds), mode, told.workers)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--world", choices=list(WORLDS), default="engine")
    parser.add_argument("--seeds", type=int, default=1000, help="how many histories")
    parser.add_argument(
        "--from",
        dest="first",
        type=int,
        default=0,
        help="the first seed; a batch that ended there is gone on with",
    )
    parser.add_argument("--mode", choices=[mode.value for mode in Mode], help="default: both")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, help="replay this one with its log")
    parser.add_argument("--off", nargs="*", default=[], help="faults to leave out of it")
    parser.add_argument("--shrink", action="store_true", help="make it short first")
    parser.add_argument("--write", type=Path, help="fill this page from the newest batches instead")
    return parser


def _batch(world: str, seeds: range, mode: Mode | None, workers: int) -> int:
    path = OUT / f"simulation_{world}.json"
    kept, began_s = begun(path, world, seeds.start, mode), time.monotonic()
    told_s = began_s
    try:
        for part, cpu_s in in_processes(seeds, mode, workers, world):
            kept.add(part, cpu_s)
            if time.monotonic() - told_s > _KEEP_EVERY_S:
                told_s = time.monotonic()
                keep(path, kept)
                _progress(kept.next, seeds, told_s - began_s, kept.batch.violated)
    except KeyboardInterrupt:
        print(f"\ncut short; go on with SEEDS={seeds.stop - kept.next} FROM={kept.next}")
    keep(path, kept)
    batch, wall_s = kept.batch, time.monotonic() - began_s
    print(
        f"\n{batch.histories} histories, {kept.per_minute_and_core} a minute and core,"
        f" {wall_s:.0f} s on {workers} workers"
    )
    report(batch, print)
    is_short = batch.histories < ALL_MARKS_FROM or mode is not None
    return int(bool(batch.violated) or bool(batch.missed and not is_short))


def _progress(done: int, seeds: range, took_s: float, violated: int) -> None:
    """Say how far it is, and for how long it goes on."""
    left_s = took_s / (done - seeds.start) * (seeds.stop - done)
    print(
        f"\rseed {done:,} of {seeds.stop:,}, {violated} violations, {left_s / 60:.0f} min left ",
        end="",
        flush=True,
    )


def _replay(world: str, seed: int, mode: Mode, off: tuple[str, ...], is_shrunk: bool) -> int:
    kind = WORLDS[world]
    scenario = kind.draw(seed, mode, off)
    if is_shrunk:
        scenario, _ = shrunk(kind, scenario)
    one = kind.live(scenario)
    _print(one.ended)
    for found in one.violations:
        print(f"VIOLATED {found.invariant}: {found.text}")
    if left := kind.below(scenario).off:
        again = f"python -m tests.simulation --world {world} --seed {seed} --mode {mode} --off"
        print(again, *left)
    return int(bool(one.violations))


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
