"""When another attempt may begin, and what goes on beside it for the instances of the last."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from cynthus.wire import AgentState
from tests.builders import (
    NOON,
    OUTPUT,
    a_key,
    a_lost,
    a_run,
    a_spec,
    absent,
    an_agent,
    an_attempt,
    an_exit,
    an_offer,
    created,
    of_newest,
    present,
    refused,
    seconds,
)
from webhook_server.runs.commands import (
    AskProvider,
    CloseAttempt,
    CreateInstance,
    Decision,
    DeleteInstance,
    StopWork,
)
from webhook_server.runs.decide import decide
from webhook_server.runs.lending import Denial, Fate, Gone, Scope
from webhook_server.runs.model import Cause, Outcome, Run, State
from webhook_server.runs.observations import CancelWish, InstanceSeen, Observations, ProviderSeen

STOPPED = an_exit(143, stopped=True)


def kinds(decision: Decision) -> list[type]:
    return [type(command) for command in decision.commands]


def running(**changes: Any) -> Run:
    attempt = an_attempt(started_at=NOON, create_answered=True)
    return a_run(State.RUNNING, **({"attempts": (attempt,)} | changes))


def look(run: Run, at: float = 0, **seen: Any) -> Decision:
    return decide(run, of_newest(run, **seen), NOON + seconds(at))


# ── preemption ──────────────────────────────────────────────────────────────────────────────────


def test_a_notice_of_preemption_is_told_and_the_command_is_left_to_its_agent() -> None:
    decision = look(running(), 1, agent=an_agent(preempted=True))
    assert decision.run.state is State.RUNNING
    assert decision.run.reason.cause is Cause.PREEMPTED
    assert StopWork not in kinds(decision)


@pytest.mark.case("A23")
def test_a_replacement_is_ordered_as_soon_as_the_preempted_command_has_stopped() -> None:
    noticed = look(running(spec=a_spec(outputs=())), 1, agent=an_agent(preempted=True)).run
    stopped = an_agent(AgentState.UPLOADING, exit=STOPPED, preempted=True)
    seen = {"agent": stopped, "create": created()}
    ended = look(noticed, 20, **seen)
    assert (ended.run.state, ended.run.reason.cause) == (State.RELEASING, Cause.PREEMPTED)
    assert kinds(ended) == [CloseAttempt, DeleteInstance, AskProvider]
    assert ended.look_again_at == NOON + seconds(20)  # at once
    queued = look(ended.run, 20, provider=present(NOON + seconds(20)), **seen)
    assert (queued.run.state, queued.look_again_at) == (State.QUEUED, NOON + seconds(20))
    ordered = look(queued.run, 20, provider=present(NOON + seconds(20)), offers=(an_offer(),))
    assert ordered.run.state is State.PROVISIONING
    assert CreateInstance in kinds(ordered)
    assert ordered.run.attempts[0].gone_at is None


def test_what_a_preempted_instance_still_brings_is_kept_while_the_next_one_is_ordered() -> None:
    stopped = an_agent(AgentState.UPLOADING, exit=STOPPED, preempted=True)
    waiting = look(running(), 3, agent=stopped, create=created())
    assert waiting.run.state is State.COLLECTING
    done = replace(stopped, state=AgentState.DONE, outputs=(OUTPUT,))
    ended = look(waiting.run, 5, agent=done, create=created())
    assert (ended.run.state, ended.run.reason.cause) == (State.RELEASING, Cause.PREEMPTED)
    assert ended.look_again_at == NOON + seconds(5)  # at once
    assert (ended.run.outputs, ended.run.outputs_attempt) == ((OUTPUT,), 1)
    assert ended.run.outputs_partial


def test_a_preempted_instance_that_says_no_more_is_waited_for_as_long_as_it_can_live() -> None:
    told = an_agent(AgentState.UPLOADING, exit=STOPPED, preempted=True, outputs=(OUTPUT,))
    waiting = look(running(), 3, agent=told, create=created())
    assert look(waiting.run, 27, agent=told, create=created()).run.state is State.COLLECTING
    ended = look(waiting.run, 28, agent=told, create=created())
    assert (ended.run.state, ended.run.reason.cause) == (State.RELEASING, Cause.PREEMPTED)
    assert ended.run.outputs == (OUTPUT,)  # what it had told by then


def test_a_later_attempt_without_outputs_leaves_those_of_the_earlier() -> None:
    lost, newest = a_lost(1), an_attempt(2, started_at=NOON, create_answered=True)
    earlier = {"outputs": (OUTPUT,), "outputs_attempt": 1, "outputs_partial": True}
    run = running(attempts=(lost, newest), **earlier)
    agent = an_agent(AgentState.DONE, exit=an_exit(3), outputs=())
    after = look(look(run, 5, agent=agent).run, 5, agent=agent).run
    assert (after.outcome, after.outputs, after.outputs_attempt) == (Outcome.FAILED, (OUTPUT,), 1)
    other = replace(OUTPUT, path="outputs/other")
    agent = replace(agent, exit=an_exit(0), outputs=(other,))
    after = look(look(run, 5, agent=agent).run, 5, agent=agent).run
    assert (after.outcome, after.outputs, after.outputs_attempt) == (Outcome.SUCCEEDED, (other,), 2)
    assert not after.outputs_partial


def test_a_command_that_succeeds_in_its_last_seconds_is_not_repeated() -> None:
    noticed = look(running(), 1, agent=an_agent(preempted=True)).run
    agent = an_agent(AgentState.UPLOADING, exit=an_exit(0), preempted=True)
    decision = look(noticed, 5, agent=agent)
    assert decision.run.state is State.COLLECTING
    done = replace(agent, state=AgentState.DONE, outputs=(OUTPUT,))
    assert look(decision.run, 6, agent=done).run.outcome is Outcome.SUCCEEDED


def test_a_preempted_agent_that_misses_a_beat_is_asked_after() -> None:
    noticed = look(running(), 1, agent=an_agent(preempted=True)).run
    assert AskProvider in kinds(look(noticed, 20, agent=an_agent(preempted=True)))
    gone = look(noticed, 21, agent=an_agent(preempted=True), provider=absent(NOON + seconds(21)))
    assert (gone.run.state, gone.run.reason.cause) == (State.RELEASING, Cause.PREEMPTED)


def test_a_cancel_before_the_notice_stays_what_ended_the_run() -> None:
    cancelled = look(running(), cancel=CancelWish(by="ann", at=NOON), agent=an_agent()).run
    agent = an_agent(AgentState.UPLOADING, exit=STOPPED, preempted=True)
    collecting = look(cancelled, 3, agent=agent)
    done = replace(agent, state=AgentState.DONE, outputs=())
    assert look(collecting.run, 4, agent=done).run.outcome is Outcome.CANCELLED


# ── what the provider says ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("fate", "cause"),
    [
        (Fate.PREEMPTED, Cause.PREEMPTED),
        (Fate.HOST_ERROR, Cause.HOST_ERROR),
        (Fate.STOPPED, Cause.STOPPED),
        (Fate.SUSPENDED, Cause.SUSPENDED),
        (Fate.ENDING, Cause.GONE),
        (None, Cause.GONE),
    ],
)
@pytest.mark.parametrize("gone", [Gone.PRESENT, Gone.ABSENT])
@pytest.mark.parametrize("state", [State.PROVISIONING, State.RUNNING])
def test_the_cause_of_a_loss_is_what_the_provider_has_on_record(
    fate: Fate | None, cause: Cause, gone: Gone, state: State
) -> None:
    told = ProviderSeen(gone=gone, asked_at=NOON + seconds(61), alive=False, fate=fate)
    run = running() if state is State.RUNNING else a_run(state)
    agent = an_agent() if state is State.RUNNING else None
    decision = look(run, 62, agent=agent, create=created(), provider=told)
    assert (decision.run.state, decision.run.reason.cause) == (State.RELEASING, cause)


def test_a_preemption_on_record_is_believed_before_a_new_instance_is_visible() -> None:
    told = ProviderSeen(gone=Gone.ABSENT, asked_at=NOON + seconds(5), fate=Fate.PREEMPTED)
    decision = look(a_run(State.PROVISIONING), 6, create=created(), provider=told)
    assert decision.run.reason.cause is Cause.PREEMPTED


@pytest.mark.case("P7")
@pytest.mark.parametrize("fate", [Fate.STOPPED, Fate.SUSPENDED])
def test_a_stopped_instance_costs_and_keeps_its_run_until_it_is_deleted(fate: Fate) -> None:
    ended = an_attempt(started_at=NOON, create_answered=True, ended_at=NOON)
    run = a_run(State.RELEASING, attempts=(ended,), outcome=Outcome.FAILED)
    told = ProviderSeen(gone=Gone.PRESENT, asked_at=NOON, alive=False, fate=fate)
    decision = look(run, 3600, create=created(), provider=told)
    assert (decision.run.state, decision.run.cost_usd) == (State.RELEASING, Decimal("3.60"))
    assert DeleteInstance in kinds(decision)


# ── the instances of earlier attempts ───────────────────────────────────────────────────────────


def both(first: InstanceSeen, **newest: Any) -> Observations:
    told = {"cynthus-arun00000001-1": first, "cynthus-arun00000001-2": InstanceSeen(**newest)}
    return Observations(instances=told)


def replaced(state: State = State.RUNNING, **changes: Any) -> Run:
    """A run on its second attempt; the first one's instance is still there, and quiet."""
    first = a_lost(1, gone_at=None, quiet_at=NOON, create_answered=True)
    newest = an_attempt(2, started_at=NOON, create_answered=True)
    return a_run(state, **({"attempts": (first, newest)} | changes))


