"""Answer what a run would cost: the doors of `cynthus plan`."""

from __future__ import annotations

from typing import TypeVar

from fastapi import APIRouter, Depends, Request, Response

from cynthus.codec import decode, encode
from cynthus.errors import UserError
from cynthus.spec import Spec
from cynthus.wire_money import PlanAsk, PlanView
from webhook_server.observe import no_such_provider, with_offers
from webhook_server.routes.access import require_operator
from webhook_server.routes.answers import HttpRefusal, parse_json
from webhook_server.routes.bodies import json_answer, limited_body
from webhook_server.routes.parts import Parts
from webhook_server.routes.run_requests import check_text, parse_spec
from webhook_server.runs.model import Observations
from webhook_server.runs.plan import Question, plan
from webhook_server.runs.policy import policy_of, within
from webhook_server.stores.budget_store import BudgetStore, limits_of

BODY_LIMIT_BYTES = 512 << 10  # a spec of 64 KiB, each character escaped as six

T = TypeVar("T")


def money_router(parts: Parts) -> APIRouter:
    """Return the doors; all are the operator's: they show what every tenant has left."""
    router = APIRouter(prefix="/api/v1", tags=["money"])
    body = Depends(limited_body(BODY_LIMIT_BYTES))

    @router.post("/plan")
    def ask_plan(request: Request, content: bytes = body) -> Response:
        """Return what a run of a spec would get and cost; changes nothing."""
        require_operator(parts, request.scope)
        return json_answer(200, encode(_plan(parts, read_message(PlanAsk, "plan_ask", content))))

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
    spec = _spec(ask)
    now = parts.now()
    budgets = BudgetStore(parts.database, limits_of(parts.settings))
    seen = Observations(budgets=budgets.of_repository(ask.repository_id, now))
    name = spec.resources.provider or parts.settings.provider
    question = Question(
        spec=spec,
        repository_id=ask.repository_id,
        repository=ask.repository,
        provider=name,
        policy=within(policy_of(name), parts.settings.max_duration),
    )
    return plan(question, _with_offers(parts, name, spec, seen), now)


def _spec(ask: PlanAsk) -> Spec:
    spec, faults = parse_spec(ask.spec_text, ask.spec_path)
    if spec is None:
        raise HttpRefusal(422, "\n".join(f"{f.line}:{f.column}: {f.text}" for f in faults))
    return spec


def _with_offers(parts: Parts, name: str, spec: Spec, seen: Observations) -> Observations:
    if not parts.providers:
        raise HttpRefusal(
            503,
            "plan: should be asked of a server that lends instances, found one with doors only."
            " Ask one that runs with --role all.",
            retry_after_s=60,
        )
    refusal = no_such_provider(name, parts.providers)
    if refusal is not None:
        return Observations(offers=(), offers_refusal=refusal, budgets=seen.budgets)
    return with_offers(parts.providers[name], spec.resources, seen)
