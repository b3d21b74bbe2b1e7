"""Carry out what a push to a branch asks for: its spec's run, and what that outdates."""

from __future__ import annotations

from datetime import timedelta

from cynthus.repository_policy import POLICY_PATH
from cynthus.spec import Spec
from cynthus.triggers import push_refusal
from webhook_server.github_api import RepositoryFacts
from webhook_server.inbox.accepting import accept
from webhook_server.inbox.confirm import confirmed
from webhook_server.inbox.parts import InboxParts, Skip
from webhook_server.inbox.replanning import plan_anew
from webhook_server.inbox.spec_at import SPEC_PATH, read_spec
from webhook_server.inbox.superseding import Superseding
from webhook_server.intents import Place, StartRun
from webhook_server.runs.model import RunDraft, RunKey

_FRESH = timedelta(minutes=10)  # a push older than this may be to a branch that has gone since


class Pushes:
    """Pushes to branches."""

    def __init__(self, parts: InboxParts, superseding: Superseding) -> None:
        self._parts, self._superseding, self._now = parts, superseding, parts.now

    def pushed(self, intent: StartRun) -> str:
        """Accept the run of a push; older ones of its branch are outdated then.

        Raises: Skip; Transient.
        """
        place, facts = confirmed(self._parts, intent.place)
        pushed_at = intent.pushed_at
        old = pushed_at is None or self._now() - pushed_at > _FRESH
        if old and self._parts.api.branch_head(place, intent.branch) is None:
            raise Skip("the branch was deleted since")
        if not self._note_policy(intent, facts):
            return self._start(intent, place, facts)
        try:
            note = self._start(intent, place, facts)
        except Skip as skip:
            note = str(skip)
        planned = plan_anew(self._parts, place, facts)
        return f"{note}; the policy may have changed: {planned} heads planned anew"

    def _start(self, intent: StartRun, place: Place, facts: RepositoryFacts) -> str:
        found = read_spec(self._parts.api, place, intent.sha)
        spec = found.spec
        if spec is not None:
            self._check_triggers(intent, spec, facts)
        note = accept(
            self._parts,
            RunDraft(
                id=self._parts.new_id(),
                key=RunKey(
                    repository_id=place.id,
                    commit_sha=intent.sha,
                    spec_path=SPEC_PATH,
                    trigger="push",
                ),
                repository=place.full_name,
                ref=intent.ref,
                event="push",
                default_branch=facts.default_branch,
                pull_request=None,
                workflow_run_url=None,
                spec=spec,
                spec_text=found.text,
                spec_faults=found.faults,
                wants_release=spec is not None and bool(spec.outputs),
            ),
        )
        return f"{note}; {self._superseding.by_push(place, intent.branch)}"

    def _note_policy(self, intent: StartRun, facts: RepositoryFacts) -> bool:
        """Let a changed policy be read again, and be shown at its commit; say whether it counts."""
        changed = intent.changed
        if changed is not None and POLICY_PATH not in changed:
            return False
        counts = intent.branch == facts.default_branch
        self._parts.policies.pushed(
            intent.place.id,
            intent.sha,
            self._now(),
            touched=changed is not None,
            counts=counts,
        )
        self._parts.bell.ring("publications")
        return counts

    def _check_triggers(self, intent: StartRun, spec: Spec, facts: RepositoryFacts) -> None:
        refusal = push_refusal(
            spec.triggers.push.branches,
            spec.triggers.push.paths,
            branch=intent.branch,
            default_branch=facts.default_branch,
            changed=intent.changed,
        )
        if refusal is not None:
            raise Skip(refusal)
