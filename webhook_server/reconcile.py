"""Make every due run a step more like what it should be: observe, decide, save, perform."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import AbstractContextManager
from contextvars import copy_context
from dataclasses import dataclass
from datetime import datetime, timedelta

from cynthus.frozen import replace
from webhook_server import metrics
from webhook_server.about import about
from webhook_server.bell import Bell
from webhook_server.metrics import METERS, timed
from webhook_server.observe import Eyes, observe, observe_instances, provider_of
from webhook_server.perform import Hands, name_of, perform
from webhook_server.runs.commands import AskProvider, Command, Decision, DeleteInstance
from webhook_server.runs.decide import decide, park
from webhook_server.runs.lending import Gone
from webhook_server.runs.model import Run, State
from webhook_server.runs.observations import CreateSeen, ProviderSeen
from webhook_server.runs.policy import CLOUD, Policy
from webhook_server.stores.run_claims import Claim
from webhook_server.stores.run_store import RunStore
from webhook_server.stores.writer import DatabaseUnavailable
from webhook_server.traces import attempt_over, span

log = logging.getLogger(__name__)

# Passes at a time. Most of a pass is waiting for a provider: with orders that take a second each,
# 200 at once take 30 s with 8 of these and 12 s with 24 (docs/performance.md).
PARALLEL = 24
LEASE = timedelta(minutes=1)  # a claim spans one question for offers, never a create
PARK_AFTER = 5  # passes in a row that raised: a fault of ours, not bad luck
IDLE_S = 5.0  # a lost ring of the bell costs at most this
# Somebody waits for the answer that a run is accepted; its pass would hold the writer meanwhile.
# A quarter of a second is little of what a machine needs to come.
HEAD_START_S = 0.25
FIRST_RETRY = timedelta(seconds=1)  # after a pass that raised; doubles


@dataclass(frozen=True, kw_only=True)
class Reconciler:
    """Everything that one turn of the loop needs."""

    runs: RunStore
    eyes: Eyes
    hands: Hands
    policies: Mapping[str, Policy]  # by provider; absent: a cloud's
    bell: Bell
    now: Callable[[], datetime]
    pool: Executor
    together: Executor  # for the instances of one gang; never the pool, whose threads would wait
    busy: Busy
    idle_s: float = IDLE_S  # the longest wait between two looks
    let_door_go_first: Callable[[float], bool] = lambda _: False  # True: it has waited

    def step(self) -> float:
        """Begin a pass over every due run that a thread is free for; return the seconds to wait.

        A pass that ends rings "runs", so that the loop looks again at once.
        """
        while free := self.busy.free():
            now = self.now()
            moments = self.runs.upcoming(free + 1, now)  # one more than is claimed: the next one
            due = sum(moment <= now for moment in moments)
            if not due:  # looked at first: an idle server writes nothing
                return self._until(moments)
            if self._has_waited(moments[0], now):
                continue
            claims = self.runs.claim(limit=free, lease=LEASE, now=self.now())
            for claim in claims:
                self.busy.begin(self.pool.submit(self._pass, claim))
            if not claims:  # another replica was faster
                return self._until(self.runs.upcoming(1, self.now()))
            if len(claims) >= due and self.busy.free() == free - len(claims):
                return self._until(moments[due:])  # all that was due is under way
        return self.idle_s

    def _has_waited(self, due_at: datetime, now: datetime) -> bool:
        """Let those who ask for runs be answered first, unless what is due is late already."""
        head_start_s = HEAD_START_S - (now - due_at).total_seconds()
        return head_start_s > 0 and self.let_door_go_first(head_start_s)

    def drain(self, timeout_s: float) -> bool:
        """Wait for the passes under way; False: they take longer."""
        return self.busy.drain(timeout_s)

    def _until(self, moments: Sequence[datetime]) -> float:
        """Return the seconds until the soonest of these moments, `idle_s` at most."""
        if not moments:
            return self.idle_s
        return min(self.idle_s, max(0.0, (moments[0] - self.now()).total_seconds()))

    def _pass(self, claim: Claim) -> None:
        with _about(claim.run), timed(metrics.PASS_SECONDS), span("pass"):
            try:
                self._handle(claim)
            except Exception as error:  # the outermost guard: the other runs go on
                log.exception("pass failed run=%s tries=%d", claim.run.id, claim.failures + 1)
                METERS.add(metrics.PASSES, result="raised")
                self._give_up(claim, error)
            finally:
                self.bell.ring("runs")

    def _handle(self, claim: Claim) -> None:
        run, now = claim.run, self.now()
        if claim.due_at is not None:
            METERS.observe(metrics.RUN_LAG, (now - claim.due_at).total_seconds())
        decision = self._decision(claim, now)
        with span("save"):
            saved = self.runs.save(claim, decision, now)
        if not saved:
            log.info("race lost run=%s version=%d", run.id, claim.version)
            METERS.add(metrics.PASSES, result="lost")
            return
        METERS.add(metrics.PASSES, result="saved")
        _count(run, decision.run, now)
        if replace(decision.run, cost_usd=run.cost_usd) != run:
            self._tell(run, decision.run)
        with span("perform"):
            self._perform(decision)
        if claim.failures and decision.commands:
            self.runs.forgive(run.id)

    def _decision(self, claim: Claim, now: datetime) -> Decision:
        if claim.failures >= PARK_AFTER:
            return self._parked(claim.run, now)
        with span("observe"):
            seen = observe(self.eyes, claim.run, now)
        with span("decide"):
            return decide(claim.run, seen, now, self._policy(claim.run))

    def _parked(self, run: Run, now: datetime) -> Decision:
        """Give back what a run has that cannot be handled; it ends once nothing of it is left."""
        if run.state is not State.RELEASING:
            log.error("run parked run=%s", run.id)
            METERS.add(metrics.RUNS_PARKED)
            return park(run, now)
        # What raised may raise for ever: its instances are looked at, and nothing else of it.
        return decide(run, observe_instances(self.eyes, run), now, self._policy(run))

    def _policy(self, run: Run) -> Policy:
        name = provider_of(run, self.eyes.default_provider)
        if run.attempt is not None:
            name = run.attempt.offer.provider
        return self.policies.get(name, CLOUD)

    def _perform(self, decision: Decision) -> None:
        """Carry out the commands: of one instance in their order, of several at once."""
        groups: dict[str, list[Command]] = {}
        for command in decision.commands:
            groups.setdefault(name_of(command), []).append(command)
        if len(groups) > 1:
            done = [
                # A context of its own for each thread: lines name the run there as well.
                self.together.submit(copy_context().run, self._perform_all, group)
                for group in groups.values()
            ]
            for future in done:
                future.result()
            return
        for group in groups.values():
            self._perform_all(group)

    def _perform_all(self, commands: Sequence[Command]) -> None:
        deleted = False
        for command in commands:
            if deleted and isinstance(command, AskProvider):
                continue  # the deletion was answered "not found": there is nothing left to ask
            seen = perform(self.hands, command)
            deleted = deleted or (isinstance(command, DeleteInstance) and _not_found(seen))

    def _tell(self, before: Run, run: Run) -> None:
        if before.state is not run.state:
            log.info(
                "state changed run=%s state=%s outcome=%s reason=%s",
                run.id,
                run.state,
                run.outcome,
                run.reason.text,
            )
        self.bell.ring("publications")
        self.bell.ring(f"events/{run.id}")

    def _give_up(self, claim: Claim, error: Exception) -> None:
        if isinstance(error, DatabaseUnavailable):  # bad luck, and no fault of this run
            self._unclaimed(claim, lambda: self.runs.put_off(claim, self.now() + FIRST_RETRY))
            return
        tries = claim.failures + 1
        pause = FIRST_RETRY * 2 ** min(tries - 1, 8)
        # The exception's own text may hold what a user must not see: its type is enough.
        note = f"the server failed to handle this run ({type(error).__name__}), try {tries}"
        self._unclaimed(claim, lambda: self.runs.give_up(claim, note, self.now() + pause))

    def _unclaimed(self, claim: Claim, end: Callable[[], None]) -> None:
        try:
            end()
        except Exception:
            log.exception("giving up failed run=%s", claim.run.id)  # its lease runs out by itself


def _about(run: Run) -> AbstractContextManager[None]:
    return about(run=run.id, attempt=str(run.attempt.number if run.attempt else 0))


def _count(before: Run, run: Run, now: datetime) -> None:
    """Count what a saved decision changed."""
    for attempt in run.attempts[len(before.attempts) :]:
        METERS.add(metrics.ATTEMPTS, provider=attempt.offer.provider)
    for number, attempt in enumerate(run.attempts):
        was = before.attempts[number].reason if number < len(before.attempts) else None
        if attempt.reason is not None and was is None:
            cause = attempt.reason.cause.value
            METERS.add(metrics.ATTEMPTS_ENDED, cause=cause)
            when = (attempt.ordered_at, attempt.ended_at or now)
            attempt_over(run.id, attempt.number, when, cause)
    if run.state is State.FINISHED and before.state is not State.FINISHED:
        outcome = run.outcome.value if run.outcome else "none"
        METERS.add(metrics.RUNS_FINISHED, outcome=outcome)
        METERS.add(metrics.COST, float(run.cost_usd))


def _not_found(seen: CreateSeen | ProviderSeen | None) -> bool:
    return isinstance(seen, ProviderSeen) and seen.gone is Gone.ABSENT


class Busy:
    """Counts the passes under way."""

    def __init__(self, limit: int = PARALLEL) -> None:
        self._limit = limit
        self._count = 0
        self._changed = threading.Condition()

    def free(self) -> int:
        """Return how many passes may begin."""
        with self._changed:
            return self._limit - self._count

    def begin(self, running: Future[None]) -> None:
        """Count a pass until it is done."""
        with self._changed:
            self._count += 1
        running.add_done_callback(self._end)

    def _end(self, _: Future[None]) -> None:
        with self._changed:
            self._count -= 1
            self._changed.notify_all()

    def drain(self, timeout_s: float) -> bool:
        """Wait until no pass is under way; False: it takes longer."""
        with self._changed:
            return self._changed.wait_for(lambda: self._count == 0, timeout_s)
