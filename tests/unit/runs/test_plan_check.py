"""A plan says what a head's runs would get, and judges only what the pull request changes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from cynthus.spec import GpuNeed, Resources
from cynthus.wire_money import BudgetView, OfferView, PlanView
from tests.builders import IMAGE, NOON, a_kept, a_run, a_spec
from webhook_server.runs.differences import differences
from webhook_server.runs.model import Hold, SpecFault, State
from webhook_server.runs.plan_check import plan_check, plan_result
from webhook_server.runs.planned import Image, Planned, Verdict
from webhook_server.runs.pull import PlanResult

SHA = "b" * 40
MINUTE = timedelta(minutes=1)


def an_offer(**changes: Any) -> OfferView:
    given: dict[str, Any] = {
        "provider": "gcp",
        "place": "us-central1-a",
        "machine": "g2-standard-4",
        "gpu_type": "l4",
        "gpu_count": 1,
        "cpu": 4,
        "memory_bytes": 16 << 30,
        "spot": False,
        "usd_per_hour": Decimal("0.60"),
        "price_source": "list prices of 2026-08-03",
        "quota": "3 of 8 NVIDIA_L4_GPUS free",
        "expected_usd": Decimal("1.20"),
        "most_usd": Decimal("1.40"),
        "refusal": None,
        "waits": None,
    }
    return OfferView(**(given | changes))


def a_view(**changes: Any) -> PlanView:
    given: dict[str, Any] = {
        "name": "digits",
        "provider": "gcp",
        "nodes": 1,
        "max_duration_s": 7200,
        "max_cost_usd": Decimal(5),
        "offers": (an_offer(),),
        "budgets": (),
        "notices": (),
        "refusal": None,
        "waits": None,
    }
    return PlanView(**(given | changes))


def planned(**changes: Any) -> Planned:
    given: dict[str, Any] = {
        "path": "cynthus.yaml",
        "spec": a_spec(),
        "changes": differences(a_spec(), a_spec(run="python other.py")),
        "view": a_view(),
        "durations": (20 * MINUTE, 10 * MINUTE, 30 * MINUTE),
        "waits": (MINUTE, 3 * MINUTE, 2 * MINUTE),
    }
    return Planned(**(given | changes))


def result(*plans: Planned) -> PlanResult:
    return plan_result(SHA, plans or (planned(),))


HOLD = Hold(reasons=("it may come to cost $9.00",), cap_usd=Decimal(9), who="maintain or admin")
FAULTS = (SpecFault(line=3, column=5, text="resources/gpu: should be known, found l44."),)


@pytest.mark.parametrize(
    ("changes", "conclusion", "title"),
    [
        (
            {},
            "success",
            "digits · g2-standard-4, 1 l4 in us-central1-a · about $0.20 · at most $1.40"
            " · starts after about 2m00s",
        ),
        ({"spec": None, "faults": FAULTS, "view": None}, "failure", "cynthus.yaml has 1 fault"),
        (
            {"verdict": Verdict(refusal="resources/gpu: is beyond the policy.")},
            "failure",
            "digits would not start: resources/gpu: is beyond the policy.",
        ),
        (
            {"view": a_view(refusal="the budget of @acme is used up")},
            "failure",
            "digits would not start: the budget of @\u200bacme is used up",
        ),
        (
            {"verdict": Verdict(hold=HOLD)},
            "action_required",
            "digits needs approval by maintain or admin",
        ),
        (
            {"verdict": Verdict(hold=HOLD, approved_by="ada"), "waits": (), "durations": ()},
            "success",
            "digits · g2-standard-4, 1 l4 in us-central1-a · at most $1.40",
        ),
        (
            {"view": None, "no_view": "this server lends nothing."},
            "neutral",
            "digits · its price is not known here",
        ),
        (
            {"verdict": Verdict(unread="GitHub answered 502."), "view": a_view(offers=())},
            "neutral",
            "digits · would wait: no instance is free",
        ),
        ({"spec": None, "view": None, "changes": ()}, "success", "cynthus.yaml is removed"),
    ],
)
def test_conclusion_and_title(changes: dict[str, Any], conclusion: str, title: str) -> None:
    found = result(planned(**changes))
    assert (found.conclusion, found.title) == (conclusion, title)


def test_what_the_pull_request_leaves_as_it_is_fails_nothing() -> None:
    broke = a_view(refusal="the month's budget is used up")
    found = result(planned(changes=(), view=broke, verdict=Verdict(hold=HOLD)))
    assert (found.conclusion, found.title) == ("success", "no spec is changed")
    assert "**It would not start**: the month's budget is used up" in found.summary


def test_the_worst_of_several_specs_decides_and_each_has_its_section() -> None:
    other = planned(path="eval.yaml", spec=a_spec(name="eval"), verdict=Verdict(hold=HOLD))
    same = planned(path="same.yaml", changes=())
    found = result(planned(), other, same)
    assert found.conclusion == "action_required"
    assert found.title == "2 of 3 specs: eval needs approval by maintain or admin"
    assert [line for line in found.summary.split("\n") if line.startswith("### ")] == [
        "### ` cynthus.yaml `: digits",
        "### ` eval.yaml `: eval",
        "### ` same.yaml `: digits",
    ]
    assert "It means the same as on the base branch." in found.summary


def test_the_summary_tells_image_offers_start_cost_budget_and_policy() -> None:
    budget = BudgetView(
        scope="repository",
        limit_usd=Decimal(500),
        booked_usd=Decimal(100),
        left_usd=Decimal(400),
        turns_at=NOON,
    )
    spot = an_offer(spot=True, refusal="its NVIDIA driver is too old", machine="a2|x")
    found = result(
        planned(
            view=a_view(offers=(spot, an_offer()), budgets=(budget,), notices=("spot: no effect",)),
            image=Image(before=a_kept()),
            verdict=Verdict(notices=("resources/max_cost: $5.00 at most",)),
        )
    )
    for part in (
        "on the environment of the run before (Python 3.11, torch 2.7.0)",
        "| 1 | us\\-central1\\-a | a2\\|x, 1 l4 | yes | $0.60 | $1.20 | $1.40 | its NVIDIA driver",
        "| 2 | us\\-central1\\-a | g2\\-standard\\-4, 1 l4 | no |",
        "Prices are estimates by list prices of 2026\\-08\\-03.",
        "It would start about 2m00s after its image is there: the median of the last 3 starts on",
        "It would cost about $0.20 of $5.00: the last 3 successes took 20m00s; its hard limits are"
        " 2h00m and $5.00.",
        "Budget of the repository: $400.00 left of $500.00 until 2026-01-31 (UTC).",
        "- spot: no effect",
        "- resources/max\\_cost: $5.00 at most".replace("$", "\\$"),
        "- ` run `: ` python train.py ` → ` python other.py `",
    ):
        assert part in found.summary


def test_what_is_not_known_is_said_to_be_unknown() -> None:
    found = result(planned(waits=(), durations=(), is_new=True, changes=()))
    for part in (
        "When it would start is not known",
        "What it will cost is not known",
        "with an environment that is not known yet",
        "The base branch has no such spec.",
    ):
        assert part in found.summary
    there = result(planned(image=Image(known=a_run(State.QUEUED, image=IMAGE))))
    assert f"Its image is there already: ` {IMAGE} `." in there.summary


def test_a_likely_cost_never_exceeds_the_limits() -> None:
    long = (timedelta(hours=50),)
    capped = result(planned(durations=long, view=a_view(max_cost_usd=Decimal("0.90"))))
    assert "about $0.90 of $0.90" in capped.summary
    by_time = result(planned(durations=long, view=a_view(max_cost_usd=None, nodes=2)))
    assert "about $2.40: the last success took" in by_time.summary


def test_a_summary_that_is_too_long_is_cut_and_says_so() -> None:
    many = [planned(path=f"{n}.yaml", verdict=Verdict(refusal="é" * 900)) for n in range(60)]
    found = result(*many)
    assert len(found.summary.encode()) <= 65_535
    assert found.summary.endswith("_The rest is left out here._")


# ── the check run ───────────────────────────────────────────────────────────────────────────────


def test_the_check_run_has_faults_on_their_lines_and_a_button_for_who_may_approve() -> None:
    broken = result(planned(path="a/b.yaml", spec=None, faults=FAULTS, view=None))
    check = plan_check(broken, external_id="pull/7/5", now=NOON)
    body = check.body(0)
    assert (body["name"], body["status"], body["conclusion"]) == (
        "cynthus/plan",
        "completed",
        "failure",
    )
    assert body["external_id"] == "pull/7/5"
    [annotation] = body["output"]["annotations"]
    assert (annotation["path"], annotation["start_line"]) == ("a/b.yaml", 3)
    assert (annotation["annotation_level"], annotation["start_column"]) == ("failure", 5)
    assert body["actions"] == []
    held = plan_check(result(planned(verdict=Verdict(hold=HOLD))), external_id="x", now=NOON)
    [button] = held.body(0)["actions"]
    assert button["identifier"] == "approve"
    limits = {"label": 20, "description": 40, "identifier": 20}
    assert all(len(button[name]) <= most for name, most in limits.items())


def test_the_digest_follows_the_plan_and_not_the_clock() -> None:
    plan = result()
    digests = {
        plan_check(one, external_id="x", now=at).digest
        for one in (plan, replace(plan, title="else"))
        for at in (NOON, NOON + MINUTE)
    }
    assert len(digests) == 2


# ── differences ─────────────────────────────────────────────────────────────────────────────────


def test_specs_differ_field_by_field_and_values_of_env_are_not_shown() -> None:
    old = a_spec(env=(("LR", "0.1"), ("SEED", "1")), labels=(("team", "a"),))
    new = a_spec(
        env=(("LR", "0.2"), ("SEED", "1"), ("TOKEN", "hf_x")),
        resources=Resources(gpu=(GpuNeed("l4"), GpuNeed("t4", 2)), max_cost_usd=Decimal(5)),
    )
    found = {one.path: (one.old, one.new) for one in differences(old, new)}
    assert found == {
        "resources/gpu": (None, "l4 1, t4 2"),
        "resources/max_cost": (None, "$5"),
        "env/LR": ("set", "set otherwise"),
        "env/TOKEN": (None, "set"),
        "labels/team": ("a", None),
    }
    assert differences(old, old) == ()


def test_a_change_is_named_as_the_file_names_it() -> None:
    cheap = Resources(max_cost_usd=Decimal("0.40"), max_duration=timedelta(minutes=5))
    before, after = a_spec(env={"A_s": "1"}), a_spec(resources=cheap, env={"A_s": "2"})
    told = {change.path: change.new for change in differences(before, after)}
    assert told["resources/max_cost"] == "$0.40"
    assert told["resources/max_duration"] == "300 s"
    assert told["env/A_s"] == "set otherwise"
