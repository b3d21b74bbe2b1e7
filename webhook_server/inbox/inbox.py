"""The inbox loop: a stored delivery → its intent → its effect, each at most once by meaning."""

from __future__ import annotations

import json
import logging
import random
from concurrent.futures import Future
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, assert_never

from cynthus.errors import CynthusError, Transient
from cynthus.spec import PullRequestTrigger, Spec
from cynthus.triggers import push_refusal
from cynthus.wire import trigger_for
from webhook_server.github_api import NotFound, RepositoryFacts
from webhook_server.inbox.buttons import Buttons
from webhook_server.inbox.confirm import confirmed
from webhook_server.inbox.parts import InboxParts, Skip
from webhook_server.inbox.release_changes import ReleaseChanges
from webhook_server.inbox.spec_at import SPEC_PATH, read_spec
from webhook_server.intents import (
    Cancel,
    Commented,
    Ignored,
    InstallationChanged,
    Intent,
    Place,
    Pressed,
    PullEnded,
    PullRequest,
    ReleaseChanged,
    RepositoryChanged,
    Rerun,
    StartRun,
    intent_of,
)
from webhook_server.runs.model import RunDraft, RunKey, State
from webhook_server.stores.delivery_store import Delivery, DeliveryState
from webhook_server.stores.repository_store import Repository
from webhook_server.stores.run_store import SpecDiffers

log = logging.getLogger(__name__)

LEASE = timedelta(seconds=60)  # a delivery costs a handful of requests of at most 15 s
_BATCH = 20
_IDLE_S = 5.0  # the bell rings sooner
_IN_HAND_S = 1.0
MAX_TRIES = 12  # with the waits below: about five hours, then a person must look
_BACKOFF, _LONGEST_BACKOFF = timedelta(seconds=2), timedelta(hours=1)
_NOT_FOUND_TRIES = 3
_FRESH = timedelta(minutes=10)  # a push older than this may be to a branch that has gone since


