"""Find what the machine that builds brings: its Python and a pip."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import sys
from pathlib import Path

from action.plan import Interpreter
from action.programs import capture
from cynthus.errors import UserError


def this_interpreter() -> Interpreter:
    """Return the Python that runs this."""
    kind, version = platform.libc_ver()
    numbers = re.fullmatch(r"(\d+)\.(\d+).*", version) if kind == "glibc" else None
    return Interpreter(
        version=f"{sys.version_info[0]}.{sys.version_info[1]}",
        machine=platform.machine(),
        libc=(int(numbers[1]), int(numbers[2])) if numbers else None,
    )


def find_pip() -> tuple[str, ...]:
    """Return the words that call a pip of this Python's version.

    A virtual environment made without pip (ours is, and uv's are) falls back on the Python below.
    """
    if importlib.util.find_spec("pip") is not None:
        return (sys.executable, "-m", "pip")
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    below = Path(os.path.realpath(sys.executable))
    for python in (str(below), shutil.which(version), shutil.which("python3")):
        if python and _has_pip(python):
            return (python, "-m", "pip")
    raise UserError(
        f"pip: should be there for Python {version[6:]}, found none. "
        f"Install it, for example with `python3 -m ensurepip`."
    )


def _has_pip(python: str) -> bool:
    check = "import sys, pip; print('%d.%d' % sys.version_info[:2])"
    answer = capture((python, "-c", check))
    return answer.code == 0 and answer.out.strip() == this_interpreter().version
