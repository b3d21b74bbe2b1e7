"""What a run may come to cost is booked before it is ordered, and never exceeded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cynthus.spec import Resources
from cynthus.wire import AgentState
from tests.builders import NOON, a_run, a_spec, an_agent, an_attempt, an_exit, an_offer, seconds
from tests.examples import examples
from webhook_server.runs.budget import (
    BudgetScope,
    BudgetSeen,
    month_began_at,
    month_turns_at,
)
from webhook_server.runs.commands import CreateInstance, Decision, DeleteInstance, StopWork
from webhook_server.runs.commitment import committed_usd
from webhook_server.runs.decide import decide
from webhook_server.runs.lending import Gone
from webhook_server.runs.limits import price
from webhook_server.runs.model import Cause, Outcome, Run, State
from webhook_server.runs.observations import (
    CreateOutcome,
    CreateSeen,
    InstanceSeen,
    Observations,
    ProviderSeen,
)
from webhook_server.runs.policy import CLOUD, LOCAL, Policy

HOUR = timedelta(hours=1)
FREE = an_offer(usd_per_hour=Decimal(0))


def a_budget(limit: str = "100", booked: str = "0", **changes: Any) -> BudgetSeen:
    given: dict[str, Any] = {
        "scope": BudgetScope.REPOSITORY,
        "limit_usd": Decimal(limit),
        "booked_usd": Decimal(booked),
    }
    return BudgetSeen(**(given | changes))


def order(*budgets: BudgetSeen, policy: Policy = CLOUD, **resources: Any) -> Decision:
    offers = resources.pop("offers", (an_offer(),))
    run = a_run(State.QUEUED, spec=a_spec(resources=Resources(**resources)))
    return decide(run, Observations(offers=offers, budgets=budgets), NOON, policy)


# ── orders ──────────────────────────────────────────────────────────────────────────────────────


def test_an_order_commits_to_the_whole_life_of_its_instance() -> None:
    decision = order(max_duration=2 * HOUR)
    life = CLOUD.boot_limit + 2 * HOUR + CLOUD.collect_limit + CLOUD.life_margin
    doubt = CLOUD.boot_limit + CLOUD.grace  # its create may be repeated, and take effect late
    late = CLOUD.end_late + CLOUD.delete_allowance
    assert decision.commitment_usd == price(Decimal("3.60"), doubt + life + late)


def test_an_order_commits_to_max_cost_if_that_is_less() -> None:
    assert order(max_cost_usd=Decimal(5)).commitment_usd == 5


def test_an_order_names_the_budgets_that_its_save_must_hold_to() -> None:
    assert order(a_budget("500")).budgets == (a_budget("500"),)


def test_an_order_beyond_a_budget_ends_the_run_and_says_what_to_do() -> None:
    decision = order(a_budget("50", booked="45.501"), max_cost_usd=Decimal(5))
    assert (decision.run.state, decision.run.outcome) == (State.FINISHED, Outcome.OVER_BUDGET)
    assert decision.run.reason.cause is Cause.BUDGET
    assert decision.commands == ()
    assert decision.run.reason.text == (
        "the monthly budget of acme/vision has $4.49 left of $50.00, and this run on small at 3.60"
        " USD an hour may need $5.00. Lower resources/max_duration, set resources/max_cost, name a"
        " cheaper machine, wait until 2026-02-01 (UTC), or have CYNTHUS_REPOSITORY_BUDGET raised."
    )


def test_the_owners_budget_is_told_by_the_owners_name() -> None:
    decision = order(a_budget(), a_budget("1", scope=BudgetScope.OWNER), max_cost_usd=Decimal(5))
    assert "the monthly budget of the owner acme has $1.00 left" in decision.run.reason.text
    assert "CYNTHUS_OWNER_BUDGET" in decision.run.reason.text


def test_a_budget_may_be_used_to_its_last_cent() -> None:
    decision = order(a_budget("50", booked="45"), max_cost_usd=Decimal(5))
    assert decision.run.state is State.PROVISIONING


def test_the_first_offer_that_can_be_paid_is_taken() -> None:
    cheap = an_offer(machine="tiny", usd_per_hour=Decimal("0.10"))
    decision = order(a_budget("1"), offers=(an_offer(), cheap), max_duration=HOUR)
    assert decision.run.attempt is not None
    assert decision.run.attempt.offer == cheap


def test_what_is_free_fits_every_budget() -> None:
    decision = order(a_budget("1", booked="2"), offers=(FREE,))
    assert decision.run.state is State.PROVISIONING
    assert decision.commitment_usd == 0


def test_the_instances_of_a_gang_are_all_committed_to() -> None:
    gangs = replace(CLOUD, powers=replace(CLOUD.powers, gangs=True))
    one = order(max_duration=HOUR).commitment_usd
    assert one is not None
    assert order(max_duration=HOUR, nodes=4, policy=gangs).commitment_usd == pytest.approx(4 * one)


@pytest.mark.parametrize("cost", ["0.01", "0.21"])
def test_a_max_cost_that_pays_for_no_more_than_the_end_is_refused(cost: str) -> None:
    decision = order(max_cost_usd=Decimal(cost))
    assert decision.run.outcome is Outcome.OVER_BUDGET
    assert decision.run.reason.text == (
        "resources/max_cost: should pay small for longer than the 0:03:30 that its end may take,"
        f" found {cost} USD, $0.00 of it spent, at 3.60 USD an hour. Raise it, or name a cheaper"
        " machine."
    )


def test_the_instances_own_end_is_no_later_than_max_cost_pays_for() -> None:
    [command] = order(max_cost_usd=Decimal("3.60")).commands
    assert isinstance(command, CreateInstance)
    assert command.order.max_life == HOUR


@pytest.mark.case("S9")
def test_a_repeated_create_asks_for_the_same_life() -> None:
    first = order(max_duration=HOUR)
    again = decide(first.run, Observations(), NOON + CLOUD.create_patience)
    lives = [c.order.max_life for c in (*first.commands, *again.commands) if is_create(c)]
    assert len(lives) == 2
    assert len(set(lives)) == 1


def is_create(command: object) -> bool:
    return isinstance(command, CreateInstance)


def seen_of(run: Run, **seen: Any) -> Observations:
    """Tell of the only instance that a run has."""
    assert run.attempt is not None
    return Observations(instances={run.attempt.instance: InstanceSeen(**seen)})


# ── the server's own limit ──────────────────────────────────────────────────────────────────────


def test_the_servers_max_duration_is_a_hard_stop_too() -> None:
    strict = replace(CLOUD, powers=replace(CLOUD.powers, longest=HOUR))
    run = a_run(attempts=(an_attempt(started_at=NOON),))
    seen = seen_of(run, agent=an_agent(heartbeat_at=NOON + HOUR))
    assert decide(run, seen, NOON + HOUR).commands == ()
    decision = decide(run, seen, NOON + HOUR, strict)
    assert [type(command) for command in decision.commands] == [StopWork]
    assert decision.run.reason.cause is Cause.MAX_DURATION
    text = "this server's limit for a run is over: 1:00:00 (CYNTHUS_MAX_DURATION)"
    assert decision.run.reason.text == text


def test_the_servers_max_duration_bounds_the_commitment() -> None:
    strict = replace(CLOUD, powers=replace(CLOUD.powers, longest=HOUR))
    short = order(max_duration=HOUR).commitment_usd
    assert order(max_duration=24 * HOUR, policy=strict).commitment_usd == short


# ── months ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("now", "began", "turns"),
    [
        ((2026, 1, 1), (2026, 1, 1), (2026, 2, 1)),
        ((2026, 1, 31), (2026, 1, 1), (2026, 2, 1)),
        ((2026, 2, 28), (2026, 2, 1), (2026, 3, 1)),
        ((2026, 12, 31), (2026, 12, 1), (2027, 1, 1)),
    ],
)
def test_months_are_those_of_the_calendar_in_utc(now: Any, began: Any, turns: Any) -> None:
    assert month_began_at(datetime(*now, 23, 59, tzinfo=UTC)) == datetime(*began, tzinfo=UTC)
    assert month_turns_at(datetime(*now, tzinfo=UTC)) == datetime(*turns, tzinfo=UTC)


# ── whole lives ─────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Luck:
    """What the world does with one attempt, within what a policy allows for."""

    rate: Decimal
    most: Decimal | None
    longest: timedelta
    boots: timedelta
    works: timedelta
    uploads: timedelta
    deletes: timedelta  # from the deletion to the instance's end
    stops: timedelta  # from hearing "stop" to the report
    lost_at: timedelta | None  # the instance vanishes


def lives(policy: Policy) -> st.SearchStrategy[Luck]:
    def up_to(most: timedelta) -> st.SearchStrategy[timedelta]:
        return st.integers(0, int(most.total_seconds())).map(seconds)

    deletes = seconds(90) if policy is CLOUD else seconds(2)
    return st.builds(
        Luck,
        rate=st.decimals("0.01", "120", places=4).map(Decimal),
        most=st.none() | st.decimals("0.01", "50", places=2).map(Decimal),
        longest=st.integers(60, 4 * 3600).map(seconds),
        boots=up_to(policy.boot_limit - seconds(1)),
        works=up_to(5 * HOUR),
        uploads=up_to(HOUR),
        deletes=up_to(deletes),
        stops=up_to(seconds(10)),
        lost_at=st.none() | up_to(4 * HOUR),
    )


class Life:
    """One run played against `decide`, with every look on time."""

    def __init__(self, luck: Luck, policy: Policy) -> None:
        self.luck, self.policy, self.now = luck, policy, NOON
        resources = Resources(max_duration=luck.longest, max_cost_usd=luck.most)
        self.run = a_run(State.QUEUED, spec=a_spec(resources=resources), wants_release=False)
        self.created_at: datetime | None = None
        self.told_at: datetime | None = None
        self.heard_at: datetime | None = None
        self.delete_at: datetime | None = None
        self.provider: ProviderSeen | None = None
        self.commitment: Decimal | None = None

    def live(self) -> None:
        for _ in range(4000):
            decision = decide(self.run, self.seen(), self.now, self.policy)
            self.check(self.run, decision)
            self.run = decision.run
            self.perform(decision)
            if self.run.state is State.FINISHED or self.run.state is State.QUEUED:
                return
            due = [at for at in (decision.look_again_at, *self.news()) if at is not None]
            self.now = max(self.now, min(due))
        raise AssertionError(f"it does not end: {self.run}")

    def check(self, before: Run, decision: Decision) -> None:
        assert decision.commitment_usd is not None
        ordered = len(decision.run.attempts) > len(before.attempts)
        if self.commitment is not None and not ordered:
            assert decision.commitment_usd <= self.commitment, "only orders commit to more"
        assert decision.run.cost_usd <= decision.commitment_usd
        self.commitment = decision.commitment_usd

    # ── the world ──────────────────────────────────────────────────────────────────────────────

    def seen(self) -> Observations:
        if self.run.attempt is None:
            return Observations(offers=(an_offer(usd_per_hour=self.luck.rate),))
        create = None
        if self.created_at:
            create = CreateSeen(outcome=CreateOutcome.CREATED, at=self.created_at)
        return seen_of(self.run, agent=self.agent(), create=create, provider=self.provider)

    def gone_at(self) -> datetime | None:
        """Say when the instance stops existing, if that is known by now."""
        luck, created_at = self.luck, self.created_at
        assert created_at is not None
        assert self.run.attempt is not None
        ends = [created_at + self.run.attempt.max_life + self.policy.end_late]
        ends += [] if luck.lost_at is None else [created_at + luck.lost_at]
        ends += [] if self.delete_at is None else [self.delete_at + luck.deletes]
        return min(ends)

    def steps(self) -> list[tuple[datetime, AgentState]]:
        """Return what the agent reports, and when, unless the instance is gone by then."""
        luck, created_at = self.luck, self.created_at
        if created_at is None:
            return []
        enrolled_at = created_at + luck.boots
        ends = [enrolled_at + luck.works]
        if self.told_at is not None:
            ends.append(self.told_at + self.policy.heartbeat + luck.stops)
        exit_at = max(min(ends), enrolled_at)
        steps = [
            (enrolled_at, AgentState.RUNNING),
            (exit_at, AgentState.UPLOADING),
            (exit_at + luck.uploads, AgentState.DONE),
        ]
        gone_at = self.gone_at()
        return [(at, state) for at, state in steps if gone_at is None or at < gone_at]

    def agent(self) -> Any:
        steps = [step for step in self.steps() if step[0] <= self.now]
        if not steps:
            return None
        gone_at = self.gone_at()
        heard_at = self.now if gone_at is None else min(self.now, gone_at)
        state = steps[-1][1]
        over = state is not AgentState.RUNNING
        stopped = over and self.told_at is not None and self.told_at < steps[1][0]
        return an_agent(
            state,
            enrolled_at=steps[0][0],
            heartbeat_at=heard_at,
            exit=an_exit(143 if stopped else 0, stopped=stopped) if over else None,
            outputs=() if state is AgentState.DONE else None,
        )

    def news(self) -> list[datetime]:
        """Return when something is reported that wakes the run."""
        return [at for at, _ in self.steps() if at > self.now]

    def perform(self, decision: Decision) -> None:
        for command in decision.commands:
            if isinstance(command, CreateInstance):
                self.created_at = self.created_at or self.now
            elif isinstance(command, StopWork):
                self.told_at = self.told_at or self.now
            elif isinstance(command, DeleteInstance):
                self.delete_at = self.delete_at or self.now
            elif type(command).__name__ == "AskProvider":
                gone_at = self.gone_at()
                gone = gone_at is not None and gone_at <= self.now
                told = Gone.ABSENT if gone else Gone.PRESENT
                self.provider = ProviderSeen(gone=told, asked_at=self.now)


@pytest.mark.case("S9")
@pytest.mark.parametrize("policy", [CLOUD, LOCAL], ids=["cloud", "local"])
@given(data=st.data())
@settings(max_examples=examples(150), deadline=None)
def test_no_life_costs_more_than_was_committed_nor_more_than_max_cost(
    policy: Policy, data: st.DataObject
) -> None:
    life = Life(data.draw(lives(policy)), policy)
    life.live()
    most, rate = life.luck.most, life.luck.rate
    one_beat = price(rate, policy.heartbeat)
    if most is not None:
        assert life.run.cost_usd <= most + one_beat
    if life.created_at is not None and life.run.state is State.FINISHED:
        gone_at = life.gone_at()
        assert gone_at is not None
        assert life.run.cost_usd >= price(rate, gone_at - life.created_at), "recorded ≥ incurred"


def test_a_max_duration_that_is_over_hides_no_max_cost() -> None:
    resources = Resources(max_duration=seconds(60), max_cost_usd=Decimal("1.80"))
    run = a_run(
        State.COLLECTING,
        spec=a_spec(resources=resources),
        attempts=(an_attempt(started_at=NOON, exit=an_exit(0)),),
    )
    spent_at = HOUR / 2 - CLOUD.delete_allowance

    def look(at: timedelta) -> Decision:
        agent = an_agent(AgentState.UPLOADING, exit=an_exit(0), heartbeat_at=NOON + at)
        return decide(run, seen_of(run, agent=agent), NOON + at)

    assert look(spent_at - seconds(5)).look_again_at == NOON + spent_at
    assert look(spent_at).run.outcome is Outcome.OVER_BUDGET


def test_a_finished_run_commits_to_what_it_has_cost() -> None:
    gone = an_attempt(ended_at=NOON, gone_at=NOON + HOUR)
    run = a_run(State.FINISHED, attempts=(gone,), cost_usd=Decimal("3.60"))
    assert committed_usd(run, a_spec(), NOON + HOUR, CLOUD) == Decimal("3.60")
