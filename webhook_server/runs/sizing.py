"""Say, after a run, whether a cheaper machine would have held it too: pure.

A GPU that is busy less than 30 % of the time waits for something else (data, one core, the disk);
one whose memory is used less than 30 % is larger than it need be. Nothing is said of runs that
failed or were short: they show a beginning, not the work.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from cynthus.frozen import replace
from cynthus.money import usd, usd_left
from cynthus.spec import GpuNeed, Resources, Spec
from webhook_server.runs.environments import new_enough
from webhook_server.runs.gpu_memory import GPU_MEMORY
from webhook_server.runs.headline import place_text
from webhook_server.runs.lending import Offer
from webhook_server.runs.limits import price
from webhook_server.runs.model import Attempt, Outcome, Run
from webhook_server.runs.usage import GpuUsage, Usage, amount

LITTLE = 0.30  # of what is lent: below it something cheaper may do
HEADROOM = 1.5  # on the peak: another seed or a longer input must not run out of memory
SHORTEST = timedelta(minutes=5)
BUSY = 60.0  # percent: above it the GPU is what the work waits for, and a smaller one is slower
WORTH = Decimal("0.9")  # of today's price: a smaller difference is gone with the next price list
_PERCENT = 100.0
_CONTEXT = 10**9  # bytes: a CUDA context alone takes some hundred MB; less is no use of a GPU
_CENT = Decimal("0.01")
_GIB = 1 << 30
_GPU_KEY = re.compile(r"^[ \t]*(?:-[ \t]+)?gpu[ \t]*:", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Advice:
    """What to write into the spec, and what it saves."""

    text: str
    gpu: str | None = None  # what `resources/gpu` should be; empty: nothing; None: it may stay
    line: int | None = None  # of the spec's file, where that stands


@dataclass(frozen=True, kw_only=True)
class _Ran:
    """A run that is worth a look."""

    spec: Spec
    attempt: Attempt
    time: timedelta  # for which its machine was paid


def wish(run: Run, usage: Usage) -> Resources | None:
    """Return what the run would have been content with; None: there is nothing to say."""
    ran = _ran(run)
    if ran is None or not any(_findings(ran.attempt.offer, usage)):
        return None
    offer = ran.attempt.offer
    gpu = _gpu_wish(offer, usage)
    if gpu is None:
        return None
    cores = math.ceil(usage.cpu.peak / _PERCENT) if usage.cpu else offer.cpu
    held = usage.memory.peak * HEADROOM if usage.memory else offer.memory_bytes
    return replace(
        ran.spec.resources,
        gpu=gpu,
        cpu=min(max(cores, 1), offer.cpu),
        memory_bytes=min(math.ceil(held / _GIB) * _GIB, offer.memory_bytes),
    )


def advice(run: Run, usage: Usage, offers: Sequence[Offer]) -> Advice | None:
    """Return what the cheapest of the offers would save; None: none is worth the words.

    `offers` are those for `wish`: every one of them would hold the run.
    """
    ran = _ran(run)
    if ran is None:
        return None
    now = ran.attempt.offer
    cheaper = [
        offer
        for offer in new_enough(offers, run.environment)
        if offer.spot == now.spot and offer.usd_per_hour < now.usd_per_hour * WORTH
    ]
    best = min(cheaper, key=lambda o: (o.usd_per_hour, o.place != now.place), default=None)
    if best is None:
        return None
    changed = (best.gpu_type, best.gpu_count) != (now.gpu_type, now.gpu_count)
    return Advice(text=_text(ran, usage, best), gpu=_gpu_word(best) if changed else None)


def placed(advice: Advice, run: Run, spec_text: str) -> Advice:
    """Return the advice with the line that it is about, where the file has exactly one such."""
    overridden = any(key.rpartition(".")[2] == "gpu" for key, _ in run.origin.overrides)
    found = list(_GPU_KEY.finditer(spec_text))
    if advice.gpu is None or overridden or len(found) != 1:
        return advice
    return replace(advice, line=spec_text.count("\n", 0, found[0].start()) + 1)


def remark(advice: Advice) -> str:
    """Return what the remark on the spec's line says."""
    do = f"gpu: {advice.gpu}" if advice.gpu else "(no gpu: at all)"
    return f"{advice.text}\n\nWrite instead:\n\n    {do}"


# ── what was found ──────────────────────────────────────────────────────────────────────────────


def _ran(run: Run) -> _Ran | None:
    attempt = run.attempt
    if run.outcome is not Outcome.SUCCEEDED or run.spec is None or attempt is None:
        return None
    if attempt.started_at is None or attempt.ended_at is None or attempt.offer.usd_per_hour <= 0:
        return None
    if attempt.ended_at - attempt.started_at < SHORTEST:
        return None
    ended = attempt.gone_at or attempt.ended_at
    return _Ran(spec=run.spec, attempt=attempt, time=ended - attempt.ordered_at)


