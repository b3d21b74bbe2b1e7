"""Sum up what a run uses of its machine, in memory that stays the same for a week: pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from webhook_server.runs.spark import SPARK_WIDTH

_MOST_GPUS = 64  # of a gang eight instances of eight: a larger one's are alike
_PERCENT = 100.0


@dataclass(frozen=True, kw_only=True)
class Gauge:
    """One measured thing over an attempt's life."""

    mean: float
    peak: float
    course: tuple[float, ...]  # means of equal shares, oldest first, at most SPARK_WIDTH


@dataclass(frozen=True, kw_only=True)
class GpuUsage:
    """What a run uses of one GPU."""

    rank: int  # of its instance in a gang, else 0
    index: int
    busy: Gauge | None  # percent of the time in which a kernel ran
    memory: Gauge | None  # bytes
    memory_total: int | None  # bytes


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What the newest attempt uses, as its samples tell."""

    samples: int = 0
    cpu: Gauge | None = None  # percent of one core; of a gang the mean of its instances
    memory: Gauge | None = None  # bytes of the host's memory, of one instance
    memory_limit: int | None = None  # bytes; None: the machine's own
    gpus: tuple[GpuUsage, ...] = ()


@dataclass
class Meter:
    """Takes numbers, keeps their mean, their peak and a course of SPARK_WIDTH shares at most."""

    count: int = 0
    total: float = 0.0
    peak: float = 0.0
    shares: list[tuple[float, int]] = field(default_factory=list)  # sum and count of each
    width: int = 1  # numbers a full share holds

    def add(self, value: float) -> None:
        """Take one number."""
        self.peak = value if self.count == 0 else max(self.peak, value)
        self.count, self.total = self.count + 1, self.total + value
        if self.shares and self.shares[-1][1] < self.width:
            whole, number = self.shares[-1]
            self.shares[-1] = (whole + value, number + 1)
            return
        if len(self.shares) == SPARK_WIDTH:
            self._halve()
        self.shares.append((value, 1))

    def _halve(self) -> None:
        pairs = zip(self.shares[::2], self.shares[1::2], strict=True)
        self.shares = [(a + b, count + more) for (a, count), (b, more) in pairs]
        self.width *= 2

    def gauge(self) -> Gauge | None:
        """Return what was taken so far; None: nothing."""
        if not self.count:
            return None
        course = tuple(whole / number for whole, number in self.shares)
        return Gauge(mean=self.total / self.count, peak=self.peak, course=course)


@dataclass
class GpuMeter:
    """The meters of one GPU."""

    busy: Meter = field(default_factory=Meter)
    memory: Meter = field(default_factory=Meter)
    memory_total: int | None = None


@dataclass
class UsageMeter:
    """Takes the samples of one attempt, in any order, from all its instances."""

    samples: int = 0
    cpu: Meter = field(default_factory=Meter)
    memory: Meter = field(default_factory=Meter)
    memory_limit: int | None = None
    gpus: dict[tuple[int, int], GpuMeter] = field(default_factory=dict)

    def add(self, body: Mapping[str, object], rank: int = 0) -> None:
        """Take the body of a `sample` event; what is no number in it is left out."""
        self.samples += 1
        _take(self.cpu, body.get("cpu_pct"))
        _take(self.memory, body.get("memory_bytes"))
        self.memory_limit = _size(body.get("memory_limit_bytes")) or self.memory_limit
        gpus = body.get("gpus")
        for place, gpu in enumerate(gpus if isinstance(gpus, list) else []):
            if isinstance(gpu, Mapping):
                self._add_gpu((rank, place), gpu)

    def _add_gpu(self, key: tuple[int, int], body: Mapping[str, object]) -> None:
        if key not in self.gpus and len(self.gpus) >= _MOST_GPUS:
            return
        meter = self.gpus.setdefault(key, GpuMeter())
        _take(meter.busy, body.get("utilization_pct"))
        _take(meter.memory, body.get("memory_bytes"))
        meter.memory_total = _size(body.get("memory_total_bytes")) or meter.memory_total

    def usage(self) -> Usage:
        """Return what was taken so far."""
        return Usage(
            samples=self.samples,
            cpu=self.cpu.gauge(),
            memory=self.memory.gauge(),
            memory_limit=self.memory_limit,
            gpus=tuple(
                GpuUsage(
                    rank=rank,
                    index=index,
                    busy=meter.busy.gauge(),
                    memory=meter.memory.gauge(),
                    memory_total=meter.memory_total,
                )
                for (rank, index), meter in sorted(self.gpus.items())
            ),
        )


def _take(meter: Meter, value: object) -> None:
    number = _number(value)
    if number is not None:
        meter.add(number)


def _size(value: object) -> int | None:
    number = _number(value)
    return int(number) if number else None


def _number(value: object) -> float | None:
    """Return what a machine can have used: the samples are the instance's own claim."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    # 10^18 bytes are a million times any machine's memory: sums of such stay finite for ever.
    return number if math.isfinite(number) and 0 <= number <= 1e18 else None  # noqa: PLR2004


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table of what is used."""

    what: str
    mean: str
    peak: str
    course: tuple[float, ...]
    full: float | None  # what the whole of it would be, for a chart; None: not known


_GPU_ROWS = 16  # of two rows each: more is in the live view


def rows(usage: Usage, *, cpus: int | None) -> tuple[Row, ...]:
    """Return what is used as lines for people: decimal units, percent, cores."""
    found: list[Row] = []
    ranks = len({gpu.rank for gpu in usage.gpus}) > 1
    for gpu in usage.gpus[:_GPU_ROWS]:
        name = f"rank {gpu.rank} GPU {gpu.index}" if ranks else f"GPU {gpu.index}"
        if gpu.busy:
            found.append(_busy_row(name, gpu.busy))
        if gpu.memory:
            found.append(_bytes_row(f"{name} memory", gpu.memory, gpu.memory_total))
    if usage.cpu:
        found.append(_cpu_row(usage.cpu, cpus))
    if usage.memory:
        found.append(_bytes_row("memory", usage.memory, usage.memory_limit))
    return tuple(found)


def _busy_row(name: str, busy: Gauge) -> Row:
    return Row(
        what=f"{name} busy",
        mean=f"{busy.mean:.0f} %",
        peak=f"{busy.peak:.0f} %",
        course=busy.course,
        full=_PERCENT,
    )


def _cpu_row(cpu: Gauge, cpus: int | None) -> Row:
    most = f" of {cpus}" if cpus else ""
    return Row(
        what="CPU cores",
        mean=f"{cpu.mean / _PERCENT:.1f}",
        peak=f"{cpu.peak / _PERCENT:.1f}{most}",
        course=cpu.course,
        full=cpus * _PERCENT if cpus else None,
    )


def _bytes_row(what: str, used: Gauge, whole: int | None) -> Row:
    most = f" of {amount(whole)}" if whole else ""
    return Row(
        what=what,
        mean=amount(used.mean),
        peak=f"{amount(used.peak)}{most}",
        course=used.course,
        full=float(whole) if whole else None,
    )


def amount(size: float) -> str:
    """Return bytes such as 1.5 GB, in decimal units as GitHub and clouds count."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size:.0f} B"
