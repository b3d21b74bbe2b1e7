"""Live as long as the program that started this server, then leave nothing of its runs behind."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from io import RawIOBase

from webhook_server.bell import Bell
from webhook_server.providers.provider import Provider, ProviderRefusal
from webhook_server.runs.model import State
from webhook_server.stores.run_store import RunStore

log = logging.getLogger(__name__)

# An agent hears of the stop within a second, grants its command ten, then uploads; a minute on
# this machine's own disk is more than that needs, and nobody waits longer for Ctrl-C.
FINISH_LIMIT_S = 60.0
LOOK_S = 0.5  # a ring of the bell is a hint only
SWEEP_LIMIT_S = 15.0  # each deletion takes about a second at most
SWEEP_PAUSE_S = 0.05
MOST_RUNS = 1000  # an embedded server has one, or a handful
BY = "the end of the program that asked for it"


@dataclass(frozen=True, kw_only=True)
class Charge:
    """The runs that an embedded server must not leave behind."""

    runs: RunStore
    bell: Bell
    now: Callable[[], datetime]

    def unfinished(self) -> list[str]:
        """Return the ids of the runs that are not finished."""
        rows = self.runs.list(repository_id=None, limit=MOST_RUNS, before=None)
        return [row.id for row in rows if row.state != State.FINISHED]

    def end(self, limit_s: float = FINISH_LIMIT_S) -> bool:
        """Cancel every run and wait until all are finished; False: some take too long."""
        for run_id in self.unfinished():
            self.runs.cancel(run_id, BY, self.now())
        self.bell.ring("runs")
        late_at = time.monotonic() + limit_s
        while time.monotonic() < late_at:
            rings = self.bell.count("runs")
            if not self.unfinished():
                return True
            self.bell.wait("runs", rings, LOOK_S)
        return False


def live_by(line: RawIOBase, charge: Charge, stop: Callable[[], None]) -> threading.Thread:
    """Begin to watch `line`: when it closes, end all runs, then `stop` the server."""

    def watch() -> None:
        while line.read(4096):
            pass  # what is written there means nothing: only its end does
        log.info("input closed, ending")
        if not charge.end():
            log.warning("runs not finished in time, their instances are deleted")
        stop()

    # A daemon: a signal may end the server while the line is still open.
    thread = threading.Thread(target=watch, name="line", daemon=True)
    thread.start()
    return thread


def sweep_away(providers: Mapping[str, Provider], limit_s: float = SWEEP_LIMIT_S) -> bool:
    """Delete every instance that is left, once nobody reconciles any more; False: some stay."""
    late_at = time.monotonic() + limit_s
    while time.monotonic() < late_at:
        left = [_delete_all(provider) for provider in providers.values()]  # all, each time
        if not any(left):
            return True
        time.sleep(SWEEP_PAUSE_S)
    log.error("instances left after the end")
    return False


def _delete_all(provider: Provider) -> bool:
    """Say whether something may be left."""
    try:
        names: Iterable[str] = [instance.name for instance in provider.list()]
    except ProviderRefusal as refusal:
        log.warning("list refused provider=%s detail=%s", provider.name, refusal)
        return True
    left = False
    for name in names:
        left = True  # until a list without it
        with contextlib.suppress(ProviderRefusal):
            provider.delete(name)
    return left
