"""Laws that hold in every situation: all factors are multiplied, and every product is decided."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from cynthus.grammar import gate
from cynthus.spec import DataSource, Resources, Retry
from cynthus.wire import AgentState
from tests.builders import (
    IMAGE,
    NOON,
    OUTPUT,
    a_run,
    a_spec,
    an_agent,
    an_attempt,
    an_exit,
    an_offer,
    refused,
    seconds,
)
from webhook_server.runs.commands import CreateInstance, Decision
from webhook_server.runs.decide import decide
from webhook_server.runs.lending import Denial, Gone
from webhook_server.runs.look import STEPS, is_quiet
from webhook_server.runs.model import Cause, Outcome, Reason, Run, State
from webhook_server.runs.observations import (
    CancelWish,
    CreateOutcome,
    CreateSeen,
    DataSeen,
    ImageArrived,
    InstanceSeen,
    Observations,
    ProviderSeen,
    ReleaseSeen,
    ReleaseState,
)
from webhook_server.runs.pinning import bind
from webhook_server.runs.verdict import stopped, taken_back

EXITS = [
    None,
    an_exit(0),
    an_exit(3),
    an_exit(143, stopped=True),
    an_exit(None, error="disk full", infrastructure=True),
]
AGENTS = [
    None,
    *[
        an_agent(state, exit=exit_, preempted=preempted, outputs=(OUTPUT,))
        for state in (AgentState.RUNNING, AgentState.DONE)
        for exit_ in EXITS
        for preempted in (False, True)
    ],
]
CREATES: list[CreateSeen | None] = [
    None,
    *[CreateSeen(outcome=outcome, at=NOON + seconds(1)) for outcome in CreateOutcome],
    refused(Denial.NO_CAPACITY, "none", at=NOON + seconds(1)),
    refused(Denial.MISCONFIGURED, "no key", at=NOON + seconds(1)),
]
PROVIDERS: list[ProviderSeen | None] = [
    None,
    *[
        ProviderSeen(gone=gone, asked_at=NOON + seconds(at), alive=alive)
        for gone, alive in [(Gone.PRESENT, True), (Gone.PRESENT, False), (Gone.ABSENT, True)]
        for at in (2, 45)
    ],
    ProviderSeen(gone=Gone.UNKNOWN, asked_at=NOON + seconds(50)),
]
CANCELS = [None, CancelWish(by="ann", at=NOON)]
TIMES = [seconds(5), seconds(60), timedelta(days=3)]


def attempts(state: State) -> Iterator[tuple[Any, ...]]:
    """What the record may say of the newest attempt in this state."""
    if state in {State.BUILDING, State.QUEUED}:
        yield ()
        return
    started = None if state is State.PROVISIONING else NOON
    newest = an_attempt(started_at=started)
    if state is State.PROVISIONING:
        yield (newest,)
        yield (an_attempt(last_try_at=NOON + seconds(1)),)
        return
    stops: list[dict[str, Any]] = [
        {},
        {"stop_at": NOON, "ending": stopped(Cause.CANCELLED, "cancelled by ann")},
        {"stop_at": NOON, "ending": taken_back()},
    ]
    for answered, stop in itertools.product((False, True), stops):
        told = an_attempt(started_at=started, create_answered=answered, **stop)
        if state is State.RUNNING:
            yield (told,)
        elif state is State.COLLECTING:
            yield from ((replace(told, exit=exit_),) for exit_ in EXITS[1:4])
        else:
            yield (replace(told, ended_at=NOON + seconds(2), reason=LOST),)
            yield (
                replace(told, ended_at=NOON, members=an_attempt(gone_at=NOON).members, reason=LOST),
            )


LOST = Reason(cause=Cause.NO_CAPACITY, text="none")
SPECS = [
    a_spec(),
    a_spec(
        resources=Resources(max_cost_usd=Decimal("0.05"), max_duration=timedelta(minutes=30)),
        retry=Retry(1, (3,)),
        outputs=(),
        gate=(gate("accuracy > 0.5"),),
    ),
]
ENTRY = DataSource(name="train", source="hf://datasets/acme/demo", mount="/data/train")
DATASETS = (bind(ENTRY, "5" * 40, size_bytes=1, files=1),)
DATA = [None, DataSeen(datasets=DATASETS), DataSeen(fault="no"), DataSeen(detail="not now")]


def runs(state: State) -> Iterator[Run]:
    for spec, tries in itertools.product(SPECS, attempts(state)):
        run = a_run(state, spec=spec, attempts=tries)
        yield run
        if state is State.RELEASING:
            yield replace(run, outcome=Outcome.SUCCEEDED, outputs=(OUTPUT,))
            yield replace(run, outcome=Outcome.FAILED)
        if state is State.QUEUED:
            gone = an_attempt(ended_at=NOON, gone_at=NOON, reason=LOST, lost=True)
            yield replace(run, attempts=(gone,), not_before=NOON + seconds(30))
        if state in {State.BUILDING, State.QUEUED}:
            yield replace(run, spec=replace(spec, data=(ENTRY,)))
        if state is State.BUILDING:
            yield replace(run, spec=None)


def observations(state: State) -> Iterator[Observations]:
    if state in {State.BUILDING, State.QUEUED}:
        images = [
            None,
            ImageArrived(image=IMAGE, failure=None),
            ImageArrived(image=None, failure="no"),
        ]
        offers = [None, (), (an_offer(),)]
        told = itertools.product(CANCELS, images, offers, [None, "no"], DATA)
        for cancel, image, offer, no, data in told:
            yield Observations(
                cancel=cancel, image=image, offers=offer, offers_refusal=no, data=data
            )
        return
    # A factor that a state does not look at is given one value: the products stay countable.
    creates = CREATES if state in {State.PROVISIONING, State.RELEASING} else [None]
    agents = {State.PROVISIONING: AGENTS[:2], State.RELEASING: AGENTS[:1]}.get(state, AGENTS)
    cancels = CANCELS if state is not State.COLLECTING else CANCELS[1:]
    releases: list[ReleaseSeen | None] = [None]
    if state is State.RELEASING:
        releases += [
            ReleaseSeen(state=ReleaseState.PENDING),
            ReleaseSeen(state=ReleaseState.REFUSED),
        ]
    for factors in itertools.product(cancels, agents, creates, PROVIDERS, releases):
        cancel, agent, create, provider, release = factors
        told = InstanceSeen(agent=agent, create=create, provider=provider)
        instances = {an_attempt().instance: told}
        yield Observations(cancel=cancel, instances=instances, release=release)


@dataclass(frozen=True)
class Situation:
    run: Run
    seen: Observations
    now: datetime

    def decided(self) -> Decision:
        return decide(self.run, self.seen, self.now)


def check(situation: Situation) -> None:
    run, decision = situation.run, situation.decided()
    after = decision.run
    assert decision == situation.decided(), "equal inputs, equal decisions"
    assert after.state is run.state or after.state in STEPS[run.state], "one allowed step"
    assert run.outcome in {None, after.outcome}, "an outcome is set once"
    assert run.datasets in {None, after.datasets}, "data is pinned once"
    assert after.cost_usd >= run.cost_usd, "cost never decreases"
    check_attempts(run, after)
    check_end(run, after, decision)
    check_look(situation, decision)


def check_attempts(run: Run, after: Run) -> None:
    executing = [attempt for attempt in after.attempts if not is_quiet(attempt)]
    assert len(executing) <= 1, "no two attempts that may execute"
    assert len(after.attempts) - len(run.attempts) in {0, 1}
    for was, attempt in zip(run.attempts, after.attempts, strict=False):
        assert was.instance == attempt.instance, "an instance keeps its name"
        assert was.gone_at in {None, attempt.gone_at}, "gone is gone"
        assert was.ended_at in {None, attempt.ended_at}, "an end stays"
        assert was.exit in {None, attempt.exit} or was.exit == attempt.exit, "an exit stays"
        for before, member in zip(was.members, attempt.members, strict=True):
            assert member.name == before.name, "an instance keeps its name"
            assert member.last_try_at >= before.last_try_at
            assert before.quiet_at in {None, member.quiet_at}, "quiet is quiet"
    if len(after.attempts) > len(run.attempts):
        assert all(is_quiet(attempt) for attempt in run.attempts), "one executor"


def check_end(run: Run, after: Run, decision: Decision) -> None:
    creates = [c for c in decision.commands if isinstance(c, CreateInstance)]
    if creates:
        assert after.state is State.PROVISIONING, "nothing is created but while provisioning"
        assert after.attempt is not None
        assert after.attempt.members[0].last_try_at > run.created_at - seconds(1)
        assert after.attempt.ended_at is None
        assert after.spec is not None
        assert not after.spec.data or after.datasets, "nothing is ordered before data is pinned"
    if after.outcome is Outcome.SUCCEEDED:
        assert all(line.passed for line in after.gate_lines), "success means that no gate failed"
        assert run.outcome or not after.spec.gate or after.gate_lines, "no gate is passed over"
    if after.state is not State.FINISHED:
        assert after.finished_at is None
        return
    assert after.outcome is not None, "a finished run has its outcome"
    assert after.finished_at is not None
    assert decision.commands == (), "a finished run orders nothing"
    assert all(attempt.gone_at is not None for attempt in after.attempts), "finished means gone"


def check_look(situation: Situation, decision: Decision) -> None:
    if decision.run.state is State.FINISHED:
        assert decision.look_again_at is None
        return
    assert decision.look_again_at is not None, "every unfinished run has a deadline"
    if decision.run.state is situation.run.state:
        assert decision.look_again_at > situation.now, "at once only after a step: no busy loop"
    else:
        assert decision.look_again_at >= situation.now


@pytest.mark.parametrize("state", list(State))
def test_the_laws_hold_in_every_situation(state: State) -> None:
    if state is State.FINISHED:
        gone = an_attempt(ended_at=NOON, gone_at=NOON)
        run = a_run(state, outcome=Outcome.FAILED, finished_at=NOON, attempts=(gone,))
        situations = [Situation(run, Observations(), NOON)]
    else:
        situations = [
            Situation(run, seen, NOON + at)
            for run in runs(state)
            for seen in observations(state)
            for at in TIMES
        ]
    for situation in situations:
        try:
            check(situation)
        except AssertionError as error:  # which of the many it was
            raise AssertionError(f"{error}\n{situation}\n{situation.decided()}") from error
