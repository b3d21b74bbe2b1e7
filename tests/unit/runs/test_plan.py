"""A plan says what a run would get, in the words in which it would be refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from cynthus.spec import DataSource, Resources
from cynthus.wire_money import PlanView
from tests.builders import NOON, a_run, a_spec, an_offer
from webhook_server.runs.budget import BudgetScope, BudgetSeen
from webhook_server.runs.decide import decide
from webhook_server.runs.lending import CoolDown, Denial
from webhook_server.runs.model import Grant, State
from webhook_server.runs.observations import DataSeen, Observations
from webhook_server.runs.pinning import bind
from webhook_server.runs.plan import Question, plan
from webhook_server.runs.policy import CLOUD, within

HOUR = timedelta(hours=1)
SPOT = an_offer(machine="tiny", place="there", spot=True, usd_per_hour=Decimal("1.20"))


def a_question(**resources: Any) -> Question:
    return Question(
        spec=a_spec(resources=Resources(**resources)),
        repository_id=7,
        repository="acme/vision",
        provider="fake",
        policy=CLOUD,
    )


def a_budget(limit: str, booked: str = "0") -> BudgetSeen:
    return BudgetSeen(
        scope=BudgetScope.REPOSITORY, limit_usd=Decimal(limit), booked_usd=Decimal(booked)
    )


def test_offers_stay_in_the_order_in_which_they_would_be_tried() -> None:
    seen = Observations(offers=(SPOT, an_offer()))
    found = plan(a_question(max_duration=2 * HOUR), seen, NOON)
    assert [(o.machine, o.spot, o.expected_usd) for o in found.offers] == [
        ("tiny", True, Decimal("2.40")),
        ("small", False, Decimal("7.20")),
    ]
    assert (found.refusal, found.waits, found.max_duration_s) == (None, None, 7200)


def test_the_most_is_what_an_order_would_commit_to() -> None:
    seen = Observations(offers=(an_offer(),))
    for resources in ({"max_duration": HOUR}, {"max_cost_usd": Decimal(5)}):
        question = a_question(**resources)
        run = a_run(State.QUEUED, spec=question.spec)
        [offer] = plan(question, seen, NOON).offers
        assert offer.most_usd == decide(run, seen, NOON).commitment_usd


def test_the_most_counts_the_time_that_may_be_asked_for_later() -> None:
    seen, grant = Observations(offers=(an_offer(),)), Grant(extend=2 * HOUR)
    question = replace(a_question(max_duration=HOUR), grant=grant)
    run = a_run(State.QUEUED, spec=question.spec, grant=grant)
    [offer] = plan(question, seen, NOON).offers
    [without] = plan(a_question(max_duration=HOUR), seen, NOON).offers
    assert offer.most_usd == decide(run, seen, NOON).commitment_usd
    assert offer.most_usd - without.most_usd == 2 * an_offer().usd_per_hour


def test_a_gang_costs_what_its_instances_cost() -> None:
    seen = Observations(offers=(an_offer(),))
    question = a_question(max_duration=HOUR, nodes=4)
    [offer] = plan(question, seen, NOON).offers
    assert (offer.usd_per_hour, offer.expected_usd) == (Decimal("3.60"), Decimal("14.40"))
    single = replace(CLOUD, powers=replace(CLOUD.powers, gangs=False))
    assert "resources/nodes" in str(plan(replace(question, policy=single), seen, NOON).refusal)


def test_a_place_that_has_just_refused_comes_last_and_says_so() -> None:
    full = CoolDown(
        provider="fake",
        place="there",
        machine="tiny",
        spot=True,
        until=NOON + timedelta(minutes=3),
        denial=Denial.NO_CAPACITY,
        text="out of stock",
    )
    told = "not asked until 12:03:00 UTC: out of stock"
    both = plan(a_question(), Observations(offers=(SPOT, an_offer()), cooling=(full,)), NOON)
    assert [(o.machine, o.waits) for o in both.offers] == [("small", None), ("tiny", told)]
    assert both.waits is None
    alone = plan(a_question(), Observations(offers=(SPOT,), cooling=(full,)), NOON)
    assert (alone.waits, alone.refusal) == (told, None)


def test_max_cost_bounds_what_is_expected() -> None:
    [offer] = plan(
        a_question(max_cost_usd=Decimal(5)), Observations(offers=(an_offer(),)), NOON
    ).offers
    assert (offer.expected_usd, offer.most_usd) == (5, 5)


def test_a_run_that_no_budget_pays_for_is_refused_in_the_same_words() -> None:
    seen = Observations(offers=(an_offer(),), budgets=(a_budget("50", "49"),))
    question = a_question(max_cost_usd=Decimal(5))
    found = plan(question, seen, NOON)
    run = a_run(State.QUEUED, spec=question.spec)
    assert found.refusal == decide(run, seen, NOON).run.reason.text
    assert found.offers[0].refusal == found.refusal
    [budget] = found.budgets
    assert (budget.left_usd, budget.turns_at) == (1, datetime(2026, 2, 1, tzinfo=UTC))


def test_a_cheaper_offer_that_fits_lets_the_run_start() -> None:
    seen = Observations(offers=(an_offer(), SPOT), budgets=(a_budget("12"),))
    found = plan(a_question(max_duration=HOUR), seen, NOON)
    assert found.refusal is None
    assert [offer.refusal is None for offer in found.offers] == [False, True]


def test_the_servers_own_limit_shortens_the_run() -> None:
    question = replace(a_question(max_duration=24 * HOUR), policy=within(CLOUD, HOUR))
    found = plan(question, Observations(offers=(an_offer(),)), NOON)
    assert found.max_duration_s == 3600
    assert found.offers[0].expected_usd == Decimal("3.60")
    assert found.notices == (
        "resources/max_duration: this server allows 1:00:00 at most, and ends the run then",
    )


def test_what_a_provider_refuses_for_good_is_a_refusal() -> None:
    seen = Observations(offers=(), offers_refusal="the quota NVIDIA_L4_GPUS is 0")
    found = plan(a_question(), seen, NOON)
    assert (found.refusal, found.waits) == ("the quota NVIDIA_L4_GPUS is 0", None)


def test_what_may_come_later_is_waited_for() -> None:
    full = plan(a_question(), Observations(offers=(), offers_detail="0 of 2 slots"), NOON)
    assert (full.refusal, full.waits) == (None, "no instance is free: 0 of 2 slots")
    silent = plan(a_question(), Observations(offers=None), NOON)
    assert silent.waits == "the provider does not answer"


# ── data ────────────────────────────────────────────────────────────────────────────────────────

ENTRY = DataSource(name="train", source="hf://datasets/acme/demo", mount="/data/train")
TWO_GB = bind(ENTRY, "5" * 40, size_bytes=2 * 10**9, files=3)


def data_plan(data: DataSeen, **resources: Any) -> PlanView:
    question = a_question(**resources)
    question = replace(question, spec=replace(question.spec, data=(ENTRY,)))
    return plan(question, Observations(offers=(an_offer(),), data=data), NOON)


def test_a_plan_says_how_much_data_there_is_at_which_revision() -> None:
    found = data_plan(DataSeen(datasets=(TWO_GB,)))
    assert found.refusal is None
    told = "data/train: hf://datasets/acme/demo at 555555555555, 2 GB in 3 files"
    assert told in found.notices


def test_a_plan_refuses_what_the_run_itself_would_be_refused_for() -> None:
    assert data_plan(DataSeen(fault="data/train: is gated.")).refusal == "data/train: is gated."
    small = data_plan(DataSeen(datasets=(TWO_GB,)), disk_bytes=10**9)
    assert small.refusal is not None
    assert "which takes 2 GB, found 1 GB" in small.refusal


def test_a_plan_while_a_hub_is_away_says_so_and_refuses_nothing() -> None:
    found = data_plan(DataSeen(detail="the hub is away"))
    assert (found.refusal, found.notices) == (None, ("data is not known now: the hub is away",))
