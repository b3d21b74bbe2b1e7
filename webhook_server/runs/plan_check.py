"""Make the plan of a pull request's head from what is known of its specs: pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from cynthus.codec import encode
from cynthus.money import of_limit, usd, usd_left
from cynthus.spec import Spec
from cynthus.wire_money import BudgetView, OfferView, PlanView
from webhook_server.runs.annotations import Annotation
from webhook_server.runs.attempts import span
from webhook_server.runs.differences import Difference
from webhook_server.runs.hostile import clean, code, cut_end, inline, title
from webhook_server.runs.limits import price
from webhook_server.runs.model import EnvironmentKept, Hold, Run, SpecFault
from webhook_server.runs.pull import FaultAt, PlanResult
from webhook_server.runs.report import CheckRun

CHECK_NAME = "cynthus/plan"
# https://docs.github.com/rest/checks/runs#create-a-check-run: `summary` has 65,535 characters;
# counted in bytes, which is never less.
_SUMMARY_LIMIT = 65_000
_TITLE_LIMIT = 200
_OFFERS = 8  # a provider may have forty zones; whoever wants them all asks `cynthus plan`
_CHANGES = 40
_FRAMEWORKS = 4
_MESSAGE_LIMIT = 8_000  # GitHub takes 64 KB; a person reads the first lines


@dataclass(frozen=True, kw_only=True)
class Image:
    """What is known of the image that a run of this spec would have."""

    known: Run | None = None  # a run of this very commit and spec that has one
    before: EnvironmentKept | None = None  # of the newest run of this name that told of it


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the repository's policy says."""

    refusal: str | None = None
    hold: Hold | None = None
    approved_by: str | None = None  # who has said yes to this commit's run
    notices: tuple[str, ...] = ()  # what was lowered
    unread: str | None = None  # why the policy could not be read


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One spec of a head with all that is known of it."""

    path: str
    spec: Spec | None  # with what the policy leaves of it; None: it has faults, or was removed
    faults: tuple[SpecFault, ...] = ()
    changes: tuple[Difference, ...] = ()  # against the base branch
    is_new: bool = False  # the base branch has no such spec
    view: PlanView | None = None
    no_view: str = ""  # why there is none
    image: Image = Image()
    verdict: Verdict = Verdict()
    waits: tuple[timedelta, ...] = ()  # of earlier runs on the machine that would be asked first
    durations: tuple[timedelta, ...] = ()  # of the name's last successes

    @property
    def is_removed(self) -> bool:
        """Say whether the head has this spec no more."""
        return self.spec is None and not self.faults

    @property
    def changed(self) -> bool:
        """Say whether the pull request changes what the spec means."""
        return bool(self.changes or self.faults or self.is_new or self.is_removed)

    @property
    def refusal(self) -> str | None:
        """Return why its run would end at once."""
        return self.verdict.refusal or (self.view.refusal if self.view else None)

    @property
    def first(self) -> OfferView | None:
        """Return the offer that would be tried first."""
        offers = self.view.offers if self.view else ()
        return next((offer for offer in offers if offer.refusal is None), None)


def plan_result(sha: str, planned: Sequence[Planned]) -> PlanResult:
    """Return the plan of a head. What the pull request leaves as it is fails nothing.

    So that the check can be required: a month's budget that is used up must not stop a merge that
    has nothing to do with it.
    """
    changed = [one for one in planned if one.changed]
    return PlanResult(
        sha=sha,
        conclusion=_conclusion(changed),
        title=_title(planned, changed),
        summary=cut_end(
            "\n\n".join(_section(one) for one in planned),
            _SUMMARY_LIMIT,
            "_The rest is left out here._",
        ),
        faults=tuple(
            FaultAt(path=one.path, fault=fault) for one in planned for fault in one.faults
        ),
    )


def _conclusion(changed: Sequence[Planned]) -> str:
    if any(one.faults or one.refusal for one in changed):
        return "failure"
    if any(_waits_for_a_person(one) for one in changed):
        return "action_required"
    # Neither ours to judge nor the author's fault: a required check lets it pass.
    unknown = any(one.no_view or one.verdict.unread for one in changed)
    return "neutral" if unknown else "success"


def _waits_for_a_person(one: Planned) -> bool:
    return one.verdict.hold is not None and one.verdict.approved_by is None


# ── the title ───────────────────────────────────────────────────────────────────────────────────


def _title(planned: Sequence[Planned], changed: Sequence[Planned]) -> str:
    if not changed:
        return "no spec is changed"
    several = f"{len(changed)} of {len(planned)} specs: " if len(planned) > 1 else ""
    worst = min(changed, key=_rank)
    return title(several + _words(worst), _TITLE_LIMIT)


def _rank(one: Planned) -> int:
    if one.faults:
        return 0
    if one.refusal:
        return 1
    return 2 if _waits_for_a_person(one) else 3


def _words(one: Planned) -> str:
    if one.faults:
        number = len(one.faults)
        return f"{one.path} has {number} fault{'s' if number > 1 else ''}"
    if one.spec is None:
        return f"{one.path} is removed"
    if one.refusal:
        return f"{one.spec.name} would not start: {one.refusal}"
    if one.verdict.hold is not None and one.verdict.approved_by is None:
        return f"{one.spec.name} needs approval by {one.verdict.hold.who}"
    return " · ".join((one.spec.name, *_expectations(one)))


def _expectations(one: Planned) -> Iterator[str]:
    offer = one.first
    if offer is not None:
        yield f"{_machine(offer)} in {offer.place}"
        likely = _likely_usd(one)
        if likely is not None:
            yield f"about {usd(likely)}"
        yield f"at most {usd(offer.most_usd)}"
        if one.waits:
            yield f"starts after about {span(_typical(one.waits))}"
    elif one.view is not None:
        yield f"would wait: {one.view.waits or 'no instance is free'}"
    else:
        yield "its price is not known here"


# ── one spec ────────────────────────────────────────────────────────────────────────────────────


def _section(one: Planned) -> str:
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
        f"| {number} | {inline(offer.place, 60)} | {inline(_machine(offer), 80)} "
        f"| {'yes' if offer.spot else 'no'} | ${offer.usd_per_hour} | {usd(offer.expected_usd)} "
        f"| {usd(offer.most_usd)} | {inline(remark, 160)} |"
    )


def _machine(offer: OfferView) -> str:
    gpu = f", {offer.gpu_count} {offer.gpu_type}" if offer.gpu_type else ""
    return f"{offer.machine}{gpu}"


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
        f"It would start about {span(_typical(one.waits))} after its image is there: the median of"
        f" the last {len(one.waits)} on {inline(offer.machine, 60)}."
    )


def _cost(one: Planned) -> str:
    if one.view is None:
        return ""
    limit = f"its hard limits are {span(timedelta(seconds=one.view.max_duration_s))}"
    if one.view.max_cost_usd is not None:
        limit += f" and {usd_left(one.view.max_cost_usd)}"
    likely = _likely_usd(one)
    if likely is None:
        return f"What it will cost is not known, since none of its name has succeeded yet; {limit}."
    took = span(_typical(one.durations))
    return (
        f"It would cost about {of_limit(likely, one.view.max_cost_usd)}: the last"
        f" {len(one.durations)} successes took {took}; {limit}."
    )


def _likely_usd(one: Planned) -> Decimal | None:
    """Return what it costs when it takes as long as its like did; None: nobody knows."""
    if one.first is None or one.view is None or not one.durations:
        return None
    longest = timedelta(seconds=one.view.max_duration_s)
    took = min(_typical(one.durations), longest)
    likely = price(one.first.usd_per_hour * one.view.nodes, took)
    most = one.view.max_cost_usd
    return likely if most is None else min(likely, most)


def _typical(durations: Sequence[timedelta]) -> timedelta:
    """Return the median, the longer of two in the middle: rather late than sorry."""
    return sorted(durations)[len(durations) // 2]


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
    rows = [
        f"- {code(change.path)}: {_value(change.old)} → {_value(change.new)}"
        for change in one.changes[:_CHANGES]
    ]
    more = len(one.changes) - _CHANGES
    left = [f"- and {more} more"] if more > 0 else []
    return "\n".join(["What changes against the base branch:", "", *rows, *left])


def _value(value: str | None) -> str:
    return "nothing" if value is None else (code(value, 120) or "empty")


# ── the check run ───────────────────────────────────────────────────────────────────────────────

#: https://docs.github.com/rest/checks/runs#create-a-check-run: label and identifier have 20
#: characters at most, a description 40.
_APPROVE = {
    "label": "Approve",
    "description": "Let this commit's run start",
    "identifier": "approve",
}


def plan_check(plan: PlanResult, *, external_id: str, now: datetime) -> CheckRun:
    """Return the check run that shows a plan; it is complete from the beginning."""
    digest = hashlib.sha256(json.dumps(encode(plan), sort_keys=True).encode()).hexdigest()
    return CheckRun(
        name=CHECK_NAME,
        head_sha=plan.sha,
        external_id=external_id,
        details_url="",
        status="completed",
        conclusion=plan.conclusion,
        started_at=now,
        completed_at=now,
        title=plan.title,
        summary=plan.summary,
        text="",
        annotations=tuple(_annotation(found) for found in plan.faults),
        actions=(_APPROVE,) if plan.conclusion == "action_required" else (),
        digest=digest,
    )


def _annotation(found: FaultAt) -> Annotation:
    fault = found.fault
    return Annotation(
        path=found.path,
        line=max(fault.line, 1),
        column=fault.column if fault.column > 0 else None,
        level="failure",
        message=clean(fault.text).strip()[:_MESSAGE_LIMIT] or "(no text)",
        title="The spec cannot be used",
    )
