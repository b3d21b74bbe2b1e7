"""What a run would cost, and what is lent: asked by the operator, answered without changing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from cynthus.codec import decode
from cynthus.repository_policy import Limits, RepositoryPolicy
from cynthus.wire_money import AuditView, PlanView, SweepView
from tests.doors.conftest import SPEC, Site, open_site
from tests.fake_provider import FakeProvider
from webhook_server.providers.provider import Instance, ProviderUnavailable
from webhook_server.runs.observations import PolicySeen
from webhook_server.settings_reader import read
from webhook_server.stores.policy_store import PolicyStore

TOKEN = "o" * 24


@pytest.fixture
def lender() -> FakeProvider:
    return FakeProvider(lambda: datetime.now(UTC), "local")


@pytest.fixture
def priced(tmp_path: Path, lender: FakeProvider) -> Iterator[Site]:
    settings = read(
        {
            "CYNTHUS_STATE_DIR": str(tmp_path / "state"),
            "CYNTHUS_PORT": "0",
            "CYNTHUS_API_TOKEN": TOKEN,
            "CYNTHUS_REPOSITORY_BUDGET": "500",
        }
    )
    with open_site(settings, providers={"local": lender}) as opened:
        yield opened


def an_ask(text: str = SPEC, **changes: object) -> dict[str, object]:
    return {"spec_path": "cynthus.yaml", "spec_text": text, **changes}


# ── plan ────────────────────────────────────────────────────────────────────────────────────────


def test_a_plan_tells_offers_prices_and_what_is_left_of_budgets(
    priced: Site, lender: FakeProvider
) -> None:
    lender.lent = [replace(lender.lent[0], price_source="prices of 2026-08-03", quota="1 of 8")]
    text = SPEC + "resources: {max_duration: 2h}\n"
    answer = priced.ask("POST", "/api/v1/plan", value=an_ask(text), token=TOKEN)
    assert answer.status == 200, answer.body
    plan = decode(PlanView, answer.json)
    [offer] = plan.offers
    assert (offer.place, offer.machine, offer.quota) == ("here", "small", "1 of 8")
    assert (offer.usd_per_hour, offer.expected_usd) == (Decimal("3.60"), Decimal("7.20"))
    assert offer.price_source == "prices of 2026-08-03"
    assert answer.json["offers"][0]["usd_per_hour"] == "3.60", "decimals are exact text"
    [budget] = plan.budgets
    assert (budget.scope, budget.left_usd) == ("repository", 500)
    assert lender.created == []


def test_a_plan_is_within_the_repositorys_policy_as_it_was_last_read(priced: Site) -> None:
    """A run of the repository would be lowered, and ordered with the room that it may ask for."""
    text = SPEC + "resources: {max_duration: 10h, max_cost: 99}\n"
    limits = Limits(
        max_duration=timedelta(hours=2), extend=timedelta(hours=5), monthly_budget_usd=Decimal(40)
    )
    PolicyStore(priced.parts.database).keep(
        7, PolicySeen(policy=RepositoryPolicy(limits=limits), read_at=priced.parts.now())
    )
    answer = priced.ask("POST", "/api/v1/plan", value=an_ask(text, repository_id=7), token=TOKEN)
    plan = decode(PlanView, answer.json)
    assert plan.max_duration_s == 7200
    assert plan.offers[0].expected_usd == Decimal("7.20")
    assert plan.offers[0].most_usd > Decimal("25.20"), "five hours more may be asked for"
    assert plan.budgets[0].limit_usd == 40


def test_a_plan_counts_what_live_runs_have_booked(priced: Site) -> None:
    run_id = priced.a_run(repository_id=7)
    instance = priced.order(run_id)
    assert instance
    answer = priced.ask("POST", "/api/v1/plan", value=an_ask(repository_id=7), token=TOKEN)
    assert decode(PlanView, answer.json).budgets[0].booked_usd == 0, "`order` committed to nothing"


def test_a_plan_of_an_unknown_provider_says_which_there_are(priced: Site) -> None:
    text = SPEC + "resources: {provider: moon}\n"
    answer = priced.ask("POST", "/api/v1/plan", value=an_ask(text), token=TOKEN)
    assert answer.status == 200
    assert "should be one that this server has (local), found moon" in answer.json["refusal"]


@pytest.mark.parametrize("token", ["", "wrong"])
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/api/v1/plan"), ("GET", "/api/v1/audit"), ("POST", "/api/v1/audit/sweep")],
)
def test_strangers_are_told_nothing(priced: Site, method: str, path: str, token: str) -> None:
    value = an_ask() if method == "POST" else None
    assert priced.ask(method, path, value=value, token=token).status == 401


def test_the_holder_of_a_runs_token_is_no_operator(priced: Site) -> None:
    from datetime import timedelta

    from webhook_server.auth.tokens import run_token

    run_id = priced.a_run()
    token = run_token(priced.parts.server_key, run_id, priced.parts.now() + timedelta(hours=1))
    assert priced.ask("GET", f"/api/v1/runs/{run_id}", token=token).status == 200
    assert priced.ask("GET", "/api/v1/audit", token=token).status == 401


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        (b"{", 400, "should be JSON"),
        (b"[]", 422, "message"),
        (b"{}", 422, "spec_text"),
        (json.dumps(an_ask(repository_id=-1)).encode(), 422, "repository_id"),
        (json.dumps(an_ask(repository_id=2**70)).encode(), 422, "repository_id"),
        (json.dumps(an_ask(spec_path="\ud800")).encode(), 422, "surrogate"),
        (json.dumps(an_ask("version: 1\nrun: x\n")).encode(), 422, "name"),
        (json.dumps(an_ask("x" * 70_000)).encode(), 422, "at most 65536 bytes"),
        (json.dumps(an_ask("x" * (600 << 10))).encode(), 413, "at most"),
    ],
)
def test_a_hostile_ask_is_refused_in_words(
    priced: Site, body: bytes, status: int, told: str
) -> None:
    answer = priced.ask(
        "POST",
        "/api/v1/plan",
        body=body,
        token=TOKEN,
        headers={"Content-Type": "application/json"},
    )
    assert answer.status == status, answer.body
    assert told in answer.fault


def test_a_server_with_doors_only_says_whom_to_ask(site: Site) -> None:
    for method, path in (("POST", "/api/v1/plan"), ("GET", "/api/v1/audit")):
        answer = site.ask(method, path, value=an_ask() if method == "POST" else None)
        assert answer.status == 503
        assert "--role all" in answer.fault


# ── audit ───────────────────────────────────────────────────────────────────────────────────────


def a_stray(lender: FakeProvider, name: str, **changes: object) -> None:
    lender.instances[f"{name} {changes.get('kind', '')}"] = Instance(
        **{"name": name, "place": "here", "alive": True, **changes}  # type: ignore[arg-type]
    )


def an_audit(site: Site) -> AuditView:
    answer = site.ask("GET", "/api/v1/audit", token=TOKEN)
    assert answer.status == 200, answer.body
    return decode(AuditView, answer.json)


def test_an_audit_tells_both_sides_and_the_difference(priced: Site, lender: FakeProvider) -> None:
    run_id = priced.a_run()
    known = priced.order(run_id)
    missing = priced.order(priced.a_run())
    lender.appear(known)
    a_stray(lender, "stray", usd_per_hour=Decimal("2.5"))
    a_stray(lender, "stray", kind="disk", usd_per_hour=Decimal("0.01"))
    a_stray(lender, "old", kind="address")
    audit = an_audit(priced)
    assert {(v.name, v.kind, v.standing, v.run_id) for v in audit.lent} == {
        (known, "instance", "working", run_id),
        ("stray", "instance", "unknown", None),
        ("stray", "disk", "unknown", None),
        ("old", "address", "unknown", None),
    }
    assert [one.name for one in audit.missing] == [missing]
    # The known one by the price of its order, the address unpriced.
    assert (audit.usd_per_hour, audit.unknown_usd_per_hour) == (Decimal("3.22"), Decimal("2.51"))
    assert audit.unpriced == 1
    assert "2 of 3 is too many at once" in str(audit.kept)


def test_an_audit_of_a_silent_provider_says_that_nothing_is_known(
    priced: Site, lender: FakeProvider
) -> None:
    priced.order(priced.a_run())
    lender.fail("list", ProviderUnavailable("page 2 failed"))
    audit = an_audit(priced)
    assert [(one.provider, one.detail) for one in audit.unanswered] == [("local", "page 2 failed")]
    assert (audit.lent, audit.missing) == ((), ())


def sweep(site: Site, names: list[str], count: int | None = None) -> SweepView:
    value = {"names": names, "count": len(names) if count is None else count}
    answer = site.ask("POST", "/api/v1/audit/sweep", value=value, token=TOKEN)
    assert answer.status == 202, answer.body
    return decode(SweepView, answer.json)


def test_an_asked_sweep_deletes_what_is_unknown_and_nothing_else(
    priced: Site, lender: FakeProvider
) -> None:
    known = priced.order(priced.a_run())
    for name in (known, "stray-1", "stray-2", "stray-3", "unasked"):
        lender.appear(name)
    swept = sweep(priced, ["stray-1", "stray-2", "stray-3", known, "nowhere"])
    assert swept.begun == ("stray-1", "stray-2", "stray-3")
    assert {one.name: one.reason for one in swept.spared} == {
        known: "is known to this server, which deletes it once its attempt is over",
        "nowhere": "is in no provider's list",
    }
    assert sorted(lender.instances) == sorted([known, "unasked"])


def test_an_asked_sweep_with_another_count_deletes_nothing(
    priced: Site, lender: FakeProvider
) -> None:
    priced.a_run()
    lender.appear("stray")
    value = {"names": ["stray"], "count": 2}
    answer = priced.ask("POST", "/api/v1/audit/sweep", value=value, token=TOKEN)
    assert answer.status == 422
    assert "should be the number of names, 1, found 2" in answer.fault
    assert "stray" in lender.instances


def test_no_asking_makes_a_sweep_safe_on_an_empty_database(
    priced: Site, lender: FakeProvider
) -> None:
    lender.appear("stray")
    [spared] = sweep(priced, ["stray"]).spared
    assert spared.reason == "the database is empty, so it may be the wrong one"
    assert "stray" in lender.instances


def test_no_asking_makes_a_sweep_safe_on_a_partial_list(priced: Site, lender: FakeProvider) -> None:
    priced.a_run()
    lender.appear("stray")
    lender.fail("list", ProviderUnavailable("page 2 failed"))
    assert sweep(priced, ["stray"]).begun == ()
    assert "stray" in lender.instances


def test_a_deletion_that_the_provider_refuses_is_told(priced: Site, lender: FakeProvider) -> None:
    priced.a_run()
    lender.appear("stray")
    lender.fail("delete", ProviderUnavailable("403"))
    [spared] = sweep(priced, ["stray"]).spared
    assert (spared.name, spared.reason) == ("stray", "403")
