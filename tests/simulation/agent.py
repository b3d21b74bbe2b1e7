"""An agent as it should be, on a machine and in a network that are not.

It beats, works, reports, works on when its machine is kept, and stops by itself once it has been
cut off for its silence limit. It also repeats what was answered before, as networks do.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from cynthus.wire import AgentState, Heartbeat, Output
from tests.builders import an_exit, some_facts
from tests.simulation.cloud import TAKEN, Cloud, Machine
from tests.simulation.scheduler import Unanswered
from webhook_server.providers.provider import Fate
from webhook_server.stores.instance_store import BeatResult, Enrolling

if TYPE_CHECKING:
    from tests.simulation.history import History

SILENCE_S = 90.0  # what work.py tells agents: below the server's own limit of 120 s
BEAT_S = 10.0
_AGAIN_S = 3.0  # after an unanswered call
_SELDOM_S = 60.0  # at last, where nobody answers
_NOTICE_S = 30.0  # between a preemption's notice and the end: Spot instances have that much
_FACTS = some_facts(address="10.0.0.2")
_OLDER = 2  # how many beats back a repeated one may be


class Agent:
    """The program on one machine, for one boot of it."""

    def __init__(self, history: History, cloud: Cloud, machine: Machine) -> None:
        self._history, self._cloud, self._machine = history, cloud, machine
        self._scheduler = history.scheduler
        self._chance = chance = random.Random(f"{history.scenario.seed}/{machine.program.name}")
        self._name = machine.name
        self._nonce = machine.program.name
        self._boots_s = chance.choice([1.0, 5.0, 20.0, 20.0, 400.0 if self._bad() else 5.0])
        self._cut = (0.0, 0.0)
        if self._bad() and chance.random() < history.scenario.cuts:
            begins = self._scheduler.now + chance.random() * 120
            self._cut = (begins, begins + chance.choice([20.0, 60.0, 300.0]))
        self._repeats = history.scenario.repeats if self._bad() else 0.0
        self._notice_at: float | None = None
        if self._bad() and chance.random() < cloud.moods.taken:
            self._plan_end(chance.random() * 150)
        if self._bad() and chance.random() < cloud.moods.reboots:
            after = 5 + chance.random() * 120
            self._later(after, lambda: cloud.reboot(machine))
        self._scheduler.spawn(machine.program, self._live)

    def _bad(self) -> bool:
        return not self._cloud.healed

    def _plan_end(self, after: float) -> None:
        if self._chance.random() < self._cloud.moods.noticed:
            self.be_taken(after)
        else:
            fate = self._chance.choice(TAKEN)
            self._later(after, lambda: self._cloud.take(self._machine, fate))

    def be_taken(self, after: float = 0.0) -> None:
        """Let the machine be told so many seconds from now that it is taken back, and then be."""
        self._notice_at = self._scheduler.now + after
        self._later(after + _NOTICE_S, lambda: self._cloud.take(self._machine, Fate.PREEMPTED))

    def _later(self, after: float, what: Any) -> None:
        self._scheduler.spawn(self._history.outside, what, after=after)

    # ── one life ────────────────────────────────────────────────────────────────────────────────

    def _live(self) -> None:
        self._scheduler.sleep(self._boots_s)
        name: str | None = self._name
        while name:
            if not self._enrol(name):
                return
            token = f"token-{name}-{self._nonce}"
            if not Attempt(self, name, token).work():
                return
            name = self._wait_for_more(token)

    def _enrol(self, name: str) -> bool:
        pause_s = _AGAIN_S
        while True:
            try:
                answer = self._ask("agent.enrol", lambda r: r.enrol(name, self._nonce, _FACTS))
            except Unanswered:
                self._scheduler.sleep(pause_s)
                pause_s = min(2 * pause_s, _SELDOM_S)
                continue
            return answer in {Enrolling.OK, Enrolling.AGAIN}

    def _wait_for_more(self, token: str) -> str | None:
        """Ask for other work, as the agent of a machine that may be kept does."""
        if not self._history.scenario.warm:
            return None
        heard_at = self._scheduler.now
        while self._scheduler.now - heard_at < SILENCE_S:
            try:
                name = self._ask("agent.next", lambda r: r.next_work(token, self._machine.name))
            except Unanswered:
                name = None
            else:
                heard_at = self._scheduler.now
            if name is not None:
                return str(name)
            self._scheduler.sleep(BEAT_S)
        return None

    def _ask(self, kind: str, question: Any) -> Any:
        """Ask some replica, through a network that may be cut."""
        begins, ends = self._cut
        if begins <= self._scheduler.now < ends:
            self._scheduler.sleep(5.0)
            raise Unanswered("cut off")
        return self._history.fates.call(
            kind,
            lambda: self._history.ask(question),
            refused=Unanswered,
            lost=Unanswered,
            name=self._machine.uid,
        )


class Attempt:
    """One attempt's work on a machine, from the enrolment to the end."""

    def __init__(self, agent: Agent, name: str, token: str) -> None:
        self._agent, self._token = agent, token
        self._scheduler, self._chance = agent._scheduler, agent._chance
        self._scenario = agent._history.scenario
        _, run_id, *numbers = name.split("-")
        self._what = " ".join([run_id, *numbers])
        self._is_gang = len(numbers) > 1
        self._state = AgentState.PREPARING
        self._exit: Any = None
        self._seq = 0
        self._sent: list[Heartbeat] = []
        self._told: Any = None
        self._beat_at = self._heard_at = self._scheduler.now
        self._ends_at: float | None = None
        self._waits_for: Heartbeat | None = None  # not yet acknowledged: it is sent again

    def work(self) -> bool:
        """Work until the end is reported; False: stop everything."""
        while True:
            self._look()
            if self._scheduler.now - self._heard_at >= 4 * SILENCE_S:
                return False  # nobody will ever hear of it
            if self._due():
                answer = self._beat()
                if answer is not None and (answer.closed or answer.unknown):
                    self._end_work()
                    return False
                if answer is not None and self._heed(answer):
                    return True
            self._scheduler.sleep(max(self._until_next(), 0.05))

    def _look(self) -> None:
        """Note what has come about by itself."""
        now = self._scheduler.now
        if now - self._heard_at >= SILENCE_S or self._is_noticed():
            self._stop()
        if self._ends_at is not None and now >= self._ends_at:
            self._finish(an_exit(self._chance.choice(self._scenario.exits)))

    def _is_noticed(self) -> bool:
        notice_at = self._agent._notice_at
        return notice_at is not None and self._scheduler.now >= notice_at

    def _stop(self) -> None:
        self._finish(an_exit(143, stopped=True))

    def _finish(self, exit_: Any) -> None:
        if self._exit is None:
            self._exit = exit_
            self._end_work()

    def _end_work(self) -> None:
        self._agent._cloud.end_work(self._agent._machine)

    def _due(self) -> bool:
        now = self._scheduler.now
        return self._news() != self._told or now >= self._beat_at + BEAT_S

    def _news(self) -> Any:
        return (self._next_state(), self._exit, self._is_noticed())

    def _next_state(self) -> AgentState:
        """Return what the next new beat says: the end takes two, one before the upload."""
        if self._exit is None:
            return self._state
        uploading = bool(self._sent) and self._sent[-1].state is AgentState.UPLOADING
        is_over = uploading or self._state is AgentState.DONE
        return AgentState.DONE if is_over else AgentState.UPLOADING

    def _until_next(self) -> float:
        now = self._scheduler.now
        if self._news() != self._told:
            return 0.2 if self._waits_for is None else _AGAIN_S
        due = [self._beat_at + BEAT_S]
        if self._ends_at is not None and self._exit is None:
            due.append(self._ends_at)
        notice_at = self._agent._notice_at
        if notice_at is not None and notice_at > now:
            due.append(notice_at)
        return min(due) - now

    def _beat(self) -> BeatResult | None:
        """Send the beat that is due, or again the one that nobody answered; None: no answer."""
        beat = self._waits_for or self._new_beat()
        self._waits_for = beat
        self._beat_at = self._scheduler.now
        told = (beat.state, beat.exit, beat.preempted)
        if self._sent and self._chance.random() < self._agent._repeats:
            self._send(self._chance.choice(self._sent[-_OLDER:]))
        answer = self._send(beat)
        if answer is None:
            return None
        self._waits_for, self._heard_at = None, self._scheduler.now
        self._sent.append(beat)
        self._told = told
        return answer

    def _new_beat(self) -> Heartbeat:
        self._seq += 1
        self._state = self._next_state()
        members: dict[str, Any] = {"preempted": self._is_noticed()}
        if self._exit is not None:
            is_done = self._state is AgentState.DONE
            members |= {"exit": self._exit, "outputs": self._outputs() if is_done else None}
        return Heartbeat(
            seq=self._seq, sent_at=self._scheduler.moment(), state=self._state, **members
        )

    def _outputs(self) -> tuple[Output, ...]:
        run_id, attempt, *_ = self._what.split()
        return self._agent._history.outputs_of(run_id, int(attempt))

    def _send(self, beat: Heartbeat) -> BeatResult | None:
        try:
            answer: BeatResult = self._agent._ask(
                "agent.beat", lambda replica: replica.beat(self._token, beat)
            )
        except Unanswered:
            return None
        return answer

    def _heed(self, answer: BeatResult) -> bool:
        """Do what an answer says; True: the end was reported and heard."""
        if answer.stop:
            self._stop()
        if self._exit is not None:
            return self._sent[-1].state is AgentState.DONE
        if self._state is AgentState.PREPARING:
            self._go(AgentState.READY if self._is_gang else AgentState.RUNNING)
        elif self._state is AgentState.READY and answer.rendezvous is not None:
            self._go(AgentState.RUNNING)
        return False

    def _go(self, state: AgentState) -> None:
        self._state = state
        if state is AgentState.RUNNING:
            self._ends_at = self._scheduler.now + self._chance.choice(self._scenario.works_s)
            self._agent._cloud.begin_work(self._agent._machine, self._what)