class Inbox:
    """`step` is the loop's step. Any number of replicas may run it."""

    def __init__(self, parts: InboxParts) -> None:
        self._parts, self._now = parts, parts.now
        self._buttons = Buttons(parts)
        self._releases = ReleaseChanges(parts)
        self._ending: list[Future[bool]] = []

    def step(self) -> float:
        """Handle all that is due; return the seconds until the next look."""
        store = self._parts.deliveries
        # A look costs a read; only what is due costs a write.
        while (due_at := store.next_due()) is not None:
            wait_s = (due_at - self._now()).total_seconds()
            if wait_s > 0:
                return min(wait_s, _IDLE_S)
            claimed = store.claim(_BATCH, LEASE, self._now())
            if not claimed:  # in other hands: look again when that may have ended
                return _IN_HAND_S
            for item in claimed:
                self._handle(item)
            self._settle()
        return _IDLE_S

    def _handle(self, delivery: Delivery) -> None:
        try:
            note = self._carry_out(delivery)
        except Skip as skip:
            self._finish(delivery, DeliveryState.IGNORED, str(skip))
        except Transient as error:
            self._retry(delivery, error, error.retry_at)
        except NotFound as error:
            # GitHub may deliver an event before all of its servers know what it tells of.
            if delivery.tries < _NOT_FOUND_TRIES:
                self._retry(delivery, error, None)
            else:
                self._finish(delivery, DeliveryState.IGNORED, str(error))
        except CynthusError as error:
            self._finish(delivery, DeliveryState.IGNORED, str(error))
        except Exception as error:
            log.exception("delivery failed guid=%s event=%s", delivery.guid, delivery.event)
            self._retry(delivery, error, None)
        else:
            self._finish(delivery, DeliveryState.DONE, note)

    def _finish(self, delivery: Delivery, state: DeliveryState, note: str) -> None:
        log.info(
            "delivery %s guid=%s event=%s note=%s",
            state.value,
            delivery.guid,
            delivery.event,
            note,
        )
        store = self._parts.deliveries
        self._ending.append(store.finish_async(delivery, state, note, self._now()))

    def _settle(self) -> None:
        """Wait until what was finished is stored, lest it is claimed again by the next look."""
        ending, self._ending = self._ending, []
        for stored in ending:
            stored.result()

    def _retry(self, delivery: Delivery, error: Exception, retry_at: datetime | None) -> None:
        note = str(error) if isinstance(error, CynthusError) else type(error).__name__
        if delivery.tries >= MAX_TRIES:
            log.error(
                "delivery parked guid=%s event=%s note=%s", delivery.guid, delivery.event, note
            )
            self._parts.deliveries.finish(delivery, DeliveryState.PARKED, note, self._now())
            return
        wait = min(_BACKOFF * 2**delivery.tries, _LONGEST_BACKOFF)
        wait *= random.uniform(0.75, 1.25)  # noqa: S311 - so that many do not come back at once
        due_at = retry_at or self._now() + wait
        log.warning(
            "delivery put off guid=%s tries=%s note=%s", delivery.guid, delivery.tries, note
        )
        self._parts.deliveries.retry(delivery, due_at, note)

    # ── intents ─────────────────────────────────────────────────────────────────────────────────

    def _carry_out(self, delivery: Delivery) -> str:
        intent = intent_of(delivery.event, _parsed(delivery.body))
        if isinstance(intent, Ignored):
            raise Skip(intent.reason)
        if isinstance(intent, InstallationChanged):
            return self._installation(intent)
        self._check_allowed(intent.place)
        return self._effect(intent)

    def _check_allowed(self, place: Place) -> None:
        if not self._parts.allowed.permits(place.id, place.owner_id, place.full_name):
            log.warning("repository not allowed id=%s name=%s", place.id, place.full_name)
            raise Skip(f"{place.full_name} is not on CYNTHUS_ALLOWED")

    def _effect(self, intent: Intent) -> str:
        match intent:
            case StartRun():
                return self._pushed(intent)
            case PullRequest():
                return self._pull_request(intent)
            case Rerun():
                return self._buttons.rerun(intent)
            case Cancel():
                return self._buttons.cancel(intent)
            case PullEnded() | Commented() | Pressed():
                raise Skip("is not carried out yet")
            case ReleaseChanged():
                return self._releases.take(intent)
            case RepositoryChanged():
                return self._repository(intent)
            case InstallationChanged() | Ignored():
                raise Skip("handled before")
            case _:
                assert_never(intent)

    # ── pushes and pull requests ────────────────────────────────────────────────────────────────

    def _pushed(self, intent: StartRun) -> str:
        place, facts = confirmed(self._parts, intent.place)
        pushed_at = intent.pushed_at
        old = pushed_at is None or self._now() - pushed_at > _FRESH
        if old and not self._parts.api.branch_exists(place, intent.branch):
            raise Skip("the branch was deleted since")
        found = read_spec(self._parts.api, place, intent.sha)
        spec = found.spec
        if spec is not None:
            self._check_triggers(intent, spec, facts)
        return self._accept(
            RunDraft(
                id=self._parts.new_id(),
                key=_key(place, intent.sha, "push"),
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
            )
        )

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

    def _pull_request(self, intent: PullRequest) -> str:
        place, facts = confirmed(self._parts, intent.place)
        pull = self._parts.api.pull(place, intent.number)
        if not pull.open:
            raise Skip("the pull request is closed by now")
        if pull.head_repository_id != place.id:
            raise Skip("the pull request comes from a fork; forks do not start runs")
        if pull.sha != intent.sha:
            raise Skip("the pull request has a newer head by now")
        found = read_spec(self._parts.api, place, pull.sha)
        spec = found.spec
        if spec is None or spec.triggers.pull_request is not PullRequestTrigger.PUSH:
            # A broken spec says nothing of pull requests: the push's own check run shows it.
            raise Skip("triggers/pull_request: pushes to pull requests start no run")
        trigger = trigger_for("pull_request", pull_request=intent.number, workflow_run_id="")
        return self._accept(
            RunDraft(
                id=self._parts.new_id(),
                key=_key(place, pull.sha, trigger),
                repository=place.full_name,
                ref=f"refs/pull/{intent.number}/merge",
                event="pull_request",
                default_branch=facts.default_branch,
                pull_request=intent.number,
                workflow_run_url=None,
                spec=spec,
                spec_text=found.text,
                spec_faults=found.faults,
                wants_release=bool(spec.outputs),
            )
        )

    def _accept(self, draft: RunDraft) -> str:
        try:
            accepted = self._parts.runs.accept(draft, arrived=None, token_id=None, now=self._now())
        except SpecDiffers as error:
            # The commit names one text only, and ours comes from GitHub itself.
            log.exception(
                "spec differs repository=%s commit=%s", draft.repository, draft.key.commit_sha
            )
            raise Skip(str(error)) from error
        self._parts.bell.ring("runs")
        self._parts.bell.ring("publications")
        return f"run {accepted.run_id}{'' if accepted.created else ' (known)'}"

    # ── what GitHub tells of repositories and installations ─────────────────────────────────────

    def _repository(self, intent: RepositoryChanged) -> str:
        try:
            found, _ = confirmed(self._parts, intent.place)
        except NotFound as error:
            known = self._parts.repositories.get(intent.place.id)
            if known is None:
                raise Skip("an unknown repository has gone") from error
            self._parts.repositories.upsert(replace(known, installation_id=0), self._now())
            return f"{known.full_name} is out of reach"
        return f"now {found.full_name}"

    def _installation(self, intent: InstallationChanged) -> str:
        store = self._parts.repositories
        if intent.gone:
            if self._parts.api.installation_works(intent.installation_id):
                raise Skip("the installation is back by now")
            stopped = self._stop_runs(intent.installation_id)
            store.forget_installation(intent.installation_id)
            return f"installation {intent.installation_id} is gone, {stopped} runs shall end"
        for repository_id in intent.removed:
            known = store.get(repository_id)
            if known is not None and known.installation_id == intent.installation_id:
                self._taken_out(known)
        for repository_id in intent.added:
            known = store.get(repository_id)
            if known is not None:
                changed = replace(known, installation_id=intent.installation_id)
                store.upsert(changed, self._now())
        return f"installation {intent.installation_id} noted"

    def _taken_out(self, known: Repository) -> None:
        """Forget the way to one repository, and end its runs: we may not serve it any more."""
        try:
            back = self._parts.api.installation_of(known.full_name)
        except NotFound:
            back = 0
        if not back:
            self._stop_runs_of(known)
        self._parts.repositories.upsert(replace(known, installation_id=back), self._now())
        self._parts.bell.ring("runs")

    def _stop_runs(self, installation_id: int) -> int:
        """End what runs for repositories that we may not serve any more."""
        known = self._parts.repositories.by_installation(installation_id)
        stopped = sum(self._stop_runs_of(repository) for repository in known)
        self._parts.bell.ring("runs")
        return stopped

    def _stop_runs_of(self, repository: Repository) -> int:
        rows = self._parts.runs.list(repository_id=repository.id, limit=1000, before=None)
        live = [row for row in rows if row.state is not State.FINISHED]
        for row in live:
            self._parts.runs.cancel(row.id, "the app's removal", self._now())
        return len(live)


def _parsed(body: bytes) -> Any:
    """Read a signed body; what no reader of JSON takes asks for nothing."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Skip(f"the payload cannot be read: {type(error).__name__}") from error


def _key(place: Place, sha: str, trigger: str) -> RunKey:
    return RunKey(repository_id=place.id, commit_sha=sha, spec_path=SPEC_PATH, trigger=trigger)
