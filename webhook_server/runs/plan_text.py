"""Tell people what the run of one spec would get, cost and change: pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from cynthus.money import of_limit, usd, usd_left
from cynthus.wire_money import BudgetView, OfferView, PlanView
from webhook_server.runs.attempts import span
from webhook_server.runs.differences import Difference
from webhook_server.runs.hostile import code, inline
from webhook_server.runs.planned import Image, Planned, Verdict, likely_usd, machine_of, typical

_OFFERS = 8  # a provider may have forty zones; whoever wants them all asks `cynthus plan`
_CHANGES = 40
_FRAMEWORKS = 4


def section(one: Planned) -> str:
    """Return all that the summary tells of one spec, as Markdown."""
    parts = [f"### {code(one.path)}{_name(one)}", *_verdict(one), *_details(one), _changes(one)]
    return "\n\n".join(part for part in parts if part)


def _name(one: Planned) -> str:
    return f": {inline(one.spec.name, 80)}" if one.spec else ""


def _verdict(one: Planned) -> Iterator[str]:
    if one.faults:
        yield "\n".join(
            f"- {code(f'{one.path}:{f.line}:{f.column}')} {inline(f.text)}" for f in one.faults[:50]
        )
    if one.is_removed:
        yield "The pull request removes this spec: nothing runs by it any more."
    if one.refusal:
        yield f"**It would not start**: {inline(one.refusal)}"
    yield from _policy(one.verdict)


def _policy(verdict: Verdict) -> Iterator[str]:
    if verdict.unread:
        yield f"The repository's policy could not be read: {inline(verdict.unread)}"
    if verdict.hold is not None and verdict.approved_by is None:
        reasons = "; ".join(inline(reason, 300) for reason in verdict.hold.reasons)
        yield f"**It needs approval** by {inline(verdict.hold.who, 200)}: {reasons}."
    if verdict.approved_by is not None:
        yield f"Approved by {inline(verdict.approved_by, 60)}."
    if verdict.notices:
        yield "\n".join(f"- {inline(notice)}" for notice in verdict.notices)


def _details(one: Planned) -> Iterator[str]:
    if one.spec is None:
        return
    yield _image(one.image)
    if one.view is None:
        yield f"Neither offers nor prices are known here: {inline(one.no_view)}"
        return
    yield _offers(one.view)
    yield from _remarks(one.view)
    yield _start(one)
    yield _cost(one)
    yield "\n".join(_budget(budget) for budget in one.view.budgets)


def _image(image: Image) -> str:
    if image.known is not None and image.known.image is not None:
        return f"Its image is there already: {code(image.known.image)}."
    if image.before is None:
        return "Its image is to be built, with an environment that is not known yet."
    about = image.before.about
    parts = [f"Python {about.python}" if about.python else ""]
    parts += [f"{one.name} {one.version}" for one in about.frameworks[:_FRAMEWORKS]]
    named = ", ".join(inline(part, 60) for part in parts if part)
    told = f" ({named})" if named else ""
    return (
        f"Its image is to be built; unless its packages changed, on the environment of the run"
        f" before{told}."
    )


_OFFER_HEAD = (
    "| try | place | machine | spot | an hour | expected | at most | |",
    "|---:|---|---|---|---:|---:|---:|---|",
)


def _offers(view: PlanView) -> str:
    if not view.offers:
        return ""
    rows = [_offer(number, offer) for number, offer in enumerate(view.offers[:_OFFERS], 1)]
    more = len(view.offers) - _OFFERS
    left = [f"\n{more} more offers are not shown."] if more > 0 else []
    sources = dict.fromkeys(offer.price_source for offer in view.offers if offer.price_source)
    told = [f"\nPrices are estimates by {inline(source, 120)}." for source in sources]
    return "\n".join((*_OFFER_HEAD, *rows, *left, *told))


def _offer(number: int, offer: OfferView) -> str:
    remark = offer.refusal or offer.waits or offer.quota
    return (
        f"| {number} | {inline(offer.place, 60)} | {inline(machine_of(offer), 80)} "
        f"| {'yes' if offer.spot else 'no'} | ${offer.usd_per_hour} | {usd(offer.expected_usd)} "
        f"| {usd(offer.most_usd)} | {inline(remark, 160)} |"
    )


def _remarks(view: PlanView) -> Iterator[str]:
    if view.waits:
        yield f"It would wait: {inline(view.waits)}"
    if view.notices:
        yield "\n".join(f"- {inline(notice)}" for notice in view.notices)


def _start(one: Planned) -> str:
    offer = one.first
    if offer is None:
        return ""
    if not one.waits:
        return "When it would start is not known: no earlier run had such a machine."
    return (
        f"It would start about {span(typical(one.waits))} after its image is there: the median of"
        f" {_last(len(one.waits), 'start')} on {inline(offer.machine, 60)}."
    )


def _cost(one: Planned) -> str:
    if one.view is None:
        return ""
    limit = f"its hard limits are {span(timedelta(seconds=one.view.max_duration_s))}"
    if one.view.max_cost_usd is not None:
        limit += f" and {usd_left(one.view.max_cost_usd)}"
    likely = likely_usd(one)
    if likely is None:
        return f"What it will cost is not known, since none of its name has succeeded yet; {limit}."
    took = span(typical(one.durations))
    return (
        f"It would cost about {of_limit(likely, one.view.max_cost_usd)}:"
        f" {_last(len(one.durations), 'success')} took {took}; {limit}."
    )


def _last(number: int, what: str) -> str:
    many = f"{what}es" if what.endswith("s") else f"{what}s"
    return f"the last {what}" if number == 1 else f"the last {number} {many}"


def _budget(budget: BudgetView) -> str:
    return (
        f"Budget of the {budget.scope}: {usd_left(budget.left_usd)} left of"
        f" {usd(budget.limit_usd)} until {budget.turns_at:%Y-%m-%d} (UTC)."
    )


def _changes(one: Planned) -> str:
    if one.is_new:
        return "The base branch has no such spec."
    if not one.changes:
        return "" if one.spec is None else "It means the same as on the base branch."
    rows = [f"- {code(change.path)}: {_change(change)}" for change in one.changes[:_CHANGES]]
    more = len(one.changes) - _CHANGES
    left = [f"- and {more} more"] if more > 0 else []
    return "\n".join(["What changes against the base branch:", "", *rows, *left])


def _change(change: Difference) -> str:
    if change.path.startswith("env/") and change.old is not None and change.new is not None:
        return "another value, which is not shown"
    return f"{_value(change.old)} → {_value(change.new)}"


def _value(value: str | None) -> str:
    return "nothing" if value is None else (code(value, 120) or "empty")
