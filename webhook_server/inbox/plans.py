"""Plan a pull request's head: what runs of its specs would get, cost and change."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from cynthus.errors import Transient
from cynthus.frozen import replace
from cynthus.spec import Spec
from webhook_server.github_api import PullFacts, RepositoryFacts
from webhook_server.inbox.parts import InboxParts
from webhook_server.inbox.spec_at import FoundSpec
from webhook_server.inbox.specs import specs_at
from webhook_server.intents import Place
from webhook_server.planning import NoProviders, Planner, ToPlan
from webhook_server.runs import approval
from webhook_server.runs.differences import differences
from webhook_server.runs.images import reusable
from webhook_server.runs.model import Cause, Grant, Origin, Reason, Run, RunKey, State
from webhook_server.runs.observations import PolicySeen
from webhook_server.runs.plan_check import plan_result
from webhook_server.runs.planned import Image, Planned, Verdict
from webhook_server.runs.pull import PlanResult
from webhook_server.stores.history_store import HistoryStore

_KEPT = 256  # commits: the bases of all open pull requests of a busy server
Specs = Mapping[str, FoundSpec]  # by path


class Plans:
    """Plans of pull requests' heads; `make` is what the inbox calls at every new one."""

    def __init__(self, planner: Planner, history: HistoryStore) -> None:
        self.planner, self._history = planner, history
        self._specs: dict[tuple[int, str], Specs] = {}  # what a commit holds never changes
        self._lock = threading.Lock()

    def make(
        self,
        parts: InboxParts,
        place: Place,
        facts: RepositoryFacts,  # noqa: ARG002 - every planner is given them
        pull: PullFacts,
    ) -> PlanResult | None:
        """Return the plan of the head; None: neither it nor its base has a spec.

        GitHub is asked for what the two commits hold, each once. Raises: Transient.
        """
        head = self.specs_of(parts, place, pull.sha)
        base = self.specs_of(parts, place, pull.base_sha)
        paths = list(dict.fromkeys((*head, *base)))
        if not paths:
            return None
        at = _At(parts=parts, place=place, pull=pull)
        planned = [self._planned(at, path, head.get(path), base.get(path)) for path in paths]
        return plan_result(pull.sha, planned)

    def of_spec(
        self, parts: InboxParts, place: Place, pull: PullFacts, found: FoundSpec, changed: FoundSpec
    ) -> PlanResult:
        """Return the plan of one spec with its overrides, compared with the file itself."""
        at = _At(parts=parts, place=place, pull=pull)
        return plan_result(pull.sha, [self._planned(at, found.path, changed, found)])

    def specs_of(self, parts: InboxParts, place: Place, sha: str) -> Specs:
        """Return the specs of a commit by path, from memory where it was asked for before.

        Raises: Transient.
        """
        if not sha:
            return {}
        key = (place.id, sha)
        with self._lock:
            if key in self._specs:
                return self._specs[key]
        found = {one.path: one for one in specs_at(parts, place, sha)}
        with self._lock:
            self._specs[key] = found
            if len(self._specs) > _KEPT:
                del self._specs[next(iter(self._specs))]
        return found

    # ── one spec ────────────────────────────────────────────────────────────────────────────────

    def _planned(
        self, at: _At, path: str, mine: FoundSpec | None, its_base: FoundSpec | None
    ) -> Planned:
        if mine is None or mine.spec is None:
            return Planned(path=path, spec=None, faults=mine.faults if mine else ())
        spec = mine.spec
        old = its_base.spec if its_base else None
        planned = Planned(
            path=path,
            spec=spec,
            changes=differences(old, spec) if its_base else (),
            is_new=its_base is None,
            image=at.image(path, spec.name),
            durations=self._history.durations(at.place.id, spec.name),
        )
        try:
            seen = at.parts.policy(at.place)
        except Transient as error:
            planned = replace(planned, spec=spec, verdict=Verdict(unread=str(error)))
            return self._priced(at, planned, Grant(), None)
        grant = approval.grant_of(spec, seen.policy, fork=at.fork)
        planned = replace(planned, spec=approval.granted(spec, grant))
        planned = self._priced(at, planned, grant, seen.policy.limits.monthly_budget_usd)
        verdict = self._verdict(at, planned, seen, spec)
        notices = approval.lowered(grant, fork=at.fork)
        return replace(planned, verdict=replace(verdict, notices=notices))

    def _priced(
        self, at: _At, planned: Planned, grant: Grant, monthly_usd: Decimal | None
    ) -> Planned:
        """Add what a run by this spec would get: it is what the policy leaves of the file's."""
        spec = planned.spec
        if spec is None:
            return planned
        before = planned.image.before
        what = ToPlan(
            spec=spec,
            repository_id=at.place.id,
            repository=at.place.full_name,
            minimum_driver=before.about.minimum_driver if before else None,
            monthly_usd=monthly_usd,
            grant=grant,
            stranger=at.fork,
        )
        try:
            view = self.planner.plan(what)
        except NoProviders:
            return replace(planned, no_view="this server lends no instances itself.")
        planned = replace(planned, view=view)
        first = planned.first
        waits = self._history.waits(first.provider, first.machine) if first else ()
        return replace(planned, waits=waits)

    def _verdict(self, at: _At, planned: Planned, seen: PolicySeen, spec: Spec) -> Verdict:
        """Return what the policy says of the file's run, at the price of its first offer."""
        refusal = approval.refusal(spec, seen, provider=self.planner.provider_of(spec))
        if refusal is not None or planned.spec is None:
            return Verdict(refusal=refusal)
        run = at.imagined(planned.path, spec)
        most_usd = planned.first.most_usd if planned.first else Decimal(0)
        return Verdict(
            hold=approval.hold_for(run, planned.spec, seen.policy, most_usd),
            approved_by=at.approved_by(run),
        )


