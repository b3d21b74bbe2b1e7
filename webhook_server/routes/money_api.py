"""Answer what a run would cost and what is lent: the doors of `cynthus plan` and of audits."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import TypeVar

from fastapi import APIRouter, Depends, Request, Response

from cynthus.codec import decode, encode
from cynthus.errors import UserError
from cynthus.frozen import replace
from cynthus.repository_policy import RepositoryPolicy
from cynthus.spec import Spec
from cynthus.wire_money import (
    AuditView,
    LentView,
    MissingView,
    PlanAsk,
    PlanView,
    SparedView,
    SweepAsk,
    SweepView,
    UnansweredView,
)
from webhook_server.acting import under
from webhook_server.audit import Books, Lent, Listing, Standing, compare, usd_per_hour
from webhook_server.planning import NO_PROVIDERS, NoProviders, ToPlan, open_planner
from webhook_server.providers.provider import ProviderRefusal
from webhook_server.routes.answers import HttpRefusal, parse_json
from webhook_server.routes.asking import by_operator
from webhook_server.routes.authorities import of_operator
from webhook_server.routes.bodies import json_answer, limited_body
from webhook_server.routes.parts import Parts
from webhook_server.routes.run_requests import check_text, parse_spec
from webhook_server.runs.approval import grant_of, granted
from webhook_server.stores.database import CONTROL_PLANE
from webhook_server.stores.fleet_store import FleetStore
from webhook_server.stores.instance_store import InstanceRow
from webhook_server.stores.policy_store import PolicyStore
from webhook_server.strays import sweep_asked, why_kept

BODY_LIMIT_BYTES = 512 << 10  # a spec of 64 KiB, each character escaped as six

T = TypeVar("T")


def money_router(parts: Parts) -> APIRouter:
    """Return the doors; all are the operator's: they show what every tenant has left."""
    router = APIRouter(prefix="/api/v1", tags=["money"])
    body = Depends(limited_body(BODY_LIMIT_BYTES))
    first = [by_operator(parts)]

    @router.post("/plan", dependencies=first)
    def ask_plan(content: bytes = body) -> Response:
        """Return what a run of a spec would get and cost; changes nothing."""
        return json_answer(200, encode(_plan(parts, read_message(PlanAsk, "plan_ask", content))))

    @router.get("/audit", dependencies=first)
    def ask_audit() -> Response:
        """Return what providers lend, what the server knows, and the difference both ways."""
        return json_answer(200, encode(_audit(parts)))

    @router.post("/audit/sweep", status_code=202, dependencies=first)
    def ask_sweep(request: Request, content: bytes = body) -> Response:
        """Delete the things that are named, as far as the server does not know them."""
        ask = read_message(SweepAsk, "sweep_ask", content)
        with under(of_operator(request.scope, parts.now())):
            return json_answer(202, encode(_sweep(parts, ask)))

    return router


def read_message(kind: type[T], schema_name: str, content: bytes) -> T:
    """Return the message. Raises: HttpRefusal (400, 422) with everything that is wrong."""
    # Imported late: the library is needed by few doors only.
    from cynthus import schema

    value = parse_json(content)
    check_text(value)
    violations = schema.check(schema_name, value)
    if violations:
        told = (f"{v.path or 'message'}: {v.message}" for v in violations)
        raise HttpRefusal(422, "\n".join(told))
    try:
        return decode(kind, value)
    except UserError as error:
        raise HttpRefusal(422, str(error)) from error


def _plan(parts: Parts, ask: PlanAsk) -> PlanView:
    planner = open_planner(parts.settings, parts.database, parts.providers, parts.now, parts.pins)
    what = ToPlan(
        spec=_spec(ask),
        repository_id=ask.repository_id,
        repository=ask.repository,
        minimum_driver=ask.minimum_driver,
    )
    try:
        return planner.plan(_within_policy(parts, what))
    except NoProviders as error:
        raise _no_providers() from error


def _within_policy(parts: Parts, what: ToPlan) -> ToPlan:
    """Return what the repository's policy leaves of it, as it was last read.

    Without a repository on GitHub there is none, as for the run itself.
    """
    if what.repository_id == 0:
        return what
    seen = PolicyStore(parts.database).get(what.repository_id).seen
    policy = seen.policy if seen is not None else RepositoryPolicy()
    grant = grant_of(what.spec, policy, fork=False)
    monthly_usd = policy.limits.monthly_budget_usd
    return replace(what, spec=granted(what.spec, grant), grant=grant, monthly_usd=monthly_usd)


def _spec(ask: PlanAsk) -> Spec:
    spec, faults = parse_spec(ask.spec_text, ask.spec_path)
    if spec is None:
        raise HttpRefusal(422, "\n".join(f"{f.line}:{f.column}: {f.text}" for f in faults))
    return spec


def _no_providers() -> HttpRefusal:
    return HttpRefusal(503, NO_PROVIDERS, retry_after_s=60)


# ── audit ───────────────────────────────────────────────────────────────────────────────────────


def _books(parts: Parts) -> Books:
    if not parts.providers:
        raise _no_providers()
    return Books(
        runs=parts.runs,
        instances=parts.instances,
        fleet=FleetStore(parts.database),
        providers=parts.providers,
        now=parts.now,
    )


def _audit(parts: Parts) -> AuditView:
    books = _books(parts)
    listings: list[Listing] = []
    unanswered: list[UnansweredView] = []
    for name, provider in sorted(parts.providers.items()):
        try:
            listings.append(compare(books, provider))
        except ProviderRefusal as refusal:
            unanswered.append(UnansweredView(provider=name, detail=str(refusal)))
    lent = tuple(_lent_view(books, each, one) for each in listings for one in each.lent)
    kept = [text for each in listings if (text := why_kept(books, each))]
    return AuditView(
        control_plane=parts.database.state(CONTROL_PLANE) or "",
        made_at=parts.now(),
        lent=lent,
        missing=tuple(_missing_view(row) for each in listings for row in each.missing),
        unanswered=tuple(unanswered),
        usd_per_hour=_sum(lent),
        unknown_usd_per_hour=_sum(view for view in lent if view.standing == Standing.UNKNOWN),
        unpriced=sum(view.usd_per_hour is None for view in lent),
        kept="\n".join(kept) or None,
    )


def _sum(views: Iterable[LentView]) -> Decimal:
    return sum((view.usd_per_hour or Decimal(0) for view in views), Decimal(0))


def _lent_view(books: Books, listing: Listing, lent: Lent) -> LentView:
    instance = lent.instance
    return LentView(
        provider=listing.provider,
        name=instance.name,
        kind=instance.kind,
        place=instance.place,
        fate=instance.fate.value,
        detail=instance.detail,
        standing=lent.standing.value,
        run_id=lent.run_id,
        usd_per_hour=usd_per_hour(books, lent),
    )


def _missing_view(row: InstanceRow) -> MissingView:
    return MissingView(
        provider=row.provider_name, name=row.name, run_id=row.run_id, ordered_at=row.ordered_at
    )


def _sweep(parts: Parts, ask: SweepAsk) -> SweepView:
    try:
        begun, spared = sweep_asked(_books(parts), ask.names, ask.count)
    except UserError as error:
        raise HttpRefusal(422, str(error)) from error
    told = (SparedView(name=name, reason=reason) for name, reason in sorted(spared.items()))
    return SweepView(begun=tuple(begun), spared=tuple(told))
