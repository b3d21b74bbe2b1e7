"""Tell the server what happens here: enrol once, then heartbeats without a gap."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from cynthus.codec import decode, encode
from cynthus.errors import UserError
from cynthus.wire import (
    LOG_CHUNK_BYTES,
    AgentState,
    Enrolled,
    Enrolment,
    Exit,
    Heartbeat,
    HeartbeatAnswer,
    Output,
    Rendezvous,
)
from runner_images.agent.door import Door, TurnedAway, Unanswered
from runner_images.agent.outbox import Outbox

COALESCE_S = 0.25  # news wait this long for company: at most four beats a second
JITTER = 0.1  # ± a tenth of the period, so that a fleet does not beat in step
FIRST_RETRY_S = 0.2
LONGEST_RETRY_S = 5.0  # half a period: the server's return is noticed within one
OVER = frozenset({401, 410})  # the answers that only our server gives: not your token; it is over
UNREADABLE = frozenset({400, 413, 422})
ENROL_LIMIT_S = 900.0  # the server's own boot limit is shorter: after it nobody waits for us


def enrol(
    door: Door, enrolment: Enrolment, *, clock: Callable[[], float], over: threading.Event
) -> Enrolled:
    """Exchange the proof of who this is for the token and the work, through outages.

    Raises: TurnedAway when the server knows better, Unanswered when it did not come back in time.
    """
    began = clock()
    pause_s = FIRST_RETRY_S
    while True:
        try:
            return decode(Enrolled, door.post("agent/v1/enrol", encode(enrolment)), "enrolled")
        except UserError as error:
            raise TurnedAway(200, f"the enrolment's answer cannot be read: {error}") from error
        except Unanswered:
            if clock() - began > ENROL_LIMIT_S or over.wait(_spread(pause_s)):
                raise
        pause_s = min(pause_s * 2, LONGEST_RETRY_S)


def _spread(pause_s: float) -> float:
    return pause_s * random.uniform(0.5, 1.0)  # noqa: S311 - spreading load is no cryptography


@dataclass
class _Told:
    """What every heartbeat repeats."""

    state: AgentState = AgentState.PREPARING
    exit: Exit | None = None
    outputs: tuple[Output, ...] | None = None
    preempted: bool = False
    maintenance: str | None = None
    stored: Callable[[], tuple[Output, ...]] | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True, kw_only=True)
class Times:
    """The clocks, and the period of the beats."""

    beat_s: float
    clock: Callable[[], float]  # elapsed seconds
    now: Callable[[], datetime]  # this machine's claim


@dataclass(frozen=True, kw_only=True)
class Orders:
    """Whom to call when the server says something."""

    stop: Callable[[str], None]  # a sentence: end the command with grace, then report
    over: Callable[[str], None]  # end everything at once: nobody wants the report
    mask: Callable[[str], object]
    meet: Callable[[Rendezvous], None]  # a gang may start
    prolong: Callable[[float], None]  # seconds from now until the hard stop, instead of the work's


class Uplink:
    """The attempt's heartbeats; `run` is its thread."""

    def __init__(self, door: Door, outbox: Outbox, orders: Orders, times: Times) -> None:
        self._door = door
        self._outbox = outbox
        self._orders = orders
        self._beat_s = times.beat_s
        self._clock = times.clock
        self._now = times.now
        self._told = _Told()
        self._seq = 0
        self._answered_at = times.clock()
        self._wake = threading.Event()
        self._urgent = threading.Event()
        self.ended = threading.Event()  # DONE was answered, or the attempt is over

    def report(
        self,
        state: AgentState,
        *,
        exit: Exit | None = None,  # noqa: A002 - the message's own word
        outputs: tuple[Output, ...] | None = None,
    ) -> None:
        """Tell the server at once where the attempt stands."""
        with self._told.lock:
            self._told.state = state
            self._told.exit = self._told.exit or exit
            self._told.outputs = outputs if self._told.outputs is None else self._told.outputs
        self._hurry()

    def report_stored(self, stored: Callable[[], tuple[Output, ...]]) -> None:
        """Tell with every beat while outputs are on their way which of them have arrived.

        Should the machine go without a last word, these are not lost.
        """
        with self._told.lock:
            self._told.stored = stored

    def report_preempted(self) -> None:
        """Tell the server at once that the machine is being taken back."""
        with self._told.lock:
            self._told.preempted = True
        self._hurry()

    def report_maintenance(self, text: str | None) -> None:
        """Tell the server at once of maintenance to come; None: of none any more."""
        with self._told.lock:
            self._told.maintenance = text
        self._hurry()

    def _hurry(self) -> None:
        self._urgent.set()
        self._outbox.news.set()

    def silent_s(self) -> float:
        """Return for how long the server has not answered."""
        return self._clock() - self._answered_at

    def run(self) -> None:
        """Beat until DONE is answered or the attempt is over."""
        while not self.ended.is_set():
            self._wait()
            self._deliver(self._next())

    def close(self) -> None:
        """Stop beating."""
        self.ended.set()
        self._hurry()

    def _wait(self) -> None:
        """Wait for news or the next period; news wait a moment for company, urgent ones do not."""
        # A report that came while the beat before was made up has lost its `news` to that beat.
        if self._seq == 0 or self._urgent.is_set():
            return
        period_s = self._beat_s * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - as above
        if self._outbox.news.wait(period_s) and not self._outbox.full.is_set():
            self._urgent.wait(COALESCE_S)

    def _next(self) -> dict[str, Any]:
        self._urgent.clear()
        with self._told.lock:
            told = replace(self._told)
        state, outputs = told.state, told.outputs
        events = self._outbox.take(LOG_CHUNK_BYTES)
        if state is AgentState.DONE and not self._outbox.is_empty:
            # DONE is the last word: the rest of the log goes first.
            state = AgentState.UPLOADING
            self._urgent.set()
        elif state is AgentState.UPLOADING and told.stored is not None:
            outputs = told.stored() or None
        self._seq += 1
        beat = Heartbeat(
            seq=self._seq,
            sent_at=self._now(),
            state=state,
            exit=told.exit,
            outputs=outputs,
            preempted=told.preempted,
            maintenance=told.maintenance,
        )
        return {**encode(beat), "events": events}

    def _deliver(self, beat: dict[str, Any]) -> None:
        """Send one beat until it is answered: a number is never skipped nor used twice."""
        pause_s = FIRST_RETRY_S
        while not self.ended.is_set():
            try:
                answer = decode(HeartbeatAnswer, self._door.post("agent/v1/heartbeat", beat))
            except (Unanswered, UserError):
                self.ended.wait(_spread(pause_s))
                pause_s = min(pause_s * 2, LONGEST_RETRY_S)
                continue
            except TurnedAway as refusal:
                if refusal.status in OVER:
                    self._end(refusal)
                    return
                self._drop_refused(refusal, beat)
                self.ended.wait(_spread(pause_s))
                pause_s = min(pause_s * 2, LONGEST_RETRY_S)
                continue
            self._answered_at = self._clock()
            if answer.accepted_seq >= beat["seq"]:
                self._obey(answer, beat)
                return
            # The server was restored from a backup and counts from there.
            self._seq = beat["seq"] = answer.accepted_seq + 1

    def _drop_refused(self, refusal: TurnedAway, beat: dict[str, Any]) -> None:
        """Leave out events that the server cannot read: they must not hold up all others.

        Any other refusal may be a proxy's: the beat is repeated until the silence limit ends it.
        """
        if refusal.status in UNREADABLE and beat["events"]:
            lost = len(beat["events"])
            beat["events"] = []
            self._outbox.notice(f"{lost} events were refused by the server: {refusal}")

    def _end(self, refusal: TurnedAway) -> None:
        self.ended.set()
        self._orders.over(f"the server ended this attempt ({refusal.status}): {refusal}")

    def _obey(self, answer: HeartbeatAnswer, beat: dict[str, Any]) -> None:
        for value in answer.masks:
            self._orders.mask(value)
        if answer.stop is not None:
            self._orders.stop(answer.stop)
        if answer.rendezvous is not None:
            self._orders.meet(answer.rendezvous)
        if answer.deadline_s is not None:
            self._orders.prolong(answer.deadline_s)
        if beat["state"] == AgentState.DONE.value:
            self.ended.set()
