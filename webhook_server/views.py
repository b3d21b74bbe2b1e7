"""Turn a run into what people and programs are shown of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cynthus.frozen import replace
from cynthus.wire import AttemptView, HoldView, Mark, OutputView, RunView
from webhook_server.auth.blob_urls import GetTerms, get_url
from webhook_server.runs.attempts import boot_marks, kept_notice, lost_time
from webhook_server.runs.limits import attempt_cost, cost
from webhook_server.runs.model import Attempt, Run, State
from webhook_server.runs.outputs import made_by
from webhook_server.runs.terms import is_held, most_usd
from webhook_server.stores.blob_protocol import blob_key

OUTPUT_URL_LIFE = timedelta(hours=1)  # long enough for a slow download to begin, no keepsake


@dataclass(frozen=True, kw_only=True)
class Told:
    """What the attempt's own events say beside the run."""

    progress: float | None = None
    phase: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    marks: tuple[tuple[int, Mark], ...] = ()  # with their attempts


def run_view(run: Run, told: Told, *, base_url: str, now: datetime) -> RunView:
    """Return the whole view of one run."""
    ended = run.state is State.FINISHED
    return RunView(
        id=run.id,
        name=run.spec.name if run.spec else "",
        repository=run.repository,
        commit_sha=run.key.commit_sha,
        trigger=run.key.trigger,
        state=run.state.value,
        # Decided earlier, an outcome is shown only once nothing can change it any more.
        outcome=run.outcome.value if run.outcome and ended else None,
        cause=run.reason.cause.value,
        reason=run.reason.text,
        created_at=run.created_at,
        state_since=run.state_since,
        finished_at=run.finished_at,
        progress=told.progress,
        phase=told.phase,
        metrics=dict(told.metrics),
        cost_usd=cost(run, now),
        max_cost_usd=most_usd(run),
        price_source=run.attempt.offer.price_source if run.attempt else "",
        image=run.image,
        environment=run.environment.about if run.environment else None,
        notices=_notices(run, told),
        attempts=tuple(_attempt_view(attempt, told.marks, now) for attempt in run.attempts),
        outputs=output_views(run),
        release_url=run.release_url,
        url=f"{base_url}/runs/{run.id}",
        hold=_hold_view(run),
        asked_by=run.origin.asked_by,
        overrides=dict(run.origin.overrides),
    )


def _hold_view(run: Run) -> HoldView | None:
    if run.hold is None or not is_held(run):
        return None
    return HoldView(reasons=run.hold.reasons, cap_usd=run.hold.cap_usd, who=run.hold.who)


def _attempt_view(
    attempt: Attempt, marks: tuple[tuple[int, Mark], ...], now: datetime
) -> AttemptView:
    return AttemptView(
        number=attempt.number,
        instance=attempt.instance,
        provider=attempt.offer.provider,
        place=attempt.offer.place,
        ordered_at=attempt.ordered_at,
        started_at=attempt.started_at,
        ended_at=attempt.ended_at,
        reason=attempt.reason.text if attempt.reason else None,
        usd_per_hour=attempt.offer.usd_per_hour,
        cost_usd=attempt_cost(attempt, now),
        machine=attempt.offer.machine,
        spot=attempt.offer.spot,
        nodes=len(attempt.members),
        cause=attempt.reason.cause.value if attempt.reason else None,
        lost_s=lost_time(attempt).total_seconds(),
        warm_run=attempt.offer.warm_run or None,
        marks=boot_marks(attempt, [mark for number, mark in marks if number == attempt.number]),
    )


def _notices(run: Run, told: Told) -> tuple[str, ...]:
    kept = kept_notice(run)
    return tuple(dict.fromkeys((*run.notices, *told.notices, *([kept] if kept else []))))


def output_views(run: Run) -> tuple[OutputView, ...]:
    """Return the outputs that lie in the blob store, without addresses."""
    attempt = made_by(run)
    return tuple(
        OutputView(
            path=o.path,
            size_bytes=o.size_bytes,
            sha256=o.sha256,
            url=None,
            partial=run.outputs_partial,
            attempt=attempt.number if attempt else 0,
            packed=o.packed,
            plain_size_bytes=o.plain_size_bytes,
            plain_sha256=o.plain_sha256,
        )
        for o in run.outputs or ()
        if o.left_out is None
    )


def signed_outputs(
    run: Run, *, base_url: str, server_key: bytes, now: datetime
) -> tuple[OutputView, ...]:
    """Return the outputs with addresses good for an hour."""
    expires_at = now + OUTPUT_URL_LIFE
    return tuple(
        replace(
            view,
            url=get_url(
                base_url,
                server_key,
                blob_key(run.key.repository_id, run.id, view.attempt, view.path),
                GetTerms(file_name=view.path.rsplit("/", 1)[-1]),
                expires_at,
            ),
        )
        for view in output_views(run)
    )
