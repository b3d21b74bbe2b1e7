"""How fast the command line answers, beside the smallest honest command line."""

from __future__ import annotations

import compileall
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.result import Result, at_most
from demo.processes import clean_environment
from demo.stage import ROOT

SAMPLES = 15  # of 0.1 s each; odd, so that the median is one of them

# A command line of the same reach: arguments, JSON, an HTTP client. `-m`-like start, compiled.
BARE = """\
import argparse, json, urllib.request
parser = argparse.ArgumentParser()
commands = parser.add_subparsers()
commands.add_parser("validate").add_argument("file")
parser.parse_args()
"""

SPEC = """\
version: 1
name: digits
run: python train.py --epochs 3
image:
  python: "3.11"
  requirements: requirements.txt
resources:
  gpu: {type: l4, count: 1}
  max_duration: 2h
  max_cost: 5.00
env: {EPOCHS: "3"}
outputs:
  - path: outputs/model
"""


def help_s() -> list[Result]:
    """`cynthus --help`, cold, as a multiple of a command line made of the standard library."""
    _compile()
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "bare.py"
        script.write_text(BARE, "utf-8")
        bare, ours = _in_turn(
            [sys.executable, str(script), "--help"], [sys.executable, "-m", "cynthus", "--help"]
        )
    base = statistics.median(bare)
    note = f"stdlib command line {base:.3f} s, ours {statistics.median(ours):.3f} s"
    return [at_most("help_s", "x", [sample / base for sample in ours], 1.6, note)]


def validate_s() -> list[Result]:
    """`cynthus validate` of a good spec, cold."""
    _compile()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cynthus.yaml"
        path.write_text(SPEC, "utf-8")
        bare, ours = _in_turn(
            [sys.executable, "-c", "pass"], [sys.executable, "-m", "cynthus", "validate", str(path)]
        )
    note = f"python -c pass {statistics.median(bare):.3f} s"
    return [at_most("validate_s", "s", ours, 0.25, note)]


def _compile() -> None:
    """Have bytecode, as every installed package has it: a user's first start is not ours."""
    for room in ("cynthus", "webhook_server", "runner_images", "bench"):
        compileall.compile_dir(ROOT / room, quiet=2, force=False)


def _in_turn(bare: list[str], ours: list[str]) -> tuple[list[float], list[float]]:
    """Return both sides' times, taken in turn: what else this machine does strikes both."""
    _seconds(bare), _seconds(ours)  # the files are in memory from here on
    pairs = [(_seconds(bare), _seconds(ours)) for _ in range(SAMPLES)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def _seconds(words: list[str]) -> float:
    begin = time.perf_counter()
    subprocess.run(words, check=True, capture_output=True, cwd=ROOT, env=clean_environment())
    return time.perf_counter() - begin
