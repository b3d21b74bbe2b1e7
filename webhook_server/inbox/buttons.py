"""Carry out what GitHub's own buttons and "Cancel" on our check runs ask, once."""

from __future__ import annotations

from cynthus.frozen import replace
from cynthus.repository_policy import Verb
from webhook_server.acting import under
from webhook_server.inbox.asked import Declined, Standing
from webhook_server.inbox.authorities import of_standing
from webhook_server.inbox.confirm import confirmed
from webhook_server.inbox.parts import InboxParts, Skip
from webhook_server.inbox.screen import Screen
from webhook_server.inbox.verbs import Verbs
from webhook_server.intents import Cancel, Place, Rerun
from webhook_server.runs.model import Run, State


class Buttons:
    """Re-run, Re-run all, Cancel."""

    def __init__(self, parts: InboxParts, verbs: Verbs) -> None:
        self._parts, self._verbs, self._screen = parts, verbs, Screen(parts)

    def rerun(self, intent: Rerun) -> str:
        """Run again what a check run, or all of a suite's, shows.

        Raises: Skip; Transient.
        """
        if self._parts.deliveries.was_handled(intent.key):
            raise Skip("was carried out before")
        place, facts = confirmed(self._parts, intent.place)
        runs = self._runs_meant(intent, place)
        by = self._screen.standing(place, facts, intent.sender, runs[0][0].pull_request, intent.key)
        self._screen.need(by, Verb.RETRY, runs[0][0].pull_request)
        made = [self._again(replace(by, key=f"rerun/{id_}"), run) for run, id_ in runs]
        self._screen.handled(intent.key, by, runs[0][0])
        return ", ".join(made)

    def _again(self, by: Standing, run: Run) -> str:
        if run.image is None and run.state is State.FINISHED:
            raise Skip(f"run {run.id} never had an image; re-run its workflow instead")
        try:
            with under(of_standing(by, self._parts.now())):
                done = self._verbs.starts.again(
                    by, run, on_demand=False, pull_request=run.pull_request
                )
        except Declined as declined:
            self._screen.refused(by, Verb.RETRY.value, str(declined))
            return str(declined)
        return f"run {', '.join(done.run_ids)} again for {run.id}"

    def _runs_meant(self, intent: Rerun, place: Place) -> list[tuple[Run, int]]:
        if intent.check_run_id is not None:
            run = self._screen.run_of(place, intent.check_run_id, intent.run_id, intent.sha)
            return [(run, intent.check_run_id)]
        suite = self._parts.api.check_runs_of_suite(place, intent.check_suite_id or 0)
        found = []
        for check_run in suite:
            try:
                run = self._screen.run_of(place, check_run.id, check_run.external_id, intent.sha)
            except Skip:
                continue  # a check run that is not ours
            found.append((run, check_run.id))
        if not found:
            raise Skip("no check run of ours is in this suite")
        return found

    def cancel(self, intent: Cancel) -> str:
        """End the run that a check run shows.

        Raises: Skip; Transient.
        """
        if self._parts.deliveries.was_handled(intent.key):
            raise Skip("was carried out before")
        place, facts = confirmed(self._parts, intent.place)
        run = self._screen.run_of(place, intent.check_run_id, intent.run_id, intent.sha)
        by = self._screen.standing(place, facts, intent.sender, run.pull_request, intent.key)
        self._screen.need(by, Verb.CANCEL, run.pull_request)
        with under(of_standing(by, self._parts.now())):
            self._verbs.changes.end(by, [run])
        self._screen.handled(intent.key, by, run)
        return f"run {run.id} shall end"
