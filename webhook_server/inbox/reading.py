"""Answer what people ask of runs at a pull request without changing anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from cynthus import overrides
from cynthus.errors import UserError
from cynthus.frozen import replace
from cynthus.repository_policy import Verb
from cynthus.wire import EventKind
from webhook_server.baselines import Baselines
from webhook_server.inbox.asked import Asked, Declined
from webhook_server.inbox.parts import InboxParts
from webhook_server.inbox.plans import Plans
from webhook_server.inbox.spec_at import FoundSpec
from webhook_server.inbox.specs import chosen
from webhook_server.inbox.targets import find_target
from webhook_server.runs.asks import (
    AskCompare,
    AskHelp,
    AskLogs,
    AskPlan,
    AskStatus,
    AskWhy,
    Reading,
)
from webhook_server.runs.compare import comparison
from webhook_server.runs.help import help_text
from webhook_server.runs.hostile import code, cut_end, fenced, inline
from webhook_server.runs.log_tail import tail
from webhook_server.runs.model import Run, State
from webhook_server.runs.pull import PlanResult
from webhook_server.runs.sticky import is_link, run_title, standing
from webhook_server.runs.why import Step, explanation

_ANSWER_LIMIT = 20_000  # bytes: three such answers and a table fit one comment
_LOG_LIMIT = 18_000
_STATUS_RUNS = 20
_STEPS = 500  # transitions of one run: ten attempts have sixty


class Reader:
    """Answers; `answer` is what the inbox calls."""

    def __init__(self, plans: Plans, baselines: Baselines) -> None:
        self._plans, self._baselines = plans, baselines

    def answer(self, parts: InboxParts, asked: Asked, ask: Reading) -> str:
        """Return the answer as Markdown of ours, at most 20 kB; safe to repeat.

        Raises: Declined when what is meant is not there; Transient.
        """
        return cut_end(self._answer(parts, asked, ask), _ANSWER_LIMIT, "_The rest is left out._")

    def _answer(self, parts: InboxParts, asked: Asked, ask: Reading) -> str:
        match ask:
            case AskStatus():
                return _status(parts, asked, ask)
            case AskLogs():
                return _logs(parts, _target(parts, asked, ask.target), ask)
            case AskWhy():
                return _why(parts, _target(parts, asked, ask.target))
            case AskPlan():
                return self._plan(parts, asked, ask)
            case AskCompare():
                return self._compare(parts, asked, ask)
            case AskHelp():
                allowed = [
                    verb for verb in Verb if asked.is_of(asked.policy.policy.allowance(verb))
                ]
                return help_text(allowed, overrides.OVERRIDABLE)
            case _:
                assert_never(ask)

    # ── plan ────────────────────────────────────────────────────────────────────────────────────

    def _plan(self, parts: InboxParts, asked: Asked, ask: AskPlan) -> str:
        if not ask.names and not ask.overrides:
            found = self._plans.make(parts, asked.place, asked.facts, asked.pull)
            if found is None:
                raise Declined("neither this commit nor its base has a spec.")
            return _plan_text(found)
        specs = self._plans.specs_of(parts, asked.place, asked.pull.sha)
        texts = []
        for spec in chosen(tuple(specs.values()), ask.names):
            plan = self._plans.of_spec(
                parts, asked.place, asked.pull, spec, _overridden(spec, ask.overrides)
            )
            texts.append(_plan_text(plan))
        return "\n\n".join(texts)

    # ── compare ─────────────────────────────────────────────────────────────────────────────────

    def _compare(self, parts: InboxParts, asked: Asked, ask: AskCompare) -> str:
        left = _target(parts, asked, ask.left)
        if ask.right is not None:
            right = _target(parts, asked, ask.right)
            return comparison(self._baselines.side(left), self._baselines.side(right))
        name = left.spec.name if left.spec else ""
        branch = asked.facts.default_branch
        baseline = self._baselines.of(asked.place.id, name, branch)
        if baseline is None:
            raise Declined(
                f"{code(branch)} has no released result of {code(name)} yet to compare with."
            )
        return comparison(baseline, self._baselines.side(left))


def _overridden(found: FoundSpec, changes: Sequence[tuple[str, str]]) -> FoundSpec:
    if not changes:
        return found
    try:
        return replace(found, spec=overrides.apply(found.text.encode(), found.path, changes))
    except UserError as error:
        faults = [inline(str(fault)) for fault in error.faults] or [inline(str(error))]
        raise Declined("\n".join(f"- {fault}" for fault in faults)) from error


def _plan_text(plan: PlanResult) -> str:
    return f"**{inline(plan.title)}** at {code(plan.sha[:7])}\n\n{plan.summary}"


def _target(parts: InboxParts, asked: Asked, text: str | None) -> Run:
    found = find_target(parts.runs, asked.place.id, asked.pull.number, text)
    if found is None and text is None:
        raise Declined("this pull request has no run yet.")
    if found is None:
        raise Declined(f"there is no run {code(text or '')} here.")
    return found


# ── status ──────────────────────────────────────────────────────────────────────────────────────


def _status(parts: InboxParts, asked: Asked, ask: AskStatus) -> str:
    if ask.target is not None:
        return _status_line(parts, _target(parts, asked, ask.target))
    runs = parts.runs.of_pull(asked.place.id, asked.pull.number, limit=_STATUS_RUNS)
    if not runs:
        raise Declined("this pull request has no run yet.")
    return "\n".join(_status_line(parts, run) for run in runs)


def _status_line(parts: InboxParts, run: Run) -> str:
    url = parts.url_of(run.id)
    link = f" ([live view]({url}))" if is_link(url) else ""
    waits = run.state in {State.BUILDING, State.QUEUED} and run.hold is None
    why = f": {inline(run.reason.text, 200)}" if waits else ""
    return f"- {run_title(run)} at {code(run.key.commit_sha[:7])}: {standing(run)}{why}{link}"


# ── logs, why ───────────────────────────────────────────────────────────────────────────────────


def _logs(parts: InboxParts, run: Run, ask: AskLogs) -> str:
    number = run.attempt.number if run.attempt else 0
    chunks = parts.events.log_text(run.id, number)
    lines = tail(chunks, last=ask.last, grep=ask.grep, limit_bytes=_LOG_LIMIT)
    url = parts.url_of(run.id)
    whole = f" [All of it]({url})" if is_link(url) else ""
    which = f" with {code(ask.grep, 100)}" if ask.grep else ""
    if not lines:
        return f"The log of {run_title(run)} has no line{which} yet.{whole}"
    attempt = f", attempt {number}" if number > 1 else ""
    counted = f"the last {len(lines)} lines" if len(lines) > 1 else "the last line"
    head = f"{run_title(run)}{attempt}: {counted}{which}.{whole}"
    return f"{head}\n\n{fenced(chr(10).join(lines))}"


def _why(parts: InboxParts, run: Run) -> str:
    events = parts.events.after(run.id, 0, limit=_STEPS, kinds=(EventKind.STATE,))
    steps = [
        Step(
            at=event.at,
            state=str(event.body.get("state", "")),
            reason=str(event.body.get("reason", "")),
        )
        for event in events
    ]
    return explanation(run, steps, parts.now())