def old(asked_at: datetime, gone: Gone = Gone.PRESENT) -> InstanceSeen:
    told = ProviderSeen(gone=gone, asked_at=asked_at)
    return InstanceSeen(provider=told, create=created(), closed=True)


def test_the_old_instance_is_given_back_beside_the_running_attempt() -> None:
    decision = decide(replaced(), both(old(NOON), agent=an_agent()), NOON + seconds(5))
    deleted = [c for c in decision.commands if isinstance(c, DeleteInstance)]
    assert [command.name for command in deleted] == ["cynthus-arun00000001-1"]
    assert decision.run.state is State.RUNNING
    gone = both(old(NOON + seconds(5), Gone.ABSENT), agent=an_agent())
    after = decide(decision.run, gone, NOON + seconds(6))
    assert after.run.attempts[0].gone_at == NOON + seconds(5)
    assert (after.commands, after.look_again_at) == ((), NOON + seconds(30))


def test_both_instances_cost_while_both_exist() -> None:
    seen = both(old(NOON), agent=an_agent(heartbeat_at=NOON + seconds(3600)))
    assert decide(replaced(), seen, NOON + seconds(3600)).run.cost_usd == Decimal("7.20")


def test_a_run_is_not_finished_while_an_instance_of_an_earlier_attempt_exists() -> None:
    newest = an_attempt(2, started_at=NOON, create_answered=True, ended_at=NOON, gone_at=NOON)
    run = replaced(
        State.RELEASING,
        outcome=Outcome.FAILED,
        attempts=(replaced().attempts[0], newest),
        key=a_key(repository_id=0),
    )
    waiting = decide(run, both(old(NOON)), NOON + seconds(1))
    assert waiting.run.state is State.RELEASING
    done = decide(run, both(old(NOON + seconds(1), Gone.ABSENT)), NOON + seconds(2))
    assert done.run.state is State.FINISHED


