"""Carry out what people press on check runs, once, and only for who may."""

from __future__ import annotations

import logging
from dataclasses import replace

from webhook_server.github_api import RepositoryFacts
from webhook_server.inbox.confirm import confirmed
from webhook_server.inbox.parts import InboxParts, Skip
from webhook_server.intents import Cancel, Person, Place, Rerun
from webhook_server.runs.model import ImageArrived, Run, RunDraft, State
from webhook_server.stores.publication_store import PublicationKind

log = logging.getLogger(__name__)

_MAY_START = frozenset({"admin", "maintain", "write"})


class Buttons:
    """The buttons of our check runs."""

    def __init__(self, parts: InboxParts) -> None:
        self._parts = parts

    def rerun(self, intent: Rerun) -> str:
        """Run again what a check run, or all of a suite's, shows."""
        if self._parts.deliveries.was_handled(intent.key):
            raise Skip("was carried out before")
        place, facts = confirmed(self._parts, intent.place)
        runs = self._runs_meant(intent, place)
        self._need_permission(intent.key, place, intent.sender)
        made = [self._again(place, facts, run, check_run_id) for run, check_run_id in runs]
        self._handled(intent.key, place, intent.sender, allowed=True, run_id=runs[0][0].id)
        return ", ".join(made)

    def _runs_meant(self, intent: Rerun, place: Place) -> list[tuple[Run, int]]:
        if intent.check_run_id is not None:
            run = self._run_of(place, intent.check_run_id, intent.run_id, intent.sha)
            return [(run, intent.check_run_id)]
        suite = self._parts.api.check_runs_of_suite(place, intent.check_suite_id or 0)
        found = []
        for check_run in suite:
            try:
                run = self._run_of(place, check_run.id, check_run.external_id, intent.sha)
            except Skip:
                continue  # a check run that is not ours
            found.append((run, check_run.id))
        if not found:
            raise Skip("no check run of ours is in this suite")
        return found

    def _run_of(self, place: Place, check_run_id: int, run_id: str | None, sha: str) -> Run:
        """Return the run that this check run shows: by our own records, not by the payload."""
        run = self._parts.runs.get(run_id) if run_id else None
        shown = run and self._parts.publications.get(run.id, PublicationKind.CHECK_RUN)
        if run is None or not shown or shown.external_id != check_run_id:
            raise Skip("the check run is not one of ours")
        if run.key.repository_id != place.id or run.key.commit_sha != sha:
            raise Skip("the check run is of another commit")
        return run

    def _again(self, place: Place, facts: RepositoryFacts, run: Run, check_run_id: int) -> str:
        if run.state is not State.FINISHED:
            return f"run {run.id} is not finished"
        if run.spec is None or run.image is None:
            raise Skip(f"run {run.id} never had an image; re-run its workflow instead")
        draft = RunDraft(
            id=self._parts.new_id(),
            key=replace(run.key, trigger=f"rerun/{check_run_id}"),
            repository=place.full_name,
            ref=run.ref,
            event=run.event,
            default_branch=facts.default_branch,
            pull_request=run.pull_request,
            workflow_run_url=run.workflow_run_url,
            spec=run.spec,
            spec_text=self._parts.runs.spec_text(run.id) or "",
            spec_faults=run.spec_faults,
            wants_release=run.wants_release,
        )
        arrived = ImageArrived(image=run.image, failure=None, environment=run.environment)
        accepted = self._parts.runs.accept(
            draft, arrived=arrived, token_id=None, now=self._parts.now()
        )
        self._parts.bell.ring("runs")
        self._parts.bell.ring("publications")
        return f"run {accepted.run_id} again for {run.id}"

    def cancel(self, intent: Cancel) -> str:
        """End the run that a check run shows."""
        if self._parts.deliveries.was_handled(intent.key):
            raise Skip("was carried out before")
        place, _ = confirmed(self._parts, intent.place)
        run = self._run_of(place, intent.check_run_id, intent.run_id, intent.sha)
        self._need_permission(intent.key, place, intent.sender)
        self._parts.runs.cancel(run.id, f"{intent.sender.login} on GitHub", self._parts.now())
        self._handled(intent.key, place, intent.sender, allowed=True, run_id=run.id)
        self._parts.bell.ring("runs")
        return f"run {run.id} shall end"

    def _need_permission(self, key: str, place: Place, sender: Person) -> None:
        """Ask GitHub, now, whether this person may start runs; never believe a payload."""
        found = "none" if sender.bot else self._parts.api.permission(place, sender.login)
        if found in _MAY_START:
            return
        log.warning("not permitted key=%s sender=%s permission=%s", key, sender.login, found)
        # Not noted as handled: the same button may be pressed by somebody who may.
        raise Skip(f"{sender.login} has the permission {found}; it takes write")

    def _handled(
        self, key: str, place: Place, sender: Person, *, allowed: bool, run_id: str
    ) -> None:
        proof = {"sender": sender.login, "sender_id": sender.id, "repository": place.id}
        self._parts.deliveries.handle_once(
            key, proof, allowed=allowed, run_id=run_id, now=self._parts.now()
        )
