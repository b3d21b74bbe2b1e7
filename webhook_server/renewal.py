"""Begin anew as soon as set-up has stored a GitHub App: the same process, the same address.

A server is put together once, when it starts, from settings that never change. So one that
becomes the back end of an App ends as on SIGTERM (passes and requests finish, all is stored), then
executes its own program again. That is the way every start goes, nothing of the old life is left
in memory, and a supervisor sees the same process. The socket stays open meanwhile: who connects
waits a moment in its queue and is not refused.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from cynthus.errors import CynthusError
from webhook_server.bell import Bell

log = logging.getLogger(__name__)

TOPIC = "app"
LOOK_S = 2.0  # another process cannot ring here; a row read each two seconds costs nothing
OPTION = "--listening"


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a server ended."""

    code: int
    anew: bool = False  # it wants to begin again, with another App
    listening: socket.socket | None = None  # open while it does


class Renewal:
    """Looks for an App that this server does not serve yet."""

    def __init__(self, is_there: Callable[[], bool], bell: Bell) -> None:
        self._is_there, self._bell = is_there, bell
        self._over = threading.Event()
        self._found = self._given_up = False

    @property
    def wanted(self) -> bool:
        """Say whether the server should begin anew now that it has ended."""
        return self._found and not self._given_up

    def give_up(self) -> None:
        """End for good: somebody asked the server to stop. Fit for a signal's handler."""
        self._given_up = True

    def watch(self, stop: Callable[[], None]) -> None:
        """Begin to look; `stop` is called once there is one."""
        threading.Thread(target=self._watch, args=(stop,), name="renewal", daemon=True).start()

    def end(self) -> None:
        """Look no more. Safe to repeat."""
        self._over.set()
        self._bell.ring(TOPIC)

    def _watch(self, stop: Callable[[], None]) -> None:
        while not self._over.is_set():
            rings = self._bell.count(TOPIC)
            if self._look():
                self._found = True
                log.info("a GitHub App was set up, beginning anew")
                stop()
                return
            self._bell.wait(TOPIC, rings, LOOK_S)

    def _look(self) -> bool:
        try:
            return not self._over.is_set() and self._is_there()
        except CynthusError as error:
            log.warning("set-up not looked for reason=%s", error)
            return False


def begin_anew(words: list[str], listening: socket.socket | None) -> NoReturn:
    """Execute this program again with the same words and the socket that is still open."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)  # all has ended: from here on it may end at once
    told = _without(words)
    if listening is not None:
        listening.set_inheritable(True)
        told += [OPTION, str(listening.fileno())]
    logging.shutdown()
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "webhook_server", *told])  # noqa: S606 - our own program, no shell


def _without(words: list[str]) -> list[str]:
    """Return the words without an earlier socket's."""
    if OPTION not in words:
        return list(words)
    at = words.index(OPTION)
    return words[:at] + words[at + 2 :]


def inherited(number: int) -> socket.socket:
    """Return the socket that the former life left open."""
    listening = socket.socket(fileno=number)
    listening.set_inheritable(False)
    return listening
