"""Fuzz one target with atheris, which follows the coverage: `python -m tests.fuzz TARGET SECONDS`.

New inputs are kept in a folder of their own; what breaks a target is written beside them, and
belongs into the corpus together with its mending. https://github.com/google/atheris
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import atheris

# Our own readers are followed, and not PyYAML: atheris 2.3 rewrites its scanner to lose `self`.
with atheris.instrument_imports(include=["action", "cynthus", "runner_images", "webhook_server"]):
    from tests.fuzz.targets import TARGETS, Target

_LONGEST_INPUT = 4096  # bytes: a finding is read by people
_SLOWEST_S = 10  # of one input: beyond that it is a finding too


def main() -> None:
    """Fuzz until the time is over or an input breaks the target."""
    asked = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    asked.add_argument("target", choices=sorted(TARGETS))
    asked.add_argument("seconds", type=int)
    asked.add_argument("--found", type=Path, default=Path("tests/fuzz/found"))
    given = asked.parse_args()
    target = TARGETS[given.target]
    kept = given.found / target.name
    kept.mkdir(parents=True, exist_ok=True)
    for path in target.corpus():
        (kept / f"seed-{path.name}").write_bytes(path.read_bytes())
    words = given.found / f"{target.name}.dict"
    words.write_text(_dictionary(target), "ascii")
    options = [
        f"-max_total_time={given.seconds}",
        f"-max_len={_LONGEST_INPUT}",
        f"-timeout={_SLOWEST_S}",
        f"-dict={words}",
        f"-artifact_prefix={given.found}/{target.name}-",
        "-print_final_stats=1",
        str(kept),
    ]
    atheris.Setup([sys.argv[0], *options], target.run)
    atheris.Fuzz()


def _dictionary(target: Target) -> str:
    """Write the words as libFuzzer reads them: https://llvm.org/docs/LibFuzzer.html#dictionaries."""
    return "".join(
        '"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in target.words
    )


if __name__ == "__main__":
    main()
