"""What a run uses, summed up in memory that does not grow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook_server.runs.spark import SPARK_WIDTH, bar, sparkline
from webhook_server.runs.usage import Meter, UsageMeter, amount, rows


def a_sample(busy: float = 50.0, **changes: object) -> dict[str, object]:
    gpu = {"utilization_pct": busy, "memory_bytes": 6e9, "memory_total_bytes": 24e9}
    return {
        "cpu_pct": 150.0,
        "memory_bytes": 4e9,
        "memory_limit_bytes": 16_000_000_000,
        "gpus": [gpu],
    } | changes


@given(st.lists(st.floats(min_value=0, max_value=1e6), min_size=1, max_size=2000))
def test_a_meter_keeps_mean_and_peak_exactly_and_a_course_of_bounded_length(
    values: list[float],
) -> None:
    meter = Meter()
    for value in values:
        meter.add(value)
    gauge = meter.gauge()
    assert gauge is not None
    assert gauge.peak == max(values)
    assert gauge.mean == pytest.approx(sum(values) / len(values))
    assert min(len(values), SPARK_WIDTH // 2) <= len(gauge.course) <= SPARK_WIDTH
    assert sum(number for _, number in meter.shares) == len(values)
    assert all(number == meter.width for _, number in meter.shares[:-1])


def test_a_week_of_samples_takes_no_more_memory_than_an_hour() -> None:
    meter = UsageMeter()
    for number in range(60_480):  # every ten seconds
        meter.add(a_sample(busy=float(number % 100)))
    usage = meter.usage()
    [gpu] = usage.gpus
    assert usage.samples == 60_480
    assert gpu.busy is not None
    assert len(gpu.busy.course) <= SPARK_WIDTH
    assert len(meter.gpus[0, 0].busy.shares) <= SPARK_WIDTH


def test_what_is_used_is_told_beside_what_there_is() -> None:
    meter = UsageMeter()
    for busy in (0.0, 100.0):
        meter.add(a_sample(busy=busy))
    told = [(row.what, row.mean, row.peak) for row in rows(meter.usage(), cpus=4)]
    assert told == [
        ("GPU 0 busy", "50 %", "100 %"),
        ("GPU 0 memory", "6.0 GB", "6.0 GB of 24.0 GB"),
        ("CPU cores", "1.5", "1.5 of 4"),
        ("memory", "4.0 GB", "4.0 GB of 16.0 GB"),
    ]


def test_the_gpus_of_a_gang_are_told_apart() -> None:
    meter = UsageMeter()
    meter.add(a_sample(), 0)
    meter.add(a_sample(), 1)
    told = [row.what for row in rows(meter.usage(), cpus=None)]
    assert told[0] == "rank 0 GPU 0 busy"
    assert "rank 1 GPU 0 memory" in told


@pytest.mark.parametrize("odd", [None, "x", True, -1.0, float("nan"), float("inf"), 10**400, []])
def test_what_is_no_amount_is_left_out(odd: object) -> None:
    meter = UsageMeter()
    gpu = {"utilization_pct": odd, "memory_bytes": odd, "memory_total_bytes": odd}
    meter.add({"cpu_pct": odd, "memory_bytes": odd, "memory_limit_bytes": odd, "gpus": [gpu, odd]})
    meter.add({"gpus": odd})
    assert rows(meter.usage(), cpus=None) == ()


def test_no_claim_of_many_gpus_fills_the_memory() -> None:
    meter = UsageMeter()
    for rank in range(1000):
        meter.add(a_sample(), rank)
    assert len(meter.gpus) == 64
    assert len(rows(meter.usage(), cpus=None)) == 16 * 2 + 2


@pytest.mark.parametrize(
    ("size", "told"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2.5e12, "2.5 TB")]
)
def test_bytes_read_well(size: float, told: str) -> None:
    assert amount(size) == told


@pytest.mark.parametrize(
    ("share", "drawn"),
    [(0.0, ""), (0.0001, "▏"), (0.5, "██"), (0.56, "██▎"), (1.0, "████"), (7.0, "████"), (-1, "")],
)
def test_a_bar_is_as_long_as_its_share(share: float, drawn: str) -> None:
    assert bar(share, 4) == drawn


def test_a_chart_of_shares_is_drawn_from_nothing_to_all() -> None:
    assert sparkline((0.0, 50.0, 100.0), low=0, high=100) == "▁▅█"
    assert sparkline((90.0, 91.0), low=0, high=100) == "▇▇"
    assert sparkline((150.0, -5.0), low=0, high=100) == "█▁"