def test_a_queued_run_that_is_cancelled_waits_for_its_old_instance() -> None:
    run = a_run(State.QUEUED, attempts=replaced().attempts[:1])
    seen = replace(both(old(NOON)), cancel=CancelWish(by="ann", at=NOON))
    decision = decide(run, seen, NOON + seconds(1))
    assert (decision.run.state, decision.run.outcome) == (State.RELEASING, Outcome.CANCELLED)
    gone = replace(both(old(NOON + seconds(1), Gone.ABSENT)), cancel=seen.cancel)
    assert decide(decision.run, gone, NOON + seconds(2)).run.state is State.FINISHED


def test_a_silent_agent_is_replaced_only_once_its_instance_is_gone() -> None:
    ended = look(running(), 120, agent=an_agent())
    assert (ended.run.state, ended.run.reason.cause) == (State.RELEASING, Cause.SILENT)
    agent = an_agent()
    still = look(
        ended.run, 121, agent=agent, create=created(), provider=present(NOON + seconds(120))
    )
    assert still.run.state is State.RELEASING
    gone = look(ended.run, 122, agent=agent, create=created(), provider=absent(NOON + seconds(121)))
    assert gone.run.state is State.QUEUED


# ── refusals ────────────────────────────────────────────────────────────────────────────────────


def test_a_refused_order_is_replaced_once_its_name_is_closed_to_agents() -> None:
    none = refused(Denial.NO_CAPACITY, "zone a is full")
    # A first try was not answered: its effect may still come, and would find a closed door.
    run = a_run(State.PROVISIONING, attempts=(an_attempt(last_try_at=NOON + seconds(30)),))
    create = replace(none, at=NOON + seconds(31))
    ended = look(run, 31, create=create)
    assert (ended.run.state, ended.run.attempts[0].refusal) == (State.RELEASING, none.refusal)
    assert look(ended.run, 32, create=create).run.state is State.RELEASING
    queued = look(ended.run, 32, create=create, closed=True)
    assert queued.run.state is State.QUEUED
    assert queued.run.attempts[0].gone_at is None