def _findings(offer: Offer, usage: Usage) -> Iterator[str]:
    """Yield what was little used, in words."""
    busy = [gpu.busy.mean for gpu in usage.gpus if gpu.busy]
    if busy and sum(busy) / len(busy) < LITTLE * _PERCENT:
        yield f"the GPU was busy {sum(busy) / len(busy):.0f} % of the time"
    fullest = max((_filled(gpu) for gpu in usage.gpus), default=None)
    if fullest is not None and 0 <= fullest < LITTLE:
        peak = max(gpu.memory.peak for gpu in usage.gpus if gpu.memory)
        yield f"at most {amount(peak)} of a GPU's memory were used ({fullest:.0%})"
    whole = usage.memory_limit or offer.memory_bytes
    if usage.memory and usage.memory.peak < LITTLE * whole:
        yield f"at most {amount(usage.memory.peak)} of {amount(whole)} memory were used"


def _filled(gpu: GpuUsage) -> float:
    """Return the share of a GPU's memory at its peak; not known: as if it were full."""
    return gpu.memory.peak / gpu.memory_total if gpu.memory and gpu.memory_total else 1.0


# ── what would do ───────────────────────────────────────────────────────────────────────────────


def _gpu_wish(offer: Offer, usage: Usage) -> tuple[GpuNeed, ...] | None:
    """Return the GPUs that would hold it, smallest memory first; None: it cannot be told."""
    if not offer.gpu_count:
        return ()
    known = [gpu for gpu in usage.gpus if gpu.busy and gpu.memory]
    if len(known) < len(usage.gpus) or not known:
        return None
    ranks = {gpu.rank for gpu in known}
    count = max(sum(_used(gpu) for gpu in known if gpu.rank == rank) for rank in ranks)
    if count == 0:
        return ()
    need = max(gpu.memory.peak for gpu in known if gpu.memory) * HEADROOM
    types = sorted(GPU_MEMORY, key=lambda name: GPU_MEMORY[name])
    return tuple(GpuNeed(name, count) for name in types if GPU_MEMORY[name] >= need) or None


def _used(gpu: GpuUsage) -> bool:
    worked = gpu.busy is not None and gpu.busy.peak > 0
    return worked or (gpu.memory is not None and gpu.memory.peak > _CONTEXT)


def _gpu_word(offer: Offer) -> str:
    if not offer.gpu_type:
        return ""
    return offer.gpu_type if offer.gpu_count == 1 else f"{offer.gpu_type}:{offer.gpu_count}"


# ── the words ───────────────────────────────────────────────────────────────────────────────────


def _text(ran: _Ran, usage: Usage, best: Offer) -> str:
    now, nodes = ran.attempt.offer, len(ran.attempt.members)
    found = " and ".join(_findings(now, usage))
    less = (now.usd_per_hour - best.usd_per_hour) * nodes
    saved = price(less, ran.time)
    whole = usd_left(saved) if saved >= _CENT else "less than a cent"
    machine = "" if best.machine == best.place else f" ({best.machine})"
    return (
        f"{found[:1].upper()}{found[1:]}. {place_text(best, nodes=nodes)}{machine} would have held"
        f" it with half as much again to spare, for {usd(best.usd_per_hour)} instead of"
        f" {usd(now.usd_per_hour)} an hour{' each' if nodes > 1 else ''}: {usd_left(less)} an hour"
        f" less, {whole} for a run like this one, if it takes no longer"
        f" there.{_slower(ran, usage, best)}{_sizes(ran, best)}"
    )


def _slower(ran: _Ran, usage: Usage, best: Offer) -> str:
    busiest = max((gpu.busy.mean for gpu in usage.gpus if gpu.busy), default=0.0)
    if best.gpu_type == ran.attempt.offer.gpu_type or busiest < BUSY:
        return ""
    return f" It kept its GPU busy {busiest:.0f} % of the time: try how much longer it takes there."


def _sizes(ran: _Ran, best: Offer) -> str:
    """Say which other keys of the spec keep it on the dearer machine."""
    need = ran.spec.resources
    keys = []
    if need.memory_bytes is not None and need.memory_bytes > best.memory_bytes:
        keys.append(f"memory: {best.memory_bytes // _GIB}GiB")
    if need.cpu is not None and need.cpu > best.cpu:
        keys.append(f"cpu: {best.cpu}")
    return f" It takes {' and '.join(keys)} in the spec's resources." if keys else ""
