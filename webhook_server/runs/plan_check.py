"""Make the plan of a pull request's head from what is known of its specs: pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from datetime import datetime

from cynthus.codec import encode
from cynthus.money import usd
from webhook_server.runs.annotations import Annotation
from webhook_server.runs.attempts import span
from webhook_server.runs.hostile import clean, cut_end, title
from webhook_server.runs.plan_text import section
from webhook_server.runs.planned import (
    Planned,
    likely_usd,
    machine_of,
    typical,
    waits_for_a_person,
)
from webhook_server.runs.pull import FaultAt, PlanResult
from webhook_server.runs.report import CheckRun

CHECK_NAME = "cynthus/plan"
# https://docs.github.com/rest/checks/runs#create-a-check-run: `summary` has 65,535 characters;
# counted in bytes, which is never less.
_SUMMARY_LIMIT = 65_000
_TITLE_LIMIT = 200
_MESSAGE_LIMIT = 8_000  # GitHub takes 64 KB; a person reads the first lines


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
            "\n\n".join(section(one) for one in planned),
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
    if any(waits_for_a_person(one) for one in changed):
        return "action_required"
    # Neither ours to judge nor the author's fault: a required check lets it pass.
    unknown = any(one.no_view or one.verdict.unread for one in changed)
    return "neutral" if unknown else "success"


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
    return 2 if waits_for_a_person(one) else 3


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
        machine = machine_of(offer)  # where there is but one place, both have its name
        yield machine if machine == offer.place else f"{machine} in {offer.place}"
        likely = likely_usd(one)
        if likely is not None:
            yield f"about {usd(likely)}"
        yield f"at most {usd(offer.most_usd)}"
        if one.waits:
            yield f"starts after about {span(typical(one.waits))}"
    elif one.view is not None:
        yield f"would wait: {one.view.waits or 'no instance is free'}"
    else:
        yield "its price is not known here"


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
