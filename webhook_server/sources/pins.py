"""Pin all data of a run, within the time that a pass has."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from cynthus.errors import Transient
from cynthus.spec import DataSource, Spec
from cynthus.wire_data import Dataset
from webhook_server.runs.forks import HUB_SECRETS
from webhook_server.runs.model import Run
from webhook_server.runs.observations import DataSeen
from webhook_server.sources.hub_http import HubAway
from webhook_server.sources.source import Asked, Source, SourceFault
from webhook_server.stores.secret_protocol import SecretStore, SecretUnreadable

#: Of one pass, whose claim ends after 60 s: the entry that is asked for last may take 30 s itself.
PASS_S = 20.0
#: A hub that did not answer is left alone so long: runs wait for it, no thread does.
AWAY_S = 15.0
#: Passes that ask hubs at a time, of 24 in all: the others order instances meanwhile.
MOST_AT_ONCE = 6
_KEPT = 2000  # entries of runs that wait; a run has at most 32


@dataclass(frozen=True, kw_only=True)
class OnBehalf:
    """Whose data is looked up."""

    repository_id: int
    stranger: bool = False  # a fork's commit
    run_id: str = ""  # "": of a plan


class Pins:
    """Looks data up at its sources; safe to use from many threads."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        secrets: SecretStore,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sources, self._secrets, self._clock = sources, secrets, clock
        self._room = threading.BoundedSemaphore(MOST_AT_ONCE)
        self._lock = threading.Lock()
        self._away: dict[str, tuple[float, str]] = {}
        self._known: OrderedDict[tuple[str, str], Dataset] = OrderedDict()

    def of_run(self, run: Run) -> DataSeen:
        """Return what a run's data is; what is not pinned within a pass is with the next one.

        Changes nothing at the sources; safe to repeat.
        """
        if run.spec is None:
            return DataSeen(datasets=())
        whose = OnBehalf(
            repository_id=run.key.repository_id, stranger=run.origin.fork, run_id=run.id
        )
        return self.of_spec(run.spec, whose)

    def of_spec(self, spec: Spec, whose: OnBehalf) -> DataSeen:
        """Return what a spec's data is now. As `of_run`."""
        if not self._room.acquire(blocking=False):
            return DataSeen(detail="its data is looked up once other runs' is")
        try:
            return self._look(spec.data, whose)
        except (Transient, SecretUnreadable) as error:
            return DataSeen(detail=str(error))
        finally:
            self._room.release()

    def _look(self, entries: Iterable[DataSource], whose: OnBehalf) -> DataSeen:
        """Return what all entries are. Raises: Transient, SecretUnreadable."""
        ends_at = self._clock() + PASS_S
        found: list[Dataset] = []
        faults: list[str] = []
        for entry in entries:
            if self._clock() >= ends_at:
                raise Transient(f"{len(found)} of its datasets are pinned, the others follow")
            try:
                found.append(self._pinned(entry, whose))
            except SourceFault as fault:
                faults.append(str(fault))
        return DataSeen(fault="\n".join(faults)) if faults else DataSeen(datasets=tuple(found))

    def _pinned(self, entry: DataSource, whose: OnBehalf) -> Dataset:
        name = (whose.run_id, entry.name)
        with self._lock:
            known = self._known.get(name) if whose.run_id else None
        if known is not None:
            return known
        found = self._ask(entry, whose)
        if not whose.run_id:
            return found
        with self._lock:
            self._known[name] = found
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return found

    def _ask(self, entry: DataSource, whose: OnBehalf) -> Dataset:
        self._check_not_away(entry.kind)
        asked = Asked(
            entry=entry,
            repository_id=whose.repository_id,
            tokens={} if whose.stranger else dict(self._tokens(entry.kind, whose.repository_id)),
            stranger=whose.stranger,
        )
        try:
            return self._sources[entry.kind].pin(asked)
        except Transient as error:
            if isinstance(error, HubAway):
                with self._lock:
                    self._away[entry.kind] = (self._clock() + AWAY_S, str(error))
            raise Transient(f"{asked.place}: {error}", error.retry_at) from error

    def _check_not_away(self, kind: str) -> None:
        with self._lock:
            until, why = self._away.get(kind, (0.0, ""))
        if self._clock() < until:
            raise Transient(why)

    def _tokens(self, kind: str, repository_id: int) -> Iterator[tuple[str, str]]:
        for name in HUB_SECRETS.get(kind, ()):
            value = self._secrets.get(repository_id, name)
            if value is not None:
                yield name, value.text
