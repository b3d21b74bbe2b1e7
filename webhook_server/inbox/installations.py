"""Carry out what GitHub tells of repositories and installations: new names, ends, ways back."""

from __future__ import annotations

from cynthus.frozen import replace
from webhook_server.github_api import NotFound
from webhook_server.inbox.confirm import confirmed
from webhook_server.inbox.parts import InboxParts, Skip
from webhook_server.intents import InstallationChanged, RepositoryChanged
from webhook_server.runs.model import State
from webhook_server.stores.repository_store import Repository


class Installations:
    """Where the app is installed, and what becomes of runs where it is no more."""

    def __init__(self, parts: InboxParts) -> None:
        self._parts, self._now = parts, parts.now

    def repository(self, intent: RepositoryChanged) -> str:
        """Note the present name of a repository, or that it is out of reach."""
        try:
            found, _ = confirmed(self._parts, intent.place)
        except NotFound as error:
            known = self._parts.repositories.get(intent.place.id)
            if known is None:
                raise Skip("an unknown repository has gone") from error
            self._parts.repositories.upsert(replace(known, installation_id=0), self._now())
            return f"{known.full_name} is out of reach"
        return f"now {found.full_name}"

    def installation(self, intent: InstallationChanged) -> str:
        """Note which repositories an installation covers; end the runs of those it left."""
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
