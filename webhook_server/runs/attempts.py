"""Tell the attempts of a run as a table: where, how long, why they ended, what was lost: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal

from cynthus.money import usd
from cynthus.wire import Mark
from webhook_server.runs.hostile import inline
from webhook_server.runs.lending import Offer
from webhook_server.runs.limits import attempt_cost
from webhook_server.runs.model import Attempt, Run

_SHOWN = 20
_HEAD = (
    "### Attempts",
    "| # | place | machine | ran | lost | cost | ended |",
    "|---:|---|---|---:|---:|---:|---|",
)
#: The steps of a boot as people call them; others are shown by their own name.
STEP_WORDS = {
    "provided": "provisioned",
    "driver_ready": "driver",
    "agent_started": "agent",
    "enrolled": "first beat",
    "image_pulled": "pull",
    "first_output": "first line",
}


def lost_time(attempt: Attempt) -> timedelta:
    """Return how long a lost attempt ran for nothing."""
    if not attempt.lost or attempt.started_at is None or attempt.ended_at is None:
        return timedelta(0)
    return max(attempt.ended_at - attempt.started_at, timedelta(0))


def boot_marks(attempt: Attempt, told: Sequence[Mark]) -> tuple[Mark, ...]:
    """Return the steps of the boot in their order: the provider's word, then the agent's."""
    provided = [member.provided_at for member in attempt.members if member.provided_at]
    own = [Mark(name="provided", at=max(provided))] if provided else []
    first: dict[str, Mark] = {}
    for mark in (*own, *told):
        first.setdefault(mark.name, mark)
    return tuple(sorted(first.values(), key=lambda mark: mark.at))


def machine_text(offer: Offer, *, nodes: int) -> str:
    """Return the machine with its GPUs, such as `2 x g2-standard-4, 1 l4`; empty: nothing to say.

    This machine's own provider has one word for place and machine.
    """
    machine = "" if offer.machine == offer.place else offer.machine
    count = f"{nodes} x {machine or 'instance'}" if nodes > 1 else machine
    gpu = f"{offer.gpu_count} {offer.gpu_type}" if offer.gpu_type else ""
    return ", ".join(word for word in (count, gpu) if word)


def step_word(name: str) -> str:
    """Return what people call a step of the boot."""
    return STEP_WORDS.get(name, name)


def kept_notice(run: Run) -> str | None:
    """Say that the run's instance waits for the repository's next run, until when, at what price.

    It stays true when the instance is taken earlier: the moment is the latest end.
    """
    attempt = run.attempt
    if attempt is None or attempt.kept_until is None:
        return None
    return (
        f"The instance is kept warm until {attempt.kept_until:%H:%M} UTC at the latest for this"
        f" repository's next run, {usd(attempt.offer.usd_per_hour)} an hour."
    )


def table(run: Run, marks: Mapping[int, Sequence[Mark]]) -> str:
    """Return the attempts as Markdown; empty before the first order."""
    if not run.attempts:
        return ""
    shown = run.attempts[-_SHOWN:]
    lines = [*_HEAD, *(_row(attempt) for attempt in shown)]
    boots = [_boot(attempt, marks.get(attempt.number, ())) for attempt in shown[-3:]]
    return "\n\n".join(part for part in ("\n".join(lines), _losses(run), *boots) if part)


def _row(attempt: Attempt) -> str:
    offer = attempt.offer
    spot = "spot" if offer.spot else ""
    warm = f"kept warm by run {offer.warm_run}" if offer.warm_run else ""
    machine = machine_text(offer, nodes=len(attempt.members))
    what = ", ".join(word for word in (machine, spot, warm) if word)
    place = ", ".join(dict.fromkeys((offer.place, offer.provider)))
    why = inline(attempt.reason.text, 200) if attempt.reason else ""
    return (
        f"| {attempt.number} | {inline(place, 120)} | {inline(what, 120)} | {_ran(attempt)} "
        f"| {_span(lost_time(attempt))} | {_price(attempt)} | {why} |"
    )


def _ran(attempt: Attempt) -> str:
    # A live attempt shows no time and no cost: the text would be another one every second.
    if attempt.started_at is None or attempt.ended_at is None:
        return ""
    return _span(attempt.ended_at - attempt.started_at)


def _price(attempt: Attempt) -> str:
    per_hour = f"${attempt.offer.usd_per_hour}/h"
    gone_at = attempt.gone_at
    return f"{usd(attempt_cost(attempt, gone_at))} ({per_hour})" if gone_at else per_hour


def _losses(run: Run) -> str:
    lost = [attempt for attempt in run.attempts if attempt.lost]
    time = sum((lost_time(attempt) for attempt in lost), timedelta(0))
    ended = [attempt_cost(a, a.gone_at) for a in lost if a.gone_at is not None]
    if not time:
        return ""
    extra = sum(ended, Decimal(0))
    return f"Lost to the infrastructure: {_span(time)} of running and {usd(extra)}."


def _boot(attempt: Attempt, told: Sequence[Mark]) -> str:
    steps = [
        f"{inline(step_word(mark.name), 40)} {span(mark.at - attempt.ordered_at)}"
        for mark in boot_marks(attempt, told)
    ]
    return f"Attempt {attempt.number} after the order: {', '.join(steps)}." if steps else ""


def _span(duration: timedelta) -> str:
    return span(duration) if duration else ""


def span(duration: timedelta) -> str:
    """Return a duration such as 3m12s."""
    seconds = max(int(duration.total_seconds()), 0)
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days}d{hours}h"
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{seconds % 60:02}s" if minutes else f"{seconds}s"
