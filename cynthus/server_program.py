"""Become the server's program, where it is installed: its exit code is then ours."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import NoReturn

from cynthus.errors import UserError


def become_server(command: str, words: Sequence[str], *, extras: str = "server") -> NoReturn:
    """Replace this process: signals, exit code and terminal are the server's own.

    `command` names what the user asked for, `extras` what it needs installed.
    Raises: UserError where only the command line is installed.
    """
    if find_spec("webhook_server") is None:
        raise UserError(
            f"{command}: should find the server, found the command line alone."
            f" Install it with `pip install 'cynthus[{extras}]'`."
        )
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "webhook_server", *words])  # noqa: S606 - our own program, no shell
