"""Hide secrets in what agents send, a second time, before anything is stored."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field

from cynthus.frozen import replace
from cynthus.wire import AgentEvent, EventKind, Exit, Heartbeat, Output
from webhook_server.runs.forks import hub_secret_names, secret_names
from webhook_server.runs.redact import Redactor
from webhook_server.stores.instance_store import InstanceStore
from webhook_server.stores.run_secrets import RunSecrets
from webhook_server.stores.run_store import RunStore

_KEPT = 20_000  # attempts in memory: twice what one server carries; the rest is read again
_MOST_MASKS = 200  # of one attempt: each is looked for in every line
_LONGEST_MASK = 4096


@dataclass
class _Attempt:
    secrets: tuple[str, ...]
    masks: set[str] = field(default_factory=set)
    redactor: Redactor = field(default_factory=lambda: Redactor(()))

    def add(self, masks: set[str]) -> None:
        fresh = {m for m in masks if 0 < len(m) <= _LONGEST_MASK} - self.masks
        if not fresh and self.masks:
            return
        self.masks |= set(sorted(fresh)[: _MOST_MASKS - len(self.masks)])
        self.redactor = Redactor((*self.secrets, *self.masks))


class Masking:
    """Knows, for each attempt that talks, what must not be shown of it."""

    def __init__(self, *, instances: InstanceStore, runs: RunStore, secrets: RunSecrets) -> None:
        self._instances, self._runs, self._secrets = instances, runs, secrets
        self._lock = threading.Lock()
        self._attempts: OrderedDict[str, _Attempt] = OrderedDict()

    def knows(self, token_sha256: str) -> bool:
        """Return whether `clean` will not need the database."""
        with self._lock:
            return token_sha256 in self._attempts

    def clean(self, token_sha256: str, beat: Heartbeat) -> Heartbeat:
        """Return the beat without known values and without its mask events.

        Raises: SecretUnreadable, Transient, since what cannot be hidden is not taken.
        """
        attempt = self._attempt(token_sha256)
        masks = {str(e.body.get("value", "")) for e in beat.events if e.kind is EventKind.MASK}
        with self._lock:
            if masks:
                attempt.add(masks)
            redactor = attempt.redactor
        return replace(
            beat,
            events=tuple(
                _clean_event(redactor, e) for e in beat.events if e.kind is not EventKind.MASK
            ),
            exit=_clean_exit(redactor, beat.exit),
            outputs=_clean_outputs(redactor, beat.outputs),
        )

    def shows_secret(self, token_sha256: str, text: str) -> bool:
        """Return whether `text` contains a known value of this attempt."""
        return self._attempt(token_sha256).redactor.finds(text)

    def forget(self, token_sha256: str) -> None:
        """Let go of an attempt that has ended."""
        with self._lock:
            self._attempts.pop(token_sha256, None)

    def _attempt(self, token_sha256: str) -> _Attempt:
        with self._lock:
            found = self._attempts.get(token_sha256)
            if found is not None:
                self._attempts.move_to_end(token_sha256)
                return found
        read = self._read(token_sha256)
        with self._lock:
            kept = self._attempts.setdefault(token_sha256, read)
            while len(self._attempts) > _KEPT:
                self._attempts.popitem(last=False)
            return kept

    def _read(self, token_sha256: str) -> _Attempt:
        row = self._instances.by_token(token_sha256)
        run = self._runs.get(row.run_id) if row else None
        if row is None or run is None or run.spec is None:
            return _Attempt(())
        names = dict.fromkeys((*secret_names(run), *hub_secret_names(run)))
        found, _ = self._secrets.values(run.id, row.repository_id, names)
        secrets = tuple(found.values())
        return _Attempt(secrets, redactor=Redactor(secrets))


def _clean_event(redactor: Redactor, event: AgentEvent) -> AgentEvent:
    return replace(event, body=redactor.value(event.body))


def _clean_exit(redactor: Redactor, exit_: Exit | None) -> Exit | None:
    if exit_ is None or exit_.error is None:
        return exit_
    return replace(exit_, error=redactor.text(exit_.error))


def _clean_outputs(
    redactor: Redactor, outputs: tuple[Output, ...] | None
) -> tuple[Output, ...] | None:
    if outputs is None:
        return None
    return tuple(
        replace(
            output,
            path=redactor.text(output.path),
            left_out=None if output.left_out is None else redactor.text(output.left_out),
        )
        for output in outputs
    )
