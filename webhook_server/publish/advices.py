"""Ask once for each finished run what would have done, beside the publishing: it may take long."""

from __future__ import annotations

import logging
import threading
from dataclasses import asdict

from cynthus.frozen import replace
from webhook_server.publish.parts import Parts, Spawn
from webhook_server.runs.model import Run
from webhook_server.runs.sizing import Advice, placed
from webhook_server.runs.usage import Usage
from webhook_server.stores.publication_store import Publication

log = logging.getLogger(__name__)

_ADVISED = "advised"  # in `Publication.sent`: it was asked for, whatever came of it
_ADVICE = "advice"


class Advices:
    """What finished runs are advised. What is in hand is lost with the process, and asked again."""

    def __init__(self, parts: Parts, spawn: Spawn) -> None:
        self._parts, self._spawn = parts, spawn
        self._asked: dict[str, Advice | None] = {}
        self._in_hand: set[str] = set()
        self._lock = threading.Lock()

    def added(self, item: Publication, run: Run, usage: Usage) -> Publication:
        """Return the publication with what was found, once that is known; safe to repeat."""
        self._ask(run, usage)
        with self._lock:
            if run.id in self._in_hand:
                return item
            found = self._asked.pop(run.id)
        return with_advice(item, found)

    def _ask(self, run: Run, usage: Usage) -> None:
        with self._lock:
            if run.id in self._in_hand or run.id in self._asked:
                return
            self._in_hand.add(run.id)
        self._spawn(lambda: self._answer(run, usage))

    def _answer(self, run: Run, usage: Usage) -> None:
        found = None
        try:
            found = self._found(run, usage)
        except Exception:
            log.exception("no advice run=%s", run.id)  # nothing of the run rests on it
        with self._lock:
            self._asked[run.id] = found
            self._in_hand.discard(run.id)
        self._parts.bell.ring("publications")

    def _found(self, run: Run, usage: Usage) -> Advice | None:
        found = self._parts.advise(run, usage)
        if found is None:
            return None
        return placed(found, run, self._parts.sources.spec_text(run.id) or "")


def settled(item: Publication) -> bool:
    """Say whether nothing is to be asked for any more."""
    return bool(item.sent.get(_ADVISED))


def with_advice(item: Publication, found: Advice | None) -> Publication:
    """Return the publication with what came of it; None: nothing is worth the words."""
    told = {} if found is None else {_ADVICE: asdict(found)}
    return replace(item, sent={**item.sent, **told, _ADVISED: True})


def advice_of(item: Publication) -> Advice | None:
    """Return the advice that a publication carries."""
    told = item.sent.get(_ADVICE)
    return Advice(**told) if told else None