@dataclass(frozen=True, kw_only=True)
class _At:
    """Where is planned."""

    parts: InboxParts
    place: Place
    pull: PullFacts

    @property
    def fork(self) -> bool:
        return self.pull.head_repository_id != self.place.id

    def image(self, path: str, name: str) -> Image:
        """Return what is known of the image: this commit's, or else what the name had before."""
        runs = self.parts.runs
        known = reusable(self._runs(), self.pull.sha, path, fork=self.fork)
        earlier = (run for run in runs.of_name(self.place.id, name) if run.environment is not None)
        before = next((run for run in earlier if run.origin.fork is self.fork), None)
        newest = known if known is not None and known.environment is not None else before
        return Image(known=known, before=newest.environment if newest else None)

    def imagined(self, path: str, spec: Spec) -> Run:
        """Return the run as it would stand in the queue."""
        now = self.parts.now()
        key = RunKey(
            repository_id=self.place.id, commit_sha=self.pull.sha, spec_path=path, trigger="plan"
        )
        return Run(
            id="plan",
            key=key,
            repository=self.place.full_name,
            number=0,
            spec=spec,
            spec_sha256="",
            state=State.QUEUED,
            state_since=now,
            reason=Reason(cause=Cause.ACCEPTED, text=""),
            created_at=now,
            origin=Origin(fork=self.fork),
        )

    def approved_by(self, imagined: Run) -> str | None:
        """Return who has approved a run of exactly this commit and spec, whatever its image."""
        for run in self._runs():
            if run.key.spec_path != imagined.key.spec_path:
                continue
            # One that the loop has yet to take up counts as well: the person has said yes.
            given = run.approval or self.parts.runs.wishes(run.id).approval
            if given is not None and approval.is_for(replace(given, image=None), imagined):
                return given.by
        return None

    def _runs(self) -> list[Run]:
        return self.parts.runs.of_commit(self.place.id, self.pull.sha)
