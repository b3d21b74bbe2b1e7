"""Look up what a check run tells beside its run and its feed."""

from __future__ import annotations

from webhook_server.publish.advices import advice_of
from webhook_server.publish.parts import Parts
from webhook_server.runs.check_summary import Around
from webhook_server.runs.compare import Side, comparison
from webhook_server.runs.hostile import inline
from webhook_server.runs.model import Run, State
from webhook_server.runs.standing import reproduced
from webhook_server.stores.publication_store import Publication
from webhook_server.stores.run_reading import RunUnreadable


def around(parts: Parts, item: Publication, run: Run) -> Around:
    """Return the run that it reproduces, how it differs from that, and what was advised."""
    original = _original(parts, run)
    compared = _compared(parts, run, original) if original is not None else ()
    return Around(original=original, advice=advice_of(item), sections=compared)


def _original(parts: Parts, run: Run) -> Run | None:
    try:
        found = parts.runs.get(run.origin.reproduces) if run.origin.reproduces else None
    except RunUnreadable:
        return None
    # Another tenant's run is a stranger's, whoever named it.
    return found if found and found.key.repository_id == run.key.repository_id else None


def _compared(parts: Parts, run: Run, original: Run) -> tuple[str, ...]:
    if run.state is not State.FINISHED:
        return ()
    text = comparison(_side(parts, original), _side(parts, run))
    return (f"### Beside {inline(reproduced(run, original), 120)}\n\n{text}",)


def _side(parts: Parts, run: Run) -> Side:
    kept = run.environment
    return Side(
        run=run,
        metrics=parts.sources.events.latest(run.id).metrics,
        lock=parts.sources.environment(kept.id).lock if kept is not None else None,
    )
