"""Whether a cheaper machine would have done."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from cynthus.spec import GpuNeed, Resources
from tests.builders import NOON, a_kept, a_run, a_spec, an_attempt, an_offer
from webhook_server.providers.gcp_machines import GPUS
from webhook_server.runs.gpu_memory import GPU_MEMORY
from webhook_server.runs.lending import Offer
from webhook_server.runs.model import Origin, Outcome, Run, State
from webhook_server.runs.sizing import Advice, advice, placed, remark, wish
from webhook_server.runs.usage import Usage, UsageMeter

GB, GIB = 10**9, 1 << 30
AN_HOUR = timedelta(hours=1)


def an_l4(**changes: Any) -> Offer:
    given = {
        "provider": "gcp",
        "place": "us-central1-a",
        "machine": "g2-standard-8",
        "gpu_type": "l4",
        "gpu_count": 1,
        "cpu": 8,
        "memory_bytes": 32 * GIB,
        "usd_per_hour": Decimal("0.85"),
    }
    return an_offer(**(given | changes))


T4 = an_l4(gpu_type="t4", machine="n1-standard-4", usd_per_hour=Decimal("0.54"), cpu=4)


def ended(offer: Offer | None = None, took: timedelta = AN_HOUR, **changes: Any) -> Run:
    attempt = an_attempt(
        offer=offer or an_l4(), started_at=NOON, ended_at=NOON + took, gone_at=NOON + took
    )
    spec = a_spec(resources=Resources(gpu=(GpuNeed("l4"),)))
    given = {"spec": spec, "outcome": Outcome.SUCCEEDED, "attempts": (attempt,)}
    return replace(a_run(State.FINISHED), **(given | changes))


def used(*gpus: tuple[float, float], memory: float = 20 * GB, cpu: float = 120.0) -> Usage:
    meter = UsageMeter()
    meter.add(
        {
            "cpu_pct": cpu,
            "memory_bytes": memory,
            "gpus": [
                {
                    "utilization_pct": busy,
                    "memory_bytes": filled * 24 * GB,
                    "memory_total_bytes": 24 * GB,
                }
                for busy, filled in gpus
            ],
        }
    )
    return meter.usage()


# ── what the run would have been content with ───────────────────────────────────────────────────


def test_an_idle_gpu_may_be_any_that_holds_its_memory_half_as_much_again() -> None:
    need = wish(ended(), used((10.0, 0.6)))  # 14.4 GB, with room 21.6 GB
    assert need is not None
    assert [gpu.type for gpu in need.gpu][:2] == ["l4", "a100-40gb"]
    assert (need.cpu, need.memory_bytes) == (2, 28 * GIB)
    small = wish(ended(), used((10.0, 0.4)))  # 9.6 GB, with room 14.4 GB
    assert small is not None
    assert small.gpu[0] == GpuNeed("t4", 1)


@pytest.mark.parametrize(
    ("usage", "something"),
    [
        (used((90.0, 0.9)), False),
        (used((29.0, 0.9)), True),
        (used((30.0, 0.9)), False),
        (used((90.0, 0.29)), True),
        (used((90.0, 0.9), memory=3 * GB), True),
        (Usage(), False),
    ],
)
def test_below_thirty_percent_there_is_something_to_say(usage: Usage, something: bool) -> None:
    assert (wish(ended(), usage) is not None) == something


@pytest.mark.parametrize(
    "run",
    [
        ended(took=timedelta(minutes=4, seconds=59)),
        ended(outcome=Outcome.FAILED),
        ended(outcome=None),
        ended(attempts=()),
        ended(spec=None),
        ended(an_l4(usd_per_hour=Decimal(0))),
    ],
)
def test_short_failed_and_free_runs_show_nothing_of_the_kind(run: Run) -> None:
    assert wish(run, used((1.0, 0.1))) is None
    assert advice(run, used((1.0, 0.1)), [T4]) is None


def test_gpus_that_did_nothing_are_left_out() -> None:
    pair = an_l4(gpu_count=2)
    one = wish(ended(pair), used((80.0, 0.8), (0.0, 0.01)))
    assert one is None, "busy 40 % on average, and full: nothing to say"
    one = wish(ended(pair), used((40.0, 0.5), (0.0, 0.01)))
    assert one is not None
    assert {gpu.count for gpu in one.gpu} == {1}
    none = wish(ended(), used((0.0, 0.02)))
    assert none is not None
    assert none.gpu == ()


def test_of_a_gpu_that_tells_nothing_nothing_is_said() -> None:
    meter = UsageMeter()
    meter.add({"memory_bytes": 1e9, "gpus": [{"temperature_c": 40}]})
    assert wish(ended(), meter.usage()) is None


def test_a_run_without_gpu_is_judged_by_its_memory() -> None:
    plain = an_offer(cpu=16, memory_bytes=64 * GIB)
    need = wish(ended(plain), used(memory=4 * GB))
    assert need is not None
    assert (need.gpu, need.cpu, need.memory_bytes) == ((), 2, 6 * GIB)


# ── the cheapest that would do ──────────────────────────────────────────────────────────────────


def test_the_cheaper_offer_is_named_with_what_it_saves() -> None:
    found = advice(ended(), used((12.0, 0.2)), [an_l4(), T4])
    assert found == Advice(
        text=(
            "The GPU was busy 12 % of the time and at most 4.8 GB of a GPU's memory were used"
            " (20%). T4 us-central1-a (n1-standard-4) would have held it with half as much again"
            " to spare, for $0.54 instead of $0.85 an hour: $0.31 an hour less, $0.31 for a run"
            " like this one, if it takes no longer there."
        ),
        gpu="t4",
    )


def test_a_busy_gpu_is_slower_when_it_is_smaller_and_that_is_said() -> None:
    found = advice(ended(), used((92.0, 0.2)), [T4])
    assert found is not None
    assert "It kept its GPU busy 92 % of the time: try how much longer it takes" in found.text


@pytest.mark.parametrize(
    "other",
    [
        replace(T4, spot=True),
        replace(T4, usd_per_hour=Decimal("0.80")),
        replace(T4, driver="450.1"),
    ],
)
def test_another_kind_a_small_difference_and_too_old_a_driver_are_no_advice(other: Offer) -> None:
    assert advice(ended(environment=a_kept()), used((12.0, 0.2)), [other]) is None


def test_the_same_gpu_on_a_smaller_machine_names_the_keys_that_keep_it_from_it() -> None:
    small = an_l4(
        machine="g2-standard-4", cpu=4, memory_bytes=16 * GIB, usd_per_hour=Decimal("0.7")
    )
    spec = a_spec(resources=Resources(gpu=(GpuNeed("l4"),), cpu=8, memory_bytes=32 * GIB))
    found = advice(ended(spec=spec), used((80.0, 0.8), memory=2 * GB), [small])
    assert found is not None
    assert found.text.endswith("It takes memory: 16GiB and cpu: 4 in the spec's resources.")
    assert found.gpu is None


# ── the line it belongs to ──────────────────────────────────────────────────────────────────────

SPEC = "version: 1\nname: digits\nrun: x\nresources:\n  gpu: l4\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (SPEC, 5),
        ("resources: {gpu: l4}\n", None),
        (SPEC + "env:\n  gpu: yes\n", None),
        ("", None),
    ],
)
def test_the_remark_stands_on_the_one_line_that_it_is_about(text: str, line: int | None) -> None:
    assert placed(Advice(text="x", gpu="t4"), ended(), text).line == line


def test_a_line_that_was_not_followed_gets_no_remark() -> None:
    run = ended(origin=Origin(overrides=(("resources.gpu", "l4"),)))
    assert placed(Advice(text="x", gpu="t4"), run, SPEC).line is None
    assert placed(Advice(text="x"), ended(), SPEC).line is None


def test_the_remark_says_what_to_write() -> None:
    assert remark(Advice(text="x", gpu="t4:2")).endswith("\n    gpu: t4:2")
    assert remark(Advice(text="x", gpu="")).endswith("\n    (no gpu: at all)")


def test_every_gpu_of_the_table_is_one_that_is_lent() -> None:
    assert set(GPU_MEMORY) <= {gpu.name for gpu in GPUS}
