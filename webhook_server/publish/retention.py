"""Delete the releases of a name that the repository's policy keeps no longer."""

from __future__ import annotations

import logging

from cynthus.frozen import replace
from webhook_server.github_api import Invalid, NotFound, Releases
from webhook_server.intents import Place
from webhook_server.publish.parts import Keeping, Outside, Parts
from webhook_server.runs.model import Run
from webhook_server.runs.observations import PolicySeen
from webhook_server.runs.release import marker_of
from webhook_server.runs.retention import Released, expired, reason
from webhook_server.stores.publication_store import Publication, PublicationState

log = logging.getLogger(__name__)


class Retention:
    """After each release: the older ones of its name."""

    def __init__(self, parts: Parts, outside: Outside, keeping: Keeping) -> None:
        self._parts, self._outside, self._keeping = parts, outside, keeping

    def show(self, item: Publication) -> None:
        """Delete what has had its time, and say so on each run; safe to repeat."""
        run = self._parts.runs.get(item.subject)
        if run is not None and run.spec is not None:
            place = self._outside.places.find(run.key.repository_id, run.repository)
            seen = self._keeping.policy(place)
            if not seen.faults:  # what cannot be read in full deletes nothing
                self._clear(place, run, run.spec.name, seen)
        state = PublicationState.DONE
        self._parts.publications.save(replace(item, state=state, due_at=None, failures=0))

    def _clear(self, place: Place, run: Run, name: str, seen: PolicySeen) -> None:
        rules = seen.policy.retention
        if rules.releases is None and rules.days is None:
            return
        released = self._parts.publications.released(place.id, name)
        standing = self._standing(place, name)
        over = expired(released, rules, standing=standing, now=self._parts.now())
        tags = ",".join(one.tag for one in over)  # said before the first of them is gone
        log.info("releases expired run=%s number=%d tags=%s", run.id, len(over), tags)
        for one in over:
            self._delete(Releases(self._outside.api, place), one, reason(rules))

    def _standing(self, place: Place, name: str) -> set[str]:
        live = self._parts.runs.live(place.id)
        baseline = self._keeping.baselines.of(place.id, name, place.default_branch)
        again = {one.origin.reproduces for one in live} | {one.baseline_run for one in live}
        found = {run_id for run_id in again if run_id is not None}
        return found | ({baseline.run.id} if baseline is not None else set())

    def _delete(self, releases: Releases, one: Released, note: str) -> None:
        try:
            if not self._is_ours(releases, one):
                self._parts.publications.keep_release(one.run_id)
                return
            releases.delete(one.release_id)
        except NotFound:
            log.info("release gone already run=%s tag=%s", one.run_id, one.tag)
        try:
            releases.delete_tag(one.tag)
        except (Invalid, NotFound) as refused:  # it is gone, or a rule of the repository keeps it
            log.info("tag stays run=%s tag=%s reason=%s", one.run_id, one.tag, refused)
        self._parts.publications.withdraw(one.run_id, note, self._parts.now())
        self._parts.bell.ring("runs")
        log.info("release deleted run=%s tag=%s", one.run_id, one.tag)

    def _is_ours(self, releases: Releases, one: Released) -> bool:
        """Say whether it is still as we made it: whoever took our mark out made it theirs."""
        found = releases.get(one.release_id)
        run = self._parts.runs.get(one.run_id)
        marked = run is not None and marker_of(run) in found.body
        return marked and not found.immutable and found.tag == one.tag
