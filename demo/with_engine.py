"""Run a command while a Docker engine answers: `python -m demo.with_engine WORD…`.

An engine that had to be started ends with the last that uses it; one that answers already is left
alone. Where none can be had the command runs all the same: what needs one says so itself.
"""

from __future__ import annotations

import subprocess
import sys

from demo.processes import ended_by_signals
from demo.services import docker_engine


def main(words: list[str]) -> int:
    """Return the command's exit code."""
    engine = docker_engine()
    if engine.client is None:
        print(f"no Docker engine: {engine.why_not}", file=sys.stderr)
    try:
        with ended_by_signals():
            return subprocess.run(words, check=False).returncode
    except KeyboardInterrupt:
        return 130
    finally:
        engine.stop()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
