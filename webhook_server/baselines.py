"""Find what a run is compared with: the last released result of the default branch."""

from __future__ import annotations

from dataclasses import dataclass

from webhook_server.runs.compare import Side
from webhook_server.runs.model import Run
from webhook_server.runs.observations import GateSeen
from webhook_server.stores.environment_store import EnvironmentStore
from webhook_server.stores.event_store import EventStore
from webhook_server.stores.run_store import RunStore

_LOOKED_AT = 50  # succeeded runs back: releases that people deleted are passed over


@dataclass(frozen=True, kw_only=True)
class Baselines:
    """Reads runs together with what stands beside them; changes nothing."""

    runs: RunStore
    events: EventStore
    environments: EnvironmentStore

    def of(self, repository_id: int, name: str, default_branch: str) -> Side | None:
        """Return the default branch's last succeeded run with a release; None: there is none."""
        found = self.runs.of_branch(repository_id, name, default_branch, limit=_LOOKED_AT)
        run = next((run for run in found if is_baseline(run)), None)
        return None if run is None else self.side(run)

    def gate_seen(self, run: Run) -> GateSeen:
        """Return what the gates of a run are judged by."""
        compared = run.spec is not None and any(gate.baseline for gate in run.spec.gate)
        name = run.spec.name if run.spec is not None else ""
        found = self.of(run.key.repository_id, name, run.default_branch) if compared else None
        return GateSeen(
            metrics=self.events.latest(run.id).metrics,
            baseline=found.metrics if found is not None else None,
            baseline_run=found.run.id if found is not None else None,
        )

    def side(self, run: Run) -> Side:
        """Return a run with its metrics and its lock, for a comparison."""
        kept = run.environment
        return Side(
            run=run,
            metrics=self.events.latest(run.id).metrics,
            lock=self.environments.texts(kept.id).lock if kept is not None else None,
        )


def is_baseline(run: Run) -> bool:
    """Say whether others may be measured by it: as the file says, and somebody can look at it."""
    return run.release_url is not None and not run.origin.overrides and not run.origin.fork
