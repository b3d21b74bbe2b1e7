"""Carry out what GitHub tells of pull requests: new heads, plans, runs, ends."""

from __future__ import annotations

from datetime import datetime

from cynthus.frozen import replace
from cynthus.spec import PullRequestTrigger
from cynthus.wire import trigger_for
from webhook_server.github_api import NotFound, PullFacts
from webhook_server.inbox.accepting import accept
from webhook_server.inbox.confirm import confirmed
from webhook_server.inbox.parts import InboxParts, Skip
from webhook_server.inbox.plan_keeping import keep_plan
from webhook_server.inbox.spec_at import SPEC_PATH, read_spec
from webhook_server.inbox.superseding import Superseding
from webhook_server.intents import Place, PullEnded, PullRequest
from webhook_server.runs.model import RunDraft, RunKey
from webhook_server.runs.pull import Pull, with_head


def noted(
    parts: InboxParts, place: Place, facts: PullFacts, told: tuple[str, datetime | None] | None
) -> Pull:
    """Write down what GitHub says of a pull request now; return all that is known of it.

    `told`: the head that a delivery told of, with GitHub's moment. Safe to repeat.
    """
    new = Pull(repository_id=place.id, number=facts.number, repository=place.full_name)

    def change(known: Pull) -> Pull:
        known = replace(
            known,
            repository=place.full_name,
            author=facts.author,
            fork=facts.head_repository_id != place.id,
            open=facts.open,
            draft=facts.draft,
        )
        if told is not None:
            known = with_head(known, *told)
        if known.head is None or known.head.sha != facts.sha:
            known = with_head(known, facts.sha, facts.updated_at)
        return known

    return parts.pulls.change(new, change, parts.now())


class Pulls:
    """What becomes of a pull request."""

    def __init__(self, parts: InboxParts, superseding: Superseding) -> None:
        self._parts, self._superseding = parts, superseding

    def headed(self, intent: PullRequest) -> str:
        """Note a new head, let it outdate older ones, plan it, and run it if its spec says so."""
        parts = self._parts
        place, facts = confirmed(parts, intent.place)
        pull = parts.api.pull(place, intent.number)
        noted(parts, place, pull, (intent.sha, intent.at))
        if not pull.open:
            raise Skip("the pull request is closed by now")
        if pull.sha != intent.sha:
            raise Skip("the pull request has a newer head by now")
        self._superseding.by_head(place, pull)
        if pull.head_repository_id != place.id:  # no push told of a fork's commit
            parts.policies.pushed(place.id, pull.sha, parts.now(), touched=False, counts=False)
        try:
            note = self._start(place, pull, default_branch=facts.default_branch)
        except Skip as skip:
            note = str(skip)
        keep_plan(parts, place, facts, pull)
        return note

    def _start(self, place: Place, pull: PullFacts, *, default_branch: str) -> str:
        if pull.head_repository_id != place.id:
            raise Skip("the pull request comes from a fork; forks do not start runs")
        found = read_spec(self._parts.api, place, pull.sha)
        spec = found.spec
        if spec is None or spec.triggers.pull_request is not PullRequestTrigger.PUSH:
            # A broken spec says nothing of pull requests: the push's own check run shows it.
            raise Skip("triggers/pull_request: pushes to pull requests start no run")
        trigger = trigger_for("pull_request", pull_request=pull.number, workflow_run_id="")
        return accept(
            self._parts,
            RunDraft(
                id=self._parts.new_id(),
                key=RunKey(
                    repository_id=place.id,
                    commit_sha=pull.sha,
                    spec_path=SPEC_PATH,
                    trigger=trigger,
                ),
                repository=place.full_name,
                ref=f"refs/pull/{pull.number}/merge",
                event="pull_request",
                default_branch=default_branch,
                pull_request=pull.number,
                workflow_run_url=None,
                spec=spec,
                spec_text=found.text,
                spec_faults=found.faults,
                wants_release=bool(spec.outputs),
            ),
        )

    def ended(self, intent: PullEnded) -> str:
        """Note the end of a pull request, or that it is a draft by now, and what that outdates."""
        place, _ = confirmed(self._parts, intent.place)
        pull = self._parts.api.pull(place, intent.number)
        noted(self._parts, place, pull, None)
        if intent.drafted and not pull.draft:
            raise Skip("the pull request is ready again by now")
        if not intent.drafted and pull.open:
            raise Skip("the pull request is open again by now")
        return self._superseding.by_end(place, pull)


def open_pull(parts: InboxParts, place: Place, number: int) -> PullFacts:
    """Return a pull request that may still be spoken at.

    Raises: Skip when it is closed, locked or gone; Transient.
    """
    try:
        pull = parts.api.pull(place, number)
    except NotFound as error:
        raise Skip("the pull request is gone") from error
    if not pull.open:
        raise Skip("the pull request is closed")
    if pull.locked:  # whoever locked it wanted nobody to go on there
        raise Skip("the conversation is locked")
    return pull
