"""Whether the account may have more."""

from __future__ import annotations

from typing import Any

import pytest

from webhook_server.providers.gcp_machines import GPUS
from webhook_server.providers.gcp_quota import NONE_TOLD, Quotas, Wanted, judge, read_quotas
from webhook_server.providers.provider import Scope

L4 = next(gpu for gpu in GPUS if gpu.name == "l4")
H100 = next(gpu for gpu in GPUS if gpu.name == "h100")
REGION = "us-central1"


def quotas(
    project: dict[str, tuple[float, float]] | None = None, **region: tuple[float, float]
) -> Quotas:
    def told(limits: dict[str, tuple[float, float]]) -> list[dict[str, Any]]:
        return [{"metric": m, "limit": limit, "usage": used} for m, (limit, used) in limits.items()]

    return read_quotas([{"name": REGION, "quotas": told(region)}], {"quotas": told(project or {})})


def wanted(**changes: Any) -> Wanted:
    given: dict[str, Any] = {
        "family": "g2",
        "cpu": 4,
        "gpu": L4,
        "gpu_count": 1,
        "disk_type": "pd-balanced",
        "disk_gib": 50,
        "spot": False,
        "address": False,
    }
    return Wanted(**(given | changes))


def test_what_is_free_is_told() -> None:
    verdict = judge(quotas(NVIDIA_L4_GPUS=(8, 5)), REGION, wanted())
    assert verdict.lacking is None
    assert verdict.text == "3 of 8 NVIDIA_L4_GPUS free"


@pytest.mark.parametrize(
    ("limits", "changes", "metric", "never"),
    [
        ({"NVIDIA_L4_GPUS": (0, 0)}, {}, "NVIDIA_L4_GPUS", True),
        ({"NVIDIA_L4_GPUS": (8, 8)}, {}, "NVIDIA_L4_GPUS", False),
        ({"NVIDIA_L4_GPUS": (8, 7)}, {"gpu_count": 2}, "NVIDIA_L4_GPUS", False),
        ({"NVIDIA_L4_GPUS": (8, 0)}, {"gpu_count": 4, "instances": 3}, "NVIDIA_L4_GPUS", True),
        ({"SSD_TOTAL_GB": (40, 0)}, {}, "SSD_TOTAL_GB", True),
        ({"HDB_TOTAL_GB": (40, 0)}, {"disk_type": "hyperdisk-balanced"}, "HDB_TOTAL_GB", True),
        ({"INSTANCES": (24, 24)}, {}, "INSTANCES", False),
        ({"IN_USE_ADDRESSES": (4, 4)}, {"address": True}, "IN_USE_ADDRESSES", False),
        ({"CPUS": (8, 0)}, {"family": "n1", "cpu": 16}, "CPUS", True),
        ({"A2_CPUS": (8, 0)}, {"family": "a2", "cpu": 12}, "A2_CPUS", True),
    ],
)
def test_what_is_lacking_is_named_and_whether_waiting_helps(
    limits: dict[str, tuple[float, float]], changes: dict[str, Any], metric: str, never: bool
) -> None:
    verdict = judge(quotas(**limits), REGION, wanted(**changes))
    assert verdict.lacking is not None
    assert (verdict.lacking.metric, verdict.never, verdict.scope) == (metric, never, Scope.REGION)


def test_what_is_not_told_is_left_to_the_order() -> None:
    assert judge(NONE_TOLD, REGION, wanted()).lacking is None
    assert judge(quotas(NVIDIA_L4_GPUS=(0, 0)), REGION, wanted(gpu=H100)).lacking is None
    assert judge(quotas(NVIDIA_L4_GPUS=(0, 0)), "europe-west4", wanted()).lacking is None
    assert judge(quotas(CPUS=(0, 0)), REGION, wanted(family="g2")).lacking is None
    assert judge(quotas(IN_USE_ADDRESSES=(0, 0)), REGION, wanted()).lacking is None


def test_spot_has_its_own_quota_or_shares_the_usual_one() -> None:
    own = quotas(PREEMPTIBLE_NVIDIA_L4_GPUS=(4, 0), NVIDIA_L4_GPUS=(0, 0))
    assert judge(own, REGION, wanted(spot=True)).text == "4 of 4 PREEMPTIBLE_NVIDIA_L4_GPUS free"
    shared = quotas(PREEMPTIBLE_NVIDIA_L4_GPUS=(0, 0), NVIDIA_L4_GPUS=(4, 0))
    assert judge(shared, REGION, wanted(spot=True)).text == "4 of 4 NVIDIA_L4_GPUS free"
    none = quotas(PREEMPTIBLE_NVIDIA_L4_GPUS=(0, 0), NVIDIA_L4_GPUS=(0, 0))
    lacking = judge(none, REGION, wanted(spot=True)).lacking
    assert lacking is not None
    assert lacking.metric == "PREEMPTIBLE_NVIDIA_L4_GPUS"


def test_the_global_quota_reaches_everywhere() -> None:
    verdict = judge(quotas({"GPUS_ALL_REGIONS": (0, 0)}, NVIDIA_L4_GPUS=(8, 0)), REGION, wanted())
    assert verdict.lacking is not None
    assert (verdict.lacking.metric, verdict.scope) == ("GPUS_ALL_REGIONS", Scope.EVERYWHERE)
    assert verdict.never


def test_a_limit_that_is_too_small_is_told_before_one_that_is_used_up() -> None:
    verdict = judge(quotas({"GPUS_ALL_REGIONS": (0, 0)}, NVIDIA_L4_GPUS=(8, 8)), REGION, wanted())
    assert verdict.lacking is not None
    assert verdict.lacking.metric == "GPUS_ALL_REGIONS"
