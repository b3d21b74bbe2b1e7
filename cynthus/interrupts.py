"""Hear Ctrl-C, SIGTERM and the closing of the terminal, and tell whoever is in charge."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any, Self

HEARD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _raise() -> None:
    raise KeyboardInterrupt


class Interrupts:
    """Within `with`, the three signals mean one thing; at first they raise KeyboardInterrupt."""

    def __init__(self) -> None:
        self.count = 0
        self._then: Callable[[], None] = _raise
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        """Listen, but not to what our caller has us ignore (nohup, a shell's background)."""
        for number in HEARD:
            before = signal.getsignal(number)
            if before is not signal.SIG_IGN:
                self._before[number] = before
                signal.signal(number, self._hear)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Listen no more."""
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before.clear()

    def _hear(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1
        self._then()

    @contextlib.contextmanager
    def told_to(self, then: Callable[[], None]) -> Iterator[None]:
        """Call `then` instead; it runs inside a signal handler, so it must be short."""
        before, self._then = self._then, then
        try:
            yield
        finally:
            self._then = before
