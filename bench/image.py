"""The image that runs are measured with, made by the Action's own builder."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import tempfile
from pathlib import Path


@functools.cache
def bench_image() -> str:
    """Build the smallest image that a run can have and return its id in the local engine."""
    with tempfile.TemporaryDirectory(prefix="cynthus-bench-image-") as folder:
        spec = Path(folder) / "cynthus.yaml"
        spec.write_text("version: 1\nname: bench\nrun: 'true'\nimage: {base: python}\n", "utf-8")
        answer = subprocess.run(
            [sys.executable, "-m", "action", "build", "--spec", spec.name, "--no-push", "--json"],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # what BuildKit says of its steps
            text=True,
            check=True,
        )
    return str(json.loads(answer.stdout.strip().splitlines()[-1])["image"])