def test_an_order_that_could_not_be_met_is_told_by_a_question() -> None:
    refusal = refused(Denial.NO_CAPACITY, "no L4 in b").refusal
    told = ProviderSeen(gone=Gone.UNKNOWN, asked_at=NOON + seconds(2), refusal=refusal)
    decision = look(a_run(State.PROVISIONING), 2, create=created(), provider=told)
    assert (decision.run.state, decision.run.reason.text) == (State.RELEASING, "no L4 in b")
    assert decision.run.attempts[0].refusal == refusal


@pytest.mark.parametrize(
    ("denial", "scope", "outcome"),
    [
        (Denial.MISCONFIGURED, Scope.EVERYWHERE, Outcome.FAILED),
        (Denial.QUOTA, Scope.EVERYWHERE, Outcome.FAILED),
        (Denial.QUOTA, Scope.REGION, None),
        (Denial.NO_CAPACITY, Scope.EVERYWHERE, None),
    ],
)
def test_what_no_other_place_mends_fails_the_run_at_once(
    denial: Denial, scope: Scope, outcome: Outcome | None
) -> None:
    decision = look(a_run(State.PROVISIONING), 1, create=refused(denial, "no", scope=scope))
    assert (decision.run.state, decision.run.outcome) == (State.RELEASING, outcome)


# ── questions while it boots ────────────────────────────────────────────────────────────────────


def test_a_booting_instance_is_asked_after_1_2_4_8_10_seconds() -> None:
    run, asked, at = a_run(State.PROVISIONING), [], 0.0
    told: ProviderSeen | None = None
    while at < 60:
        decision = look(run, at, create=created(), provider=told)
        run = decision.run
        assert decision.look_again_at is not None
        if AskProvider in kinds(decision):
            asked.append(at)
            asked_at = NOON + seconds(at)
            told = ProviderSeen(gone=Gone.PRESENT, asked_at=asked_at, fate=Fate.STARTING)
            continue  # the answer wakes the run
        at = (decision.look_again_at - NOON).total_seconds()
    assert asked[:6] == [1, 2, 4, 8, 16, 26]


def test_an_instance_that_executes_is_asked_after_every_half_minute() -> None:
    up = replace(present(NOON + seconds(4)), fate=Fate.RUNNING)
    decision = look(a_run(State.PROVISIONING), 5, create=created(), provider=up)
    assert decision.run.attempts[0].members[0].provided_at == NOON + seconds(4)
    assert (decision.commands, decision.look_again_at) == ((), NOON + seconds(34))


def test_an_instance_that_its_place_does_not_provide_is_given_up_sooner() -> None:
    slow = ProviderSeen(gone=Gone.PRESENT, asked_at=NOON + seconds(595), fate=Fate.STARTING)
    assert look(a_run(State.PROVISIONING), 599, create=created(), provider=slow).commands == ()
    decision = look(a_run(State.PROVISIONING), 600, create=created(), provider=slow)
    assert decision.run.reason.cause is Cause.BOOT
    assert decision.run.reason.text == "here did not provide it within 0:10:00"


def test_a_boot_that_takes_too_long_says_since_when_the_instance_runs() -> None:
    up = replace(present(NOON + seconds(24)), fate=Fate.RUNNING, detail="no driver: see serial")
    run = look(a_run(State.PROVISIONING), 25, create=created(), provider=up).run
    decision = look(run, 900, create=created(), provider=up)
    assert decision.run.reason.text == (
        "the agent did not come within 0:15:00: the instance runs since 12:00:24 UTC:"
        " no driver: see serial"
    )


def test_an_image_that_is_not_ready_within_its_time_loses_the_attempt() -> None:
    agent = an_agent(AgentState.PREPARING, heartbeat_at=NOON + seconds(3600))
    decision = look(running(), 3600, agent=agent)
    assert (decision.run.state, decision.run.reason.cause) == (State.RELEASING, Cause.BOOT)
    assert decision.run.reason.text == "the image was not ready within 1:00:00"


def test_maintenance_to_come_is_told() -> None:
    agent = an_agent(maintenance="TERMINATE_ON_HOST_MAINTENANCE")
    assert look(running(), 1, agent=agent).run.notices == (
        "the host of cynthus-arun00000001-1 will be maintained: TERMINATE_ON_HOST_MAINTENANCE",
    )
