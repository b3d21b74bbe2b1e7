"""How fast the command line says hello, beside the smallest honest command line."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.result import Result, at_most

SAMPLES = 9  # odd, so that the median is one of them; more changes nothing at this spread

BARE = (
    "import argparse, json, urllib.request\n"
    "parser = argparse.ArgumentParser()\n"
    "commands = parser.add_subparsers()\n"
    "commands.add_parser('validate').add_argument('file')\n"
    "parser.parse_args()\n"
)

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


def help_s() -> Result:
    """`cynthus --help`, cold, as a multiple of a command line made of the standard library."""
    bare = [_seconds([sys.executable, "-c", BARE, "--help"]) for _ in range(SAMPLES)]
    ours = [_seconds([sys.executable, "-m", "cynthus", "--help"]) for _ in range(SAMPLES)]
    base = statistics.median(bare)
    ratios = [sample / base for sample in ours]
    return at_most("help_s", "x", ratios, 1.6, f"stdlib command line {base:.3f} s")


def validate_s() -> Result:
    """`cynthus validate` of a good spec, cold."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cynthus.yaml"
        path.write_text(SPEC, "utf-8")
        words = [sys.executable, "-m", "cynthus", "validate", str(path)]
        samples = [_seconds(words) for _ in range(SAMPLES)]
    bare = statistics.median(_seconds([sys.executable, "-c", "pass"]) for _ in range(SAMPLES))
    return at_most("validate_s", "s", samples, 0.25, f"python -c pass {bare:.3f} s")


def _seconds(words: list[str]) -> float:
    begin = time.perf_counter()
    subprocess.run(words, check=True, capture_output=True)
    return time.perf_counter() - begin
