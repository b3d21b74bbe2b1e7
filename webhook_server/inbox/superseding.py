"""Let live runs end, or say that they are outdated, when a newer commit or an end comes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cynthus.repository_policy import Superseded, SupersededRules
from cynthus.wire import EventKind
from webhook_server.github_api import PullFacts
from webhook_server.inbox.parts import InboxParts
from webhook_server.intents import Place
from webhook_server.runs.model import Run
from webhook_server.runs.superseded import newer_commit, outdated, outdated_notice

Rule = Callable[[SupersededRules], Superseded]
_LOOKED_AT = 200  # newest runs of a pull request or a branch: what is live is among them


class Superseding:
    """Applies the policy's `superseded` rules; safe to repeat. Raises Transient without one."""

    def __init__(self, parts: InboxParts) -> None:
        self._parts = parts

    def by_head(self, place: Place, pull: PullFacts) -> str:
        """Treat the live runs of a pull request's older commits."""
        runs = outdated(self._of_pull(place, pull), pull.sha)
        return self._treat(place, runs, lambda rules: rules.pull_request, newer_commit(pull.sha))

    def by_end(self, place: Place, pull: PullFacts) -> str:
        """Treat the live runs of a pull request that is closed, or a draft."""
        runs = outdated(self._of_pull(place, pull), None)
        if pull.open:
            return self._treat(
                place, runs, lambda rules: rules.draft, "its pull request, a draft now"
            )
        return self._treat(place, runs, lambda rules: rules.closed, "the end of its pull request")

    def by_push(self, place: Place, branch: str) -> str:
        """Treat the live runs that pushes of a branch's older commits started.

        Which push is the newest GitHub says: deliveries come in any order.
        """
        ref = f"refs/heads/{branch}"
        live = [
            run for run in self._parts.runs.live_of_ref(place.id, ref) if run.pull_request is None
        ]
        commits = {run.key.commit_sha for run in live}
        if len(commits) == 1:
            return "nothing is outdated"
        head = self._parts.api.branch_head(place, branch)
        if head not in commits:  # a newer push that starts no run outdates none either
            return "nothing is outdated"
        return self._treat(
            place, outdated(live, head), lambda rules: rules.branch, newer_commit(head)
        )

    def _of_pull(self, place: Place, pull: PullFacts) -> list[Run]:
        return self._parts.runs.of_pull(place.id, pull.number, limit=_LOOKED_AT)

    def _treat(self, place: Place, runs: Sequence[Run], rule: Rule, by: str) -> str:
        if not runs:
            return "nothing is outdated"
        seen = self._parts.policy(place)
        if seen.faults:  # nobody can say what it wants: work is not thrown away on a guess
            return "the policy cannot be used: nothing is ended"
        wanted = rule(seen.policy.superseded)
        if wanted is Superseded.CANCEL:
            self._cancel(runs, by)
        if wanted is Superseded.FINISH:
            self._tell(runs, by)
        return f"{len(runs)} outdated by {by}: {wanted}"

    def _cancel(self, runs: Sequence[Run], by: str) -> None:
        for run in runs:
            self._parts.runs.cancel(run.id, by, self._parts.now(), superseded=True)
        self._parts.bell.ring("runs")

    def _tell(self, runs: Sequence[Run], by: str) -> None:
        """Tell each run's watchers once; a crash in between may tell nobody, which harms none."""
        now = self._parts.now()
        for run in runs:
            key, proof = f"outdated/{run.id}/{by}", {"by": by}
            if self._parts.deliveries.handle_once(key, proof, allowed=True, run_id=run.id, now=now):
                number = run.attempt.number if run.attempt else 0
                text: dict[str, object] = {"text": outdated_notice(by)}
                self._parts.events.append(run.id, number, EventKind.NOTICE, text, now)
