"""Several instances that execute one attempt together: all or none, and one verdict."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from cynthus.spec import Resources
from cynthus.wire import AgentState, Output, Rendezvous
from tests.builders import (
    NOON,
    OUTPUT,
    a_run,
    a_spec,
    an_agent,
    an_attempt,
    an_exit,
    an_offer,
    created,
    refused,
    seconds,
)
from webhook_server.runs.commands import (
    AskProvider,
    CloseAttempt,
    CreateInstance,
    Decision,
    DeleteInstance,
    Meet,
    StopWork,
)
from webhook_server.runs.decide import decide
from webhook_server.runs.lending import Denial, Fate, Gone
from webhook_server.runs.limits import cost
from webhook_server.runs.model import Cause, Outcome, Run, State
from webhook_server.runs.observations import (
    AgentSeen,
    CancelWish,
    CreateOutcome,
    CreateSeen,
    InstanceSeen,
    Observations,
    ProviderSeen,
)
from webhook_server.runs.work import Limits, rank_fault, work_for

GANG = a_spec(resources=Resources(nodes=2))
NAMES = ("cynthus-arun00000001-1-0", "cynthus-arun00000001-1-1")
DONE = AgentState.DONE


def a_gang(state: State = State.RUNNING, **changes: Any) -> Run:
    started = {} if state is State.PROVISIONING else {"started_at": NOON}
    attempt = an_attempt(names=NAMES, create_answered=True, **started)
    return a_run(state, **({"attempts": (attempt,), "spec": GANG} | changes))


def both(first: InstanceSeen, second: InstanceSeen, **seen: Any) -> Observations:
    return Observations(instances=dict(zip(NAMES, (first, second), strict=True)), **seen)


def agents(first: AgentSeen | None, second: AgentSeen | None, **seen: Any) -> Observations:
    told = [InstanceSeen(agent=agent, create=created()) for agent in (first, second)]
    return both(*told, **seen)


def look(run: Run, seen: Observations, at: float = 1) -> Decision:
    return decide(run, seen, NOON + seconds(at))


def names(decision: Decision, kind: type) -> list[str]:
    return [command.name for command in decision.commands if isinstance(command, kind)]


def ready(rank: int, **changes: Any) -> AgentSeen:
    return an_agent(AgentState.READY, address=f"10.0.0.{rank + 2}", **changes)


def ended(code: int, at: float, state: AgentState = AgentState.UPLOADING, **more: Any) -> AgentSeen:
    stopped = more.pop("stopped", False)
    exit_at = NOON + seconds(at)
    exit_ = an_exit(code, stopped=stopped)
    return an_agent(state, exit=exit_, exit_at=exit_at, heartbeat_at=exit_at, **more)


# ── ordering ────────────────────────────────────────────────────────────────────────────────────


def test_a_gang_is_ordered_at_once_in_one_place() -> None:
    run = a_run(State.QUEUED, spec=GANG)
    decision = decide(run, Observations(offers=(an_offer(),)), NOON)
    orders = [c.order for c in decision.commands if isinstance(c, CreateInstance)]
    assert [(order.name, order.rank) for order in orders] == [(NAMES[0], 0), (NAMES[1], 1)]
    assert {order.offer.place for order in orders} == {"here"}
    assert decision.run.reason.text == "waiting for 2 x small in here (fake)"


def test_one_that_cannot_be_had_gives_all_back() -> None:
    full = InstanceSeen(create=refused(Denial.NO_CAPACITY, "one too many"))
    decision = look(a_gang(State.PROVISIONING), both(InstanceSeen(create=created()), full))
    assert (decision.run.state, decision.run.reason.text) == (State.RELEASING, "one too many")
    assert names(decision, CloseAttempt) == names(decision, DeleteInstance) == list(NAMES)


def test_the_next_place_is_tried_once_the_other_instance_is_gone() -> None:
    full = InstanceSeen(create=refused(Denial.NO_CAPACITY, "one too many"), closed=True)
    there = InstanceSeen(create=created(), closed=True)
    run = look(a_gang(State.PROVISIONING), both(there, full)).run
    present = ProviderSeen(gone=Gone.PRESENT, asked_at=NOON + seconds(2))
    assert look(run, both(replace(there, provider=present), full), 2).run.state is State.RELEASING
    absent = ProviderSeen(gone=Gone.ABSENT, asked_at=NOON + seconds(63))
    assert look(run, both(replace(there, provider=absent), full), 64).run.state is State.QUEUED


def test_only_the_create_that_was_not_answered_is_repeated() -> None:
    doubt = InstanceSeen(create=CreateSeen(outcome=CreateOutcome.UNKNOWN, at=NOON))
    decision = look(a_gang(State.PROVISIONING), both(InstanceSeen(create=created()), doubt), 10)
    [order] = [c.order for c in decision.commands if isinstance(c, CreateInstance)]
    assert order.name == NAMES[1]
    first, second = decision.run.attempts[0].members
    assert (first.last_try_at, second.last_try_at) == (NOON, NOON + seconds(10))
    assert (first.create_answered, second.create_answered) == (True, False)


def test_a_gang_runs_once_every_agent_has_come() -> None:
    one = look(a_gang(State.PROVISIONING), agents(an_agent(), None))
    assert one.run.state is State.PROVISIONING
    two = look(
        a_gang(State.PROVISIONING), agents(an_agent(), an_agent(enrolled_at=NOON + seconds(9))), 9
    )
    assert (two.run.state, two.run.attempts[0].started_at) == (State.RUNNING, NOON)
    assert two.run.reason.text == "running on 2 instances in here"


@pytest.mark.parametrize(
    ("agent", "at", "cause"),
    [
        (an_agent(preempted=True), 1, Cause.PREEMPTED),
        (an_agent(), 120, Cause.SILENT),
        (
            an_agent(DONE, exit=an_exit(None, error="disk full", infrastructure=True)),
            1,
            Cause.INSTANCE,
        ),
    ],
)
def test_an_agent_that_is_lost_before_the_others_came_ends_the_attempt(
    agent: AgentSeen, at: float, cause: Cause
) -> None:
    decision = look(a_gang(State.PROVISIONING), agents(agent, None), at)
    assert (decision.run.state, decision.run.reason.cause) == (State.RELEASING, cause)
    assert decision.run.reason.text.startswith("rank 0: ")


# ── meeting ─────────────────────────────────────────────────────────────────────────────────────


def test_a_gang_meets_at_rank_0_once_all_are_ready() -> None:
    early = look(a_gang(), agents(ready(0), an_agent(AgentState.PREPARING)))
    assert names(early, Meet) == []
    decision = look(a_gang(), agents(ready(0), ready(1)))
    told = Rendezvous(address="10.0.0.2", peers=("10.0.0.2", "10.0.0.3"))
    assert [c for c in decision.commands if isinstance(c, Meet)] == [
        Meet(name=name, rendezvous=told) for name in NAMES
    ]
    # Repeated to whoever still waits: what was saved but not performed is not lost.
    late = look(a_gang(), agents(an_agent(address="10.0.0.2"), ready(1)))
    assert names(late, Meet) == [NAMES[1]]


@pytest.mark.parametrize("address", [None, "", "10.0.0.2; rm -rf /", "-x", "a" * 300])
def test_a_gang_whose_first_agent_has_no_usable_address_is_lost(address: str | None) -> None:
    decision = look(a_gang(), agents(replace(ready(0), address=address), ready(1)))
    assert decision.run.reason.cause is Cause.INSTANCE
    assert "under which address" in decision.run.reason.text
    assert names(decision, Meet) == []


def test_a_gang_that_does_not_meet_in_time_is_lost() -> None:
    beat = {"heartbeat_at": NOON + seconds(3600)}
    decision = look(a_gang(), agents(ready(0, **beat), ready(1, **beat)), 3600)
    assert decision.run.reason.text == "rank 0: its gang did not meet within 1:00:00"


# ── one for all ─────────────────────────────────────────────────────────────────────────────────


def test_a_gang_has_succeeded_when_each_of_it_has() -> None:
    waiting = look(a_gang(), agents(ended(0, 1), an_agent()))
    assert (waiting.run.state, names(waiting, StopWork)) == (State.RUNNING, [])
    decision = look(a_gang(), agents(ended(0, 1), ended(0, 2)), 2)
    assert decision.run.state is State.COLLECTING
    half = look(decision.run, agents(ended(0, 1, DONE), ended(0, 2)), 3)
    assert half.run.state is State.COLLECTING
    own = Output(path="log.txt", size_bytes=1, sha256="e" * 64)
    done = agents(ended(0, 1, DONE, outputs=(OUTPUT,)), ended(0, 2, DONE, outputs=(own,)))
    after = look(decision.run, done, 4).run
    assert after.outcome is Outcome.SUCCEEDED
    assert [output.path for output in after.outputs or ()] == [OUTPUT.path, "rank-1/log.txt"]


def test_one_failure_ends_all_and_is_what_counts() -> None:
    decision = look(a_gang(), agents(an_agent(), ended(3, 5)), 5)
    assert decision.run.state is State.RUNNING
    assert decision.run.reason.text == "rank 1: the command exited with code 3"
    assert names(decision, StopWork) == [NAMES[0]]
    # What the others say afterwards follows from it.
    crashed = agents(ended(1, 6), ended(3, 5))
    collecting = look(decision.run, crashed, 6)
    done = agents(ended(1, 6, DONE, outputs=()), ended(3, 5, DONE, outputs=()))
    after = look(collecting.run, done, 7).run
    assert (after.outcome, after.attempts[0].exit) == (Outcome.FAILED, an_exit(3))
    assert after.reason.text == "rank 1: the command exited with code 3"


def test_of_two_failures_the_earlier_counts() -> None:
    decision = look(a_gang(), agents(ended(1, 6), ended(3, 5)), 6)
    assert decision.run.attempts[0].exit == an_exit(3)


@pytest.mark.parametrize("at", [5, 120])
def test_a_preempted_or_silent_instance_ends_all_and_the_gang_tries_again(at: float) -> None:
    lost = an_agent(preempted=True) if at < 60 else an_agent()
    alive = an_agent(heartbeat_at=NOON + seconds(at))
    decision = look(a_gang(), agents(alive, lost), at)
    assert names(decision, StopWork) == ([NAMES[0]] if at < 60 else list(NAMES))
    cause = Cause.PREEMPTED if at < 60 else Cause.SILENT
    assert decision.run.reason.cause is cause
    stopped = ended(143, at + 1, stopped=True)
    over = ended(143, at + 2, stopped=True, preempted=True) if at < 60 else lost
    after = look(decision.run, agents(stopped, over), at + 2)
    if at < 60:  # what it can still bring is waited for
        after = look(after.run, agents(stopped, over), at + 27)
    assert (after.run.state, after.run.outcome) == (State.RELEASING, None)
    assert after.run.attempts[0].reason is not None
    assert after.run.attempts[0].reason.cause is cause


def test_crashes_after_a_preemption_do_not_fail_the_run() -> None:
    noticed = look(a_gang(), agents(an_agent(), an_agent(preempted=True))).run
    crashed = agents(ended(1, 3), ended(143, 9, stopped=True, preempted=True))
    after = look(look(noticed, crashed, 9).run, crashed, 34).run
    assert (after.state, after.outcome) == (State.RELEASING, None)
    assert after.reason.text == "rank 1: the instance was taken back by its owner"


def test_an_agent_that_does_not_stop_is_given_back_with_the_first_cause() -> None:
    failed = look(a_gang(), agents(an_agent(), ended(3, 5)), 5).run
    deaf = an_agent(heartbeat_at=NOON + seconds(64))
    after = look(failed, agents(deaf, ended(3, 5)), 65).run
    assert (after.state, after.outcome) == (State.RELEASING, Outcome.FAILED)
    assert after.reason.text == "rank 1: the command exited with code 3"


def test_a_cancel_stops_every_member() -> None:
    seen = agents(an_agent(), an_agent(), cancel=CancelWish(by="ann", at=NOON))
    decision = look(a_gang(), seen)
    assert names(decision, StopWork) == list(NAMES)
    stopped = agents(ended(143, 3, DONE, stopped=True), ended(143, 3, DONE, stopped=True))
    collecting = look(decision.run, stopped, 3)
    assert look(collecting.run, stopped, 3).run.outcome is Outcome.CANCELLED


def test_each_suspect_is_asked_after_by_itself() -> None:
    beating = an_agent(heartbeat_at=NOON + seconds(25))
    decision = look(a_gang(), agents(beating, an_agent()), 30)
    assert names(decision, AskProvider) == [NAMES[1]]


def test_an_instance_lost_with_its_outputs_is_named() -> None:
    run = look(a_gang(), agents(ended(0, 1), ended(0, 1)), 1).run
    told = ProviderSeen(gone=Gone.ABSENT, asked_at=NOON + seconds(40), fate=Fate.HOST_ERROR)
    waiting = ended(0, 1)
    seen = both(
        InstanceSeen(agent=ended(0, 1, DONE, outputs=())),
        InstanceSeen(agent=waiting, provider=told),
    )
    after = look(run, seen, 41).run
    assert after.reason.text == (
        "the outputs were lost: rank 1: the machine under the instance failed"
    )


# ── cost, work ──────────────────────────────────────────────────────────────────────────────────


def test_every_instance_costs_until_it_is_gone() -> None:
    run = a_gang()
    assert cost(run, NOON + seconds(3600)) == Decimal("7.20")
    attempt = run.attempts[0]
    first = replace(attempt.members[0], gone_at=NOON + seconds(1800))
    half = replace(run, attempts=(replace(attempt, members=(first, attempt.members[1])),))
    assert cost(half, NOON + seconds(3600)) == Decimal("5.40")
    assert half.attempts[0].gone_at is None


def test_each_instance_is_told_its_place_in_the_gang() -> None:

    limits = Limits(max_duration=timedelta(hours=1), log_bytes=1, output_bytes=1, output_files=1)
    run = a_gang()
    gangs = [work_for(run, run.attempts[0], rank, {}, limits, NOON).gang for rank in (0, 1)]
    assert [(gang.rank, gang.nodes) for gang in gangs if gang] == [(0, 2), (1, 2)]
    [port] = {gang.port for gang in gangs if gang}
    assert 29500 <= port < 30000
    alone = a_run(State.RUNNING)
    assert work_for(alone, alone.attempts[0], 0, {}, limits, NOON).gang is None


@pytest.mark.parametrize(
    ("rank", "path", "refused_"),
    [
        (0, "rank-1/x", True),
        (0, "rank-x/y", False),
        (1, "rank-1/x", False),
        (None, "rank-1/x", False),
    ],
)
def test_rank_0_leaves_the_others_their_folders(
    rank: int | None, path: str, refused_: bool
) -> None:
    assert (rank_fault(rank, path) is not None) is refused_
