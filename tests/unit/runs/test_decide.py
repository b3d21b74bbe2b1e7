"""What is decided in each state, one sentence a rule."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from cynthus.spec import Resources, Retry
from cynthus.wire import AgentState, Exit, Output
from tests.builders import (
    IMAGE,
    NOON,
    OUTPUT,
    a_key,
    a_lost,
    a_refused,
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
from webhook_server.runs.decide import decide, park
from webhook_server.runs.lending import Denial, Gone, Scope
from webhook_server.runs.model import Cause, Outcome, Reason, Run, SpecFault, State
from webhook_server.runs.observations import (
    CancelWish,
    CreateOutcome,
    CreateSeen,
    ImageArrived,
    Observations,
    ProviderSeen,
    ReleaseSeen,
    ReleaseState,
)
from webhook_server.runs.policy import CLOUD, LOCAL, policy_of

CANCEL = CancelWish(by="ann", at=NOON)
HOUR = timedelta(hours=1)


def look(run: Run, at: timedelta = timedelta(0), **seen: Any) -> Decision:
    return decide(run, of_newest(run, **seen), NOON + at)


def ending(decision: Decision) -> tuple[State, Outcome | None, Cause]:
    return decision.run.state, decision.run.outcome, decision.run.reason.cause


def kinds(decision: Decision) -> list[type]:
    return [type(command) for command in decision.commands]


NO_CAPACITY = Denial.NO_CAPACITY
GIVE_BACK: list[type] = [CloseAttempt, DeleteInstance, AskProvider]

# ── building ────────────────────────────────────────────────────────────────────────────────────


def test_a_spec_that_cannot_be_read_ends_the_run_with_its_first_fault() -> None:
    faults = (
        SpecFault(line=3, column=5, text="should be text"),
        SpecFault(line=4, column=1, text="x"),
    )
    decision = look(a_run(State.BUILDING, spec=None, spec_faults=faults))
    assert ending(decision) == (State.FINISHED, Outcome.FAILED, Cause.SPEC)
    assert decision.run.reason.text == "cynthus.yaml:3:5: should be text (and 1 more)"


def test_a_missing_spec_is_a_fault_too() -> None:
    decision = look(a_run(State.BUILDING, spec=None))
    assert decision.run.reason.text == "cynthus.yaml cannot be read"


def test_an_image_queues_the_run_and_is_looked_at_again_at_once() -> None:
    decision = look(a_run(State.BUILDING), image=ImageArrived(image=IMAGE, failure=None))
    assert (decision.run.state, decision.run.image) == (State.QUEUED, IMAGE)
    assert decision.look_again_at == NOON


def test_a_failed_build_ends_the_run_with_what_the_action_said() -> None:
    arrived = ImageArrived(image=None, failure="pip found no torch==9")
    decision = look(a_run(State.BUILDING), image=arrived)
    assert ending(decision) == (State.FINISHED, Outcome.FAILED, Cause.BUILD)
    assert decision.run.reason.text == "pip found no torch==9"


def test_an_image_is_waited_for_an_hour() -> None:
    assert look(a_run(State.BUILDING)).look_again_at == NOON + HOUR
    late = look(a_run(State.BUILDING), HOUR)
    assert ending(late) == (State.FINISHED, Outcome.FAILED, Cause.BUILD)


@pytest.mark.parametrize("state", [State.BUILDING, State.QUEUED])
def test_a_cancelled_run_without_an_instance_is_finished_at_once(state: State) -> None:
    decision = look(a_run(state), cancel=CANCEL, offers=(an_offer(),))
    assert ending(decision) == (State.FINISHED, Outcome.CANCELLED, Cause.CANCELLED)
    assert decision.run.finished_at == NOON
    assert decision.commands == ()
    assert decision.run.reason.text == "cancelled by ann"


# ── queued ──────────────────────────────────────────────────────────────────────────────────────


def test_an_offer_is_taken_with_the_time_of_the_try_in_the_same_decision() -> None:
    decision = look(a_run(State.QUEUED), seconds(5), offers=(an_offer(),))
    [command] = decision.commands
    assert isinstance(command, CreateInstance)
    attempt = decision.run.attempt
    assert attempt is not None
    assert command.order.name == attempt.instance == "cynthus-arun00000001-1"
    assert attempt.ordered_at == attempt.members[0].last_try_at == NOON + seconds(5)
    assert decision.run.state is State.PROVISIONING
    assert decision.look_again_at == NOON + seconds(5) + CLOUD.create_patience


def test_the_instances_own_end_is_later_than_every_limit_of_ours() -> None:
    decision = look(a_run(State.QUEUED), offers=(an_offer(),))
    [command] = decision.commands
    assert isinstance(command, CreateInstance)
    most = a_spec().resources.max_duration + CLOUD.boot_limit + CLOUD.collect_limit
    assert command.order.max_life > most


@pytest.mark.parametrize(
    ("offers", "text"),
    [
        ((), "no instance is free: 0 of 2 slots"),
        (None, "the provider does not answer: 0 of 2 slots"),
    ],
)
def test_without_an_offer_the_run_waits_ever_longer(offers: Any, text: str) -> None:
    run = a_run(State.QUEUED)
    for waited, pause in [(0, 1), (1, 1), (8, 8), (500, 60)]:
        decision = look(run, seconds(waited), offers=offers, offers_detail="0 of 2 slots")
        assert decision.look_again_at == NOON + seconds(waited + pause)
        assert decision.run.reason == Reason(cause=Cause.NO_CAPACITY, text=text)
    late = look(run, CLOUD.capacity_limit, offers=offers)
    assert ending(late) == (State.FINISHED, Outcome.INFRASTRUCTURE, Cause.NO_CAPACITY)


def test_a_refusal_for_good_ends_the_run() -> None:
    decision = look(a_run(State.QUEUED), offers=(), offers_refusal="quota GPUS_ALL_REGIONS is 0")
    assert ending(decision) == (State.FINISHED, Outcome.FAILED, Cause.REFUSED)
    assert decision.run.reason.text == "quota GPUS_ALL_REGIONS is 0"


def test_no_attempt_is_made_before_its_time() -> None:
    run = a_run(State.QUEUED, not_before=NOON + seconds(4))
    assert look(run, offers=(an_offer(),)).commands == ()
    assert look(run, offers=(an_offer(),)).look_again_at == NOON + seconds(4)
    assert kinds(look(run, seconds(4), offers=(an_offer(),))) == [CreateInstance]


def test_a_queued_run_whose_time_is_over_makes_no_other_attempt() -> None:
    spec = a_spec(resources=Resources(max_duration=HOUR))
    run = a_run(State.QUEUED, spec=spec, attempts=(a_lost(1),))
    decision = look(run, HOUR, offers=(an_offer(),))
    assert ending(decision) == (State.FINISHED, Outcome.TIMED_OUT, Cause.MAX_DURATION)


def test_a_queued_run_whose_money_is_spent_makes_no_other_attempt() -> None:
    spec = a_spec(resources=Resources(max_cost_usd=Decimal(1)))
    run = a_run(State.QUEUED, spec=spec, attempts=(a_lost(1, gone_at=NOON + HOUR),))
    decision = look(run, HOUR + seconds(1), offers=(an_offer(),))
    assert ending(decision) == (State.FINISHED, Outcome.OVER_BUDGET, Cause.MAX_COST)
    assert decision.run.cost_usd == Decimal("3.60")


# ── provisioning ────────────────────────────────────────────────────────────────────────────────


def booting(**changes: Any) -> Run:
    return a_run(State.PROVISIONING, **changes)


def test_an_enrolled_agent_starts_the_run_even_before_the_create_is_answered() -> None:
    decision = look(booting(), seconds(2), agent=an_agent(enrolled_at=NOON + seconds(1)))
    assert decision.run.state is State.RUNNING
    assert decision.run.attempt is not None
    assert decision.run.attempt.started_at == NOON + seconds(1)
    assert decision.look_again_at == NOON + seconds(2)


def test_a_run_without_a_docker_engine_says_so() -> None:
    decision = look(booting(), agent=an_agent(engine="process"))
    assert decision.run.notices == ("no Docker engine: the command runs as a plain process",)


def test_an_unanswered_create_is_repeated_with_its_time_saved_first() -> None:
    waiting = look(booting(), seconds(29))
    assert (waiting.commands, waiting.look_again_at) == ((), NOON + seconds(30))
    again = look(booting(), seconds(30))
    assert kinds(again) == [CreateInstance]
    assert again.run.attempt is not None
    assert again.run.attempt.members[0].last_try_at == NOON + seconds(30)
    assert again.run.attempt.instance == "cynthus-arun00000001-1"


def test_a_doubtful_create_is_repeated_sooner() -> None:
    doubt = CreateSeen(outcome=CreateOutcome.UNKNOWN, at=NOON + seconds(1))
    assert look(booting(), seconds(2), create=doubt).look_again_at == NOON + seconds(11)
    assert kinds(look(booting(), seconds(11), create=doubt)) == [CreateInstance]


def test_an_answer_to_an_earlier_create_does_not_count_for_the_newest() -> None:
    run = booting(attempts=(an_attempt(last_try_at=NOON + seconds(30)),))
    decision = look(run, seconds(31), create=created(NOON + seconds(29)))
    assert decision.look_again_at == NOON + seconds(60)
    assert decision.run.attempt is not None
    assert not decision.run.attempt.members[0].create_answered


def test_an_answered_create_is_remembered_unless_an_earlier_one_was_not() -> None:
    assert look(booting(), create=created()).run.attempts[0].members[0].create_answered
    twice = booting(attempts=(an_attempt(last_try_at=NOON + seconds(30)),))
    decision = look(twice, seconds(31), create=created(NOON + seconds(31)))
    assert not decision.run.attempts[0].members[0].create_answered


def test_no_capacity_gives_the_attempt_back_and_uses_none_up() -> None:
    none = refused(NO_CAPACITY, "zone a is full")
    run = booting(spec=a_spec(retry=Retry(1)))
    decision = look(run, create=none)
    assert ending(decision) == (State.RELEASING, None, Cause.NO_CAPACITY)
    assert kinds(decision) == GIVE_BACK
    assert decision.run.attempts[0].lost


def test_no_capacity_for_half_an_hour_uses_attempts_up() -> None:
    none = refused(NO_CAPACITY, "", at=NOON + HOUR)
    newest = an_attempt(2, ordered_at=NOON + HOUR, last_try_at=NOON + HOUR)
    run = booting(spec=a_spec(retry=Retry(1)), attempts=(a_refused(1), newest))
    decision = look(run, HOUR, create=none)
    assert ending(decision) == (State.RELEASING, Outcome.INFRASTRUCTURE, Cause.NO_CAPACITY)
    assert decision.run.reason.text == "no capacity in here"


def test_a_refused_create_fails_the_run_with_the_providers_words() -> None:
    no = refused(Denial.QUOTA, "quota A100_GPUS is 0", scope=Scope.EVERYWHERE)
    decision = look(booting(), create=no)
    assert ending(decision) == (State.RELEASING, Outcome.FAILED, Cause.REFUSED)
    assert decision.run.reason.text == "quota A100_GPUS is 0"


@pytest.mark.parametrize("create", [None, created()])
def test_an_agent_that_does_not_come_in_time_loses_the_attempt(create: CreateSeen | None) -> None:
    decision = look(booting(), CLOUD.boot_limit, create=create)
    assert ending(decision) == (State.RELEASING, None, Cause.BOOT)
    assert kinds(decision) == GIVE_BACK


def test_a_new_instance_may_be_invisible_for_a_minute() -> None:
    early = absent(NOON + seconds(59))
    assert look(booting(), seconds(59), create=created(), provider=early).commands == ()
    asked = look(booting(), seconds(60), create=created(), provider=early)
    assert (kinds(asked), asked.look_again_at) == ([], NOON + seconds(69))
    assert kinds(look(booting(), seconds(69), create=created(), provider=early)) == [AskProvider]
    late = absent(NOON + seconds(60))
    decision = look(booting(), seconds(61), create=created(), provider=late)
    assert ending(decision) == (State.RELEASING, None, Cause.GONE)


def test_an_instance_that_stopped_while_booting_is_lost() -> None:
    dead = replace(present(NOON + seconds(3)), alive=False, detail="agent exited with code 1")
    decision = look(booting(), seconds(4), create=created(), provider=dead)
    assert ending(decision) == (State.RELEASING, None, Cause.GONE)
    assert decision.run.reason.text.endswith("while it booted: agent exited with code 1")


def test_a_booting_instance_that_lives_is_asked_after_every_ten_seconds() -> None:
    alive = present(NOON + seconds(60))
    decision = look(booting(), seconds(65), create=created(), provider=alive)
    assert (decision.commands, decision.look_again_at) == ((), NOON + seconds(70))
    assert kinds(look(booting(), seconds(70), create=created(), provider=alive)) == [AskProvider]


@pytest.mark.parametrize("agent", [None, an_agent()])
def test_cancelling_a_booting_run_gives_its_instance_back(agent: Any) -> None:
    decision = look(booting(), cancel=CANCEL, agent=agent)
    assert ending(decision) == (State.RELEASING, Outcome.CANCELLED, Cause.CANCELLED)
    assert kinds(decision) == GIVE_BACK
    assert not decision.run.attempts[0].lost


def test_the_time_of_earlier_attempts_counts() -> None:
    spec = a_spec(resources=Resources(max_duration=HOUR))
    newest = an_attempt(
        2, ordered_at=NOON + HOUR - seconds(5), last_try_at=NOON + HOUR - seconds(5)
    )
    run = booting(spec=spec, attempts=(a_lost(1), newest))
    assert look(run, HOUR - seconds(1)).look_again_at == NOON + HOUR
    assert ending(look(run, HOUR))[1] is Outcome.TIMED_OUT


# ── running ─────────────────────────────────────────────────────────────────────────────────────


def running(**changes: Any) -> Run:
    attempt = an_attempt(started_at=NOON, create_answered=True)
    return a_run(State.RUNNING, **({"attempts": (attempt,)} | changes))


def test_a_healthy_run_is_left_alone_until_its_agent_could_be_silent() -> None:
    decision = look(running(), seconds(10), agent=an_agent())
    assert (decision.commands, decision.look_again_at) == ((), NOON + seconds(30))


def test_a_silent_agent_is_asked_after_at_the_provider() -> None:
    decision = look(running(), seconds(30), agent=an_agent())
    assert kinds(decision) == [AskProvider]
    assert decision.look_again_at == NOON + seconds(40)


def test_an_instance_that_is_gone_is_lost_within_45_seconds() -> None:
    decision = look(running(), seconds(31), agent=an_agent(), provider=absent(NOON + seconds(31)))
    assert ending(decision) == (State.RELEASING, None, Cause.GONE)


def test_what_the_provider_said_before_the_silence_proves_nothing() -> None:
    decision = look(running(), seconds(31), agent=an_agent(), provider=absent(NOON + seconds(29)))
    assert decision.run.state is State.RUNNING


def test_an_instance_that_exists_but_executes_nothing_is_lost() -> None:
    dead = replace(present(NOON + seconds(31)), alive=False, detail="stopped by hand")
    decision = look(running(), seconds(31), agent=an_agent(), provider=dead)
    assert ending(decision) == (State.RELEASING, None, Cause.GONE)
    assert decision.run.reason.text == "the instance is gone: stopped by hand"


@pytest.mark.parametrize("gone", [Gone.PRESENT, Gone.UNKNOWN])
def test_a_silent_agent_on_a_living_instance_is_lost_after_two_minutes(gone: Gone) -> None:
    said = ProviderSeen(gone=gone, asked_at=NOON + seconds(115))
    before = look(running(), seconds(119), agent=an_agent(), provider=said)
    assert (before.run.state, before.look_again_at) == (State.RUNNING, NOON + seconds(120))
    after = look(running(), seconds(120), agent=an_agent(), provider=said)
    assert ending(after) == (State.RELEASING, None, Cause.SILENT)
    assert after.run.reason.text == "no heartbeat since 12:00:00 UTC"


def test_silence_while_the_server_was_down_is_not_the_agents() -> None:
    up_at = NOON + HOUR
    decision = look(running(), HOUR, agent=an_agent(), listening_since=up_at)
    assert (decision.run.state, decision.look_again_at) == (State.RUNNING, up_at + seconds(30))
    lost = look(running(), HOUR + seconds(120), agent=an_agent(), listening_since=up_at)
    assert ending(lost) == (State.RELEASING, None, Cause.SILENT)


def test_a_running_run_without_any_agent_is_lost_like_a_silent_one() -> None:
    assert ending(look(running(), seconds(120))) == (State.RELEASING, None, Cause.SILENT)


@pytest.mark.case("A23")
def test_a_preempted_instance_that_vanishes_is_named_so() -> None:
    agent = an_agent(preempted=True)
    decision = look(running(), seconds(31), agent=agent, provider=absent(NOON + seconds(31)))
    assert ending(decision) == (State.RELEASING, None, Cause.PREEMPTED)


def test_the_last_attempt_that_is_lost_ends_the_run() -> None:
    attempts = (a_lost(1), a_lost(2), an_attempt(3, started_at=NOON))
    decision = look(running(attempts=attempts), seconds(120), agent=an_agent())
    assert ending(decision) == (State.RELEASING, Outcome.INFRASTRUCTURE, Cause.SILENT)
    assert decision.run.reason.text.endswith("; no attempt is left (3 made)")


def test_a_cancelled_command_is_asked_to_stop_and_waited_for() -> None:
    decision = look(running(), seconds(5), agent=an_agent(), cancel=CANCEL)
    assert decision.commands == (
        StopWork(name="cynthus-arun00000001-1", reason="cancelled by ann"),
    )
    assert decision.run.state is State.RUNNING
    assert decision.run.reason.text == "cancelled by ann"
    again = look(decision.run, seconds(6), agent=an_agent(), cancel=CANCEL)
    assert kinds(again) == [StopWork]
    assert again.run.attempts == decision.run.attempts


def test_a_command_that_does_not_stop_loses_its_instance() -> None:
    stopping = look(running(), agent=an_agent(), cancel=CANCEL).run
    agent = an_agent(heartbeat_at=NOON + seconds(59))
    decision = look(stopping, CLOUD.stop_limit, agent=agent, cancel=CANCEL)
    assert ending(decision) == (State.RELEASING, Outcome.CANCELLED, Cause.CANCELLED)
    assert kinds(decision) == GIVE_BACK


def test_an_instance_lost_while_stopping_ends_the_run_as_the_stop_meant() -> None:
    stopping = look(running(), agent=an_agent(), cancel=CANCEL).run
    decision = look(stopping, seconds(31), agent=an_agent(), provider=absent(NOON + seconds(31)))
    assert ending(decision) == (State.RELEASING, Outcome.CANCELLED, Cause.CANCELLED)


@pytest.mark.case("S9")
@pytest.mark.parametrize(
    ("resources", "after", "cause", "outcome"),
    [
        (Resources(max_duration=HOUR), HOUR, Cause.MAX_DURATION, Outcome.TIMED_OUT),
        (
            Resources(max_cost_usd=Decimal("1.80")),
            HOUR / 2 - CLOUD.stop_limit - CLOUD.delete_allowance,  # its end is paid for too
            Cause.MAX_COST,
            Outcome.OVER_BUDGET,
        ),
    ],
)
def test_a_limit_stops_the_command_on_time(
    resources: Resources, after: timedelta, cause: Cause, outcome: Outcome
) -> None:
    run = running(spec=a_spec(resources=resources))
    beating = an_agent(heartbeat_at=NOON + after - seconds(5))
    before = look(run, after - seconds(1), agent=beating)
    assert (before.commands, before.look_again_at) == ((), NOON + after)
    decision = look(run, after, agent=beating)
    assert kinds(decision) == [StopWork]
    assert decision.run.reason.cause is cause
    done = an_agent(AgentState.DONE, exit=an_exit(143, stopped=True), outputs=())
    collecting = look(decision.run, after + seconds(1), agent=done)
    assert ending(look(collecting.run, after + seconds(1), agent=done)) == (
        State.RELEASING,
        outcome,
        cause,
    )


def test_an_exit_is_kept_and_its_outputs_are_collected() -> None:
    decision = look(running(), agent=an_agent(AgentState.UPLOADING, exit=an_exit(0)))
    assert decision.run.state is State.COLLECTING
    assert decision.run.attempts[0].exit == an_exit(0)
    assert (decision.look_again_at, decision.run.outcome) == (NOON, None)


def test_an_agent_that_is_done_without_saying_how_is_lost() -> None:
    decision = look(running(), agent=an_agent(AgentState.DONE))
    assert ending(decision) == (State.RELEASING, None, Cause.INSTANCE)


# ── collecting ──────────────────────────────────────────────────────────────────────────────────


def collecting(exit_: Exit, **changes: Any) -> Run:
    attempt = an_attempt(started_at=NOON, create_answered=True, exit=exit_)
    return a_run(State.COLLECTING, **({"attempts": (attempt,)} | changes))


def a_done(exit_: Exit, **changes: Any) -> Any:
    return an_agent(AgentState.DONE, **({"exit": exit_, "outputs": (OUTPUT,)} | changes))


@pytest.mark.parametrize(
    ("exit_", "outcome", "cause", "text"),
    [
        (an_exit(0), Outcome.SUCCEEDED, Cause.EXIT, "the command succeeded"),
        (an_exit(3), Outcome.FAILED, Cause.EXIT, "the command exited with code 3"),
        (
            an_exit(137, signal=9, out_of_memory=True),
            Outcome.FAILED,
            Cause.OUT_OF_MEMORY,
            "the command ran out of memory (resources/memory is 16 GB)",
        ),
        (
            an_exit(139, signal=11),
            Outcome.FAILED,
            Cause.EXIT,
            "the command was killed by SIGSEGV (signal 11)",
        ),
        (
            an_exit(199, signal=99),
            Outcome.FAILED,
            Cause.EXIT,
            "the command was killed by signal 99",
        ),
        (
            an_exit(None, error="no such command: trian.py"),
            Outcome.FAILED,
            Cause.EXIT,
            "the command did not start: no such command: trian.py",
        ),
        (
            an_exit(None, error="disk full", infrastructure=True),
            None,
            Cause.INSTANCE,
            "disk full",
        ),
        (an_exit(None, infrastructure=True), None, Cause.INSTANCE, "the instance has a fault"),
        (
            an_exit(143, stopped=True),
            None,
            Cause.SILENT,
            "the agent stopped the command: it could not reach the server",
        ),
        (
            an_exit(143, stopped=True, error="the disk is full", infrastructure=True),
            None,
            Cause.INSTANCE,
            "the disk is full",
        ),
    ],
)
def test_the_exit_decides_the_outcome(
    exit_: Exit, outcome: Outcome | None, cause: Cause, text: str
) -> None:
    spec = a_spec(resources=Resources(memory_bytes=16 * 10**9))
    decision = look(collecting(exit_, spec=spec), agent=a_done(exit_))
    assert ending(decision) == (State.RELEASING, outcome, cause)
    assert decision.run.reason.text == text
    assert decision.run.outputs == (OUTPUT,)  # of a lost attempt too: there may be nothing better
    assert decision.run.outputs_partial is not (outcome is Outcome.SUCCEEDED)
    assert kinds(decision) == GIVE_BACK
    assert decision.run.attempts[0].ended_at == NOON


def test_out_of_memory_without_a_limit_says_that_none_is_set() -> None:
    exit_ = an_exit(137, out_of_memory=True)
    decision = look(collecting(exit_), agent=a_done(exit_))
    assert "resources/memory is not set" in decision.run.reason.text


def test_an_agent_that_stopped_at_its_own_deadline_timed_out() -> None:
    exit_ = an_exit(143, stopped=True)
    run = collecting(exit_, spec=a_spec(resources=Resources(max_duration=HOUR)))
    decision = look(run, HOUR - seconds(1), agent=a_done(exit_))
    assert ending(decision) == (State.RELEASING, Outcome.TIMED_OUT, Cause.MAX_DURATION)


@pytest.mark.case("A23")
@pytest.mark.parametrize("exit_", [an_exit(143, stopped=True), an_exit(1)])
def test_a_preempted_command_is_tried_again(exit_: Exit) -> None:
    decision = look(collecting(exit_), agent=a_done(exit_, preempted=True))
    assert ending(decision) == (State.RELEASING, None, Cause.PREEMPTED)


def test_a_command_that_succeeded_before_the_preemption_has_succeeded() -> None:
    decision = look(collecting(an_exit(0)), agent=a_done(an_exit(0), preempted=True))
    assert decision.run.outcome is Outcome.SUCCEEDED


def test_exit_codes_that_mean_try_again_are_tried_again_and_fail_at_last() -> None:
    again = a_spec(retry=Retry(2, (75,)))
    decision = look(collecting(an_exit(75), spec=again), agent=a_done(an_exit(75)))
    assert ending(decision) == (State.RELEASING, None, Cause.EXIT)
    newest = an_attempt(2, started_at=NOON, exit=an_exit(75))
    run = collecting(an_exit(75), spec=again, attempts=(a_lost(1), newest))
    assert ending(look(run, agent=a_done(an_exit(75))))[1] is Outcome.FAILED


def test_an_output_that_was_left_out_is_named() -> None:
    left = Output(path="big.bin", size_bytes=1, sha256="", left_out="larger than 2 GiB")
    decision = look(collecting(an_exit(0)), agent=a_done(an_exit(0), outputs=(left,)))
    assert decision.run.notices == ("big.bin was not stored: larger than 2 GiB",)


def test_a_cancel_after_the_exit_changes_nothing() -> None:
    decision = look(collecting(an_exit(0)), agent=a_done(an_exit(0)), cancel=CANCEL)
    assert decision.run.outcome is Outcome.SUCCEEDED


def test_outputs_are_waited_for_an_hour() -> None:
    beating = an_agent(AgentState.UPLOADING, exit=an_exit(0), heartbeat_at=NOON + HOUR - seconds(1))
    waiting = look(collecting(an_exit(0)), HOUR - seconds(1), agent=beating)
    assert (waiting.run.state, waiting.look_again_at) == (State.COLLECTING, NOON + HOUR)
    decision = look(collecting(an_exit(0)), HOUR, agent=beating)
    assert ending(decision) == (State.RELEASING, Outcome.FAILED, Cause.OUTPUTS)


@pytest.mark.parametrize(
    ("exit_", "changes", "outcome", "cause"),
    [
        (an_exit(0), {}, None, Cause.OUTPUTS),
        (an_exit(0), {"spec": a_spec(outputs=())}, Outcome.SUCCEEDED, Cause.EXIT),
        (an_exit(3), {}, Outcome.FAILED, Cause.EXIT),
    ],
)
def test_an_instance_lost_with_its_outputs_is_judged_by_what_is_missing(
    exit_: Exit, changes: dict[str, Any], outcome: Outcome | None, cause: Cause
) -> None:
    agent = an_agent(AgentState.UPLOADING, exit=exit_)
    decision = look(
        collecting(exit_, **changes), seconds(31), agent=agent, provider=absent(NOON + seconds(31))
    )
    assert ending(decision) == (State.RELEASING, outcome, cause)


def test_money_that_is_spent_ends_collecting() -> None:
    run = collecting(an_exit(0), spec=a_spec(resources=Resources(max_cost_usd=Decimal("1.80"))))
    agent = an_agent(AgentState.UPLOADING, exit=an_exit(0), heartbeat_at=NOON + HOUR / 2)
    decision = look(run, HOUR / 2, agent=agent)
    assert ending(decision) == (State.RELEASING, Outcome.OVER_BUDGET, Cause.MAX_COST)


# ── releasing ───────────────────────────────────────────────────────────────────────────────────


def releasing(outcome: Outcome | None = Outcome.SUCCEEDED, **changes: Any) -> Run:
    attempt = an_attempt(
        started_at=NOON,
        create_answered=True,
        ended_at=NOON,
        lost=outcome is None,
        reason=Reason(cause=Cause.GONE, text="the instance is gone"),
    )
    return a_run(
        State.RELEASING, **({"attempts": (attempt,), "outcome": outcome, "outputs": ()} | changes)
    )


def test_a_run_is_finished_once_its_instance_is_not_found() -> None:
    decision = look(releasing(), seconds(1), create=created(), provider=absent(NOON))
    assert (decision.run.state, decision.look_again_at) == (State.FINISHED, None)
    assert decision.run.finished_at == NOON + seconds(1)
    assert decision.run.attempts[0].gone_at == NOON


def test_what_an_instance_cost_is_counted_to_the_answer_that_it_is_gone() -> None:
    late = replace(absent(NOON + seconds(1)), heard_at=NOON + seconds(31))
    decision = look(releasing(), seconds(32), create=created(), provider=late)
    assert decision.run.attempts[0].gone_at == NOON + seconds(31)


def test_an_answer_that_was_asked_for_too_early_proves_nothing_however_late_it_comes() -> None:
    late = replace(absent(NOON - seconds(1)), heard_at=NOON + seconds(31))
    decision = look(releasing(), seconds(32), create=created(), provider=late)
    assert decision.run.attempts[0].gone_at is None


def test_not_found_before_the_end_of_the_attempt_proves_nothing() -> None:
    decision = look(releasing(), seconds(1), create=created(), provider=absent(NOON - seconds(1)))
    assert decision.run.state is State.RELEASING
    assert kinds(decision) == GIVE_BACK


def test_not_found_before_the_create_was_answered_proves_nothing() -> None:
    decision = look(
        releasing(),
        seconds(3),
        create=created(NOON + seconds(2)),
        provider=absent(NOON + seconds(1)),
    )
    assert decision.run.state is State.RELEASING


def test_a_lost_create_keeps_the_run_until_it_can_no_longer_take_effect() -> None:
    tried = an_attempt(last_try_at=NOON + seconds(30), ended_at=NOON + seconds(40))
    run = releasing(Outcome.CANCELLED, attempts=(tried,))
    settled = seconds(30) + CLOUD.grace
    early = look(run, settled - seconds(1), provider=absent(NOON + settled - seconds(30)))
    assert early.run.state is State.RELEASING
    assert early.look_again_at == NOON + settled
    due = look(run, settled, provider=absent(NOON + settled - seconds(30)))
    assert kinds(due) == GIVE_BACK
    assert look(run, settled, provider=absent(NOON + settled)).run.state is State.FINISHED


@pytest.mark.parametrize(
    ("one_create", "seen_at", "warm", "state"),
    [
        (True, NOON + seconds(35), None, State.FINISHED),
        (False, NOON + seconds(35), None, State.RELEASING),
        (True, None, None, State.RELEASING),
        (True, NOON + seconds(35), "cynthus-another-1", State.RELEASING),
    ],
    ids=["known as one", "any other cloud", "never seen", "taken over"],
)
def test_after_two_creates_not_found_is_believed_where_they_were_one_and_it_was_seen(
    *, one_create: bool, seen_at: datetime | None, warm: str | None, state: State
) -> None:
    policy = replace(CLOUD, one_create=one_create)
    offer = an_offer(warm=warm)
    last = {"last_try_at": NOON + seconds(30), "ended_at": NOON + seconds(40)}
    run = releasing(Outcome.CANCELLED, attempts=(an_attempt(offer=offer, seen_at=seen_at, **last),))
    seen = of_newest(run, create=created(NOON + seconds(31)), provider=absent(NOON + seconds(50)))
    decision = decide(run, seen, NOON + seconds(50), policy)
    assert decision.run.state is state


def test_google_knows_a_repeated_create_as_the_first_one() -> None:
    assert policy_of("gcp") == replace(CLOUD, one_create=True)
    assert not policy_of("any other").one_create


def test_the_answer_to_a_create_that_arrives_late_shortens_the_wait() -> None:
    run = releasing(Outcome.CANCELLED, attempts=(an_attempt(ended_at=NOON + seconds(1)),))
    visible = seconds(2) + CLOUD.visible_after  # what is ordered may not be seen before
    seen: dict[str, Any] = {"create": created(NOON + seconds(2))}
    early = look(run, visible, provider=absent(NOON + visible - seconds(1)), **seen)
    assert (early.run.state, kinds(early)) == (State.RELEASING, GIVE_BACK)
    told = look(run, visible, provider=absent(NOON + visible), **seen)
    assert told.run.state is State.FINISHED


def test_deletion_is_repeated_ever_more_slowly_and_never_given_up() -> None:
    run = releasing()
    assert kinds(look(run)) == GIVE_BACK
    still = present(NOON + seconds(8))
    waiting = look(run, seconds(9), create=created(), provider=still)
    assert (waiting.commands, waiting.look_again_at) == ((), NOON + seconds(16))
    assert kinds(look(run, seconds(16), create=created(), provider=still)) == GIVE_BACK
    unknown = ProviderSeen(gone=Gone.UNKNOWN, asked_at=NOON + HOUR)
    late = look(run, HOUR + seconds(60), create=created(), provider=unknown)
    assert kinds(late) == GIVE_BACK
    assert late.look_again_at == NOON + HOUR + seconds(120)
    assert late.run.notices == ("fake has not confirmed the deletion yet",)
    assert look(late.run, HOUR + seconds(120), provider=unknown).run.notices == late.run.notices


def test_a_deletion_that_is_refused_is_told_once_with_the_providers_words() -> None:
    refused = ProviderSeen(gone=Gone.UNKNOWN, asked_at=NOON + HOUR, detail="HTTP 403: revoked")
    late = look(releasing(), HOUR + seconds(60), create=created(), provider=refused)
    [told] = late.run.notices
    assert told.endswith("yet; the instance cannot be managed: HTTP 403: revoked")
    again = replace(refused, detail="HTTP 500: another day")
    assert look(late.run, HOUR + seconds(120), provider=again).run.notices == (told,)


def test_a_lost_attempt_is_followed_by_another_only_once_it_is_gone() -> None:
    run = releasing(None)
    assert look(run, seconds(1), create=created(), provider=present()).run.state is State.RELEASING
    decision = look(run, seconds(1), create=created(), provider=absent())
    assert (decision.run.state, decision.run.not_before) == (State.QUEUED, None)
    assert decision.look_again_at == NOON + seconds(1)


def test_a_cancel_between_two_attempts_ends_the_run() -> None:
    decision = look(releasing(None), create=created(), cancel=CANCEL)
    assert ending(decision) == (State.RELEASING, Outcome.CANCELLED, Cause.CANCELLED)
    done = look(decision.run, create=created(), cancel=CANCEL, provider=absent())
    assert ending(done) == (State.FINISHED, Outcome.CANCELLED, Cause.CANCELLED)


def test_a_cancel_after_the_outcome_changes_nothing() -> None:
    decision = look(releasing(), create=created(), cancel=CANCEL, provider=absent())
    assert decision.run.outcome is Outcome.SUCCEEDED


def test_the_release_is_waited_for_while_the_instance_is_gone() -> None:
    run = releasing(outputs=(OUTPUT,))
    seen: dict[str, Any] = {"create": created(), "provider": absent()}
    for release in (None, ReleaseSeen(state=ReleaseState.PENDING)):
        waiting = look(run, seconds(1), release=release, **seen)
        assert (waiting.run.state, waiting.look_again_at) == (State.RELEASING, NOON + 6 * HOUR)
        assert waiting.run.attempts[0].gone_at == NOON
    published = ReleaseSeen(state=ReleaseState.PUBLISHED, url="https://x/1")
    done = look(run, seconds(1), release=published, **seen)
    assert (done.run.state, done.run.release_url) == (State.FINISHED, "https://x/1")
    assert done.run.release_note is None
    refused = ReleaseSeen(state=ReleaseState.REFUSED, text="contents: write is missing")
    done = look(run, seconds(1), release=refused, **seen)
    assert (done.run.state, done.run.release_note) == (
        State.FINISHED,
        "contents: write is missing. The outputs can be downloaded from the run's own page, or by"
        " `cynthus pull`.",
    )
    late = look(run, 6 * HOUR, **seen)
    assert late.run.state is State.FINISHED
    assert late.run.release_note is not None
    assert late.run.release_note.startswith("GitHub did not take the release within 6:00:00. ")


def test_a_folder_on_this_machine_waits_for_no_release() -> None:
    run = releasing(outputs=(OUTPUT,), key=a_key(repository_id=0))
    assert look(run, create=created(), provider=absent()).run.state is State.FINISHED


def test_cost_counts_from_the_order_to_the_confirmed_end() -> None:
    run = releasing()
    assert look(run, HOUR, create=created()).run.cost_usd == Decimal("3.60")
    done = look(run, HOUR, create=created(), provider=absent(NOON + HOUR / 2))
    assert done.run.cost_usd == Decimal("1.80")


@pytest.mark.case("S9")
def test_cost_never_decreases_and_is_rounded_up() -> None:
    run = running(cost_usd=Decimal(9))
    assert look(run, agent=an_agent()).run.cost_usd == Decimal(9)
    cheap = an_attempt(offer=an_offer(usd_per_hour=Decimal("0.0001")), started_at=NOON)
    assert look(running(attempts=(cheap,)), seconds(1), agent=an_agent()).run.cost_usd > 0


# ── the end, and runs that cannot be handled ────────────────────────────────────────────────────


def test_a_finished_run_stays_as_it_is() -> None:
    run = a_run(State.FINISHED, outcome=Outcome.FAILED)
    assert look(run, cancel=CANCEL, offers=(an_offer(),)) == Decision(run=run)
    assert park(run, NOON) == Decision(run=run)


def test_a_parked_run_gives_its_instance_back_and_then_fails() -> None:
    decision = park(running(), NOON)
    assert ending(decision) == (State.RELEASING, Outcome.INFRASTRUCTURE, Cause.SERVER)
    assert kinds(decision) == GIVE_BACK
    assert park(decision.run, NOON).run == decision.run
    done = look(decision.run, create=created(), provider=absent())
    assert ending(done) == (State.FINISHED, Outcome.INFRASTRUCTURE, Cause.SERVER)


def test_a_parked_run_without_an_instance_is_finished_at_once() -> None:
    assert ending(park(a_run(State.QUEUED), NOON)) == (
        State.FINISHED,
        Outcome.INFRASTRUCTURE,
        Cause.SERVER,
    )


def test_parking_keeps_an_outcome_that_was_certain() -> None:
    assert park(releasing(), NOON).run.outcome is Outcome.SUCCEEDED


def test_a_record_without_its_attempt_is_parked() -> None:
    decision = look(a_run(State.RUNNING, attempts=()))
    assert ending(decision) == (State.FINISHED, Outcome.INFRASTRUCTURE, Cause.SERVER)


def test_this_machine_has_shorter_times_than_a_cloud() -> None:
    decision = decide(booting(), Observations(), NOON + LOCAL.boot_limit, LOCAL)
    assert ending(decision) == (State.RELEASING, None, Cause.BOOT)


def test_a_finished_run_whose_release_was_taken_away_says_so_and_nothing_else_changes() -> None:
    run = a_run(
        State.FINISHED, outcome=Outcome.SUCCEEDED, finished_at=NOON, release_url="https://x.test/r"
    )
    gone = ReleaseSeen(state=ReleaseState.REFUSED, text="its release was deleted by ada on GitHub")
    decision = decide(run, Observations(release=gone), NOON)
    note = decision.run.release_note
    assert note is not None
    assert note.startswith("its release was deleted by ada on GitHub. The outputs can be")
    assert decision.run == replace(run, release_url=None, release_note=note)
    assert (decision.commands, decision.look_again_at) == ((), None)
    there = ReleaseSeen(state=ReleaseState.PUBLISHED, url=run.release_url)
    assert decide(run, Observations(release=there), NOON).run == run
