"""What each error of Compute Engine means: every row of a table that peers learned the hard way."""

from __future__ import annotations

from typing import Any

import pytest

from webhook_server.providers.gcp_client import ApiError
from webhook_server.providers.gcp_refusals import (
    failed,
    of_operation,
    of_order,
    of_reading,
    was_preempted,
)
from webhook_server.providers.provider import (
    Misconfigured,
    NoCapacity,
    ProviderUnavailable,
    QuotaExceeded,
    Scope,
)

ZONE = "us-central1-a"


def operation(code: str, message: str = "", status: int = 400, **detail: Any) -> dict[str, Any]:
    error: dict[str, Any] = {"code": code, "message": message or code}
    if detail:
        error["errorDetails"] = [detail]
    return {
        "status": "DONE",
        "operationType": "insert",
        "httpErrorStatusCode": status,
        "error": {"errors": [error]},
    }


@pytest.mark.parametrize(
    ("code", "scope"),
    [
        ("ZONE_RESOURCE_POOL_EXHAUSTED", Scope.ZONE),
        ("ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", Scope.ZONE),
        ("RESOURCE_POOL_EXHAUSTED", Scope.ZONE),
        ("GPU_STOCKOUT", Scope.ZONE),
        ("REGION_RESOURCE_POOL_EXHAUSTED", Scope.REGION),
        ("RESOURCE_NOT_FOUND", Scope.ZONE),
        ("UNSUPPORTED_OPERATION", Scope.ZONE),
        ("VM_MIN_COUNT_NOT_REACHED", Scope.ZONE),
        ("IP_SPACE_EXHAUSTED", Scope.REGION),
        ("IP_SPACE_EXHAUSTED_WITH_DETAILS", Scope.REGION),
    ],
)
def test_a_failed_operation_for_want_of_capacity(code: str, scope: Scope) -> None:
    refusal = of_operation(operation(code, "none left", 503), ZONE)
    assert isinstance(refusal, NoCapacity)
    assert refusal.scope is scope
    assert str(refusal) == "us-central1-a: none left"


def test_a_stockout_tells_where_there_is_some() -> None:
    info = {"reason": "stockout", "metadatas": {"zonesAvailable": "us-central1-b, us-central1-f,"}}
    refusal = of_operation(
        operation("ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", errorInfo=info), ZONE
    )
    assert isinstance(refusal, NoCapacity)
    assert refusal.elsewhere == ("us-central1-b", "us-central1-f")


@pytest.mark.parametrize(
    ("message", "metric", "scope"),
    [
        (
            "Quota 'NVIDIA_L4_GPUS' exceeded.  Limit: 1.0 in region us-central1.",
            "NVIDIA_L4_GPUS",
            Scope.REGION,
        ),
        (
            "Quota 'GPUS_ALL_REGIONS' exceeded.  Limit: 0.0 globally.",
            "GPUS_ALL_REGIONS",
            Scope.EVERYWHERE,
        ),
        ("Quota 'CPUS_ALL_REGIONS' exceeded.", "CPUS_ALL_REGIONS", Scope.EVERYWHERE),
    ],
)
def test_a_quota_is_named_with_its_reach(message: str, metric: str, scope: Scope) -> None:
    both = (
        of_operation(operation("QUOTA_EXCEEDED", message, 403), ZONE),
        of_order(ApiError(message, status=403, reasons=("quotaExceeded",)), ZONE),
    )
    for refusal in both:
        assert isinstance(refusal, QuotaExceeded)
        assert refusal.scope is scope
        assert metric in str(refusal)


def test_a_quota_that_only_a_detail_names() -> None:
    info = {
        "metricName": "compute.googleapis.com/gpus_per_gpu_family",
        "limitName": "GPUS-PER-GPU-FAMILY-per-project-region",
    }
    refusal = of_operation(operation("QUOTA_EXCEEDED", "too much", quotaInfo=info), ZONE)
    assert isinstance(refusal, QuotaExceeded)
    assert "GPUS-PER-GPU-FAMILY-per-project-region" in str(refusal)


@pytest.mark.parametrize(
    "code",
    [
        "CONCURRENT_OPERATIONS_QUOTA_EXCEEDED",
        "RESOURCE_NOT_READY",
        "RESOURCE_OPERATION_RATE_EXCEEDED",
        "SOMETHING_NEW",
    ],
)
def test_what_passes_or_is_unknown_says_nothing(code: str) -> None:
    refusal = of_operation(operation(code, status=503), ZONE)
    assert isinstance(refusal, ProviderUnavailable)


@pytest.mark.parametrize(
    ("status", "reasons", "text", "kind"),
    [
        (400, ("invalid",), "Invalid value for field 'resource.disks'", Misconfigured),
        (
            400,
            ("badRequest",),
            "Instances with guest accelerators do not support live migration",
            Misconfigured,
        ),
        (400, ("INVALID_USAGE",), "no", Misconfigured),
        (401, ("authError",), "Invalid Credentials", Misconfigured),
        (403, ("forbidden",), "Required 'compute.instances.create' permission", Misconfigured),
        (403, ("accessNotConfigured",), "the API is not enabled", Misconfigured),
        (403, ("rateLimitExceeded",), "slow down", ProviderUnavailable),
        (
            404,
            ("notFound",),
            "The resource 'projects/p/zones/z/machineTypes/a9-x' was not found",
            NoCapacity,
        ),
        (
            404,
            ("notFound",),
            "The resource 'projects/p/zones/z/acceleratorTypes/x' was not found",
            NoCapacity,
        ),
        (
            404,
            ("notFound",),
            "The resource 'projects/p/global/images/x' was not found",
            Misconfigured,
        ),
        (
            404,
            ("notFound",),
            "The resource 'projects/p/global/networks/x' was not found",
            Misconfigured,
        ),
        (
            412,
            ("conditionNotMet",),
            "Constraint compute.vmExternalIpAccess violated",
            Misconfigured,
        ),
        (429, (), "slow down", ProviderUnavailable),
        (500, ("backendError",), "oops", ProviderUnavailable),
        (503, (), "oops", ProviderUnavailable),
        (503, ("ZONE_RESOURCE_POOL_EXHAUSTED",), "none left", NoCapacity),
        (None, (), "connection reset", ProviderUnavailable),
    ],
)
def test_a_refused_insert(
    status: int | None, reasons: tuple[str, ...], text: str, kind: type[Exception]
) -> None:
    refusal = of_order(ApiError(text, status=status, reasons=reasons), ZONE)
    assert type(refusal) is kind
    assert text in str(refusal)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, None])
def test_whatever_a_question_is_answered_nothing_is_known_of_the_instance(
    status: int | None,
) -> None:
    refusal = of_reading(ApiError("no", status=status, reasons=("forbidden",)), "get")
    assert type(refusal) is ProviderUnavailable


def test_only_an_operation_that_ended_with_errors_has_failed() -> None:
    assert failed(operation("X"))
    assert not failed({"status": "DONE"})
    assert not failed(operation("X") | {"status": "RUNNING"})


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (operation("PREEMPTED"), True),
        (operation("INTERNAL", "Instance failed to start due to preemption."), True),
        (operation("ZONE_RESOURCE_POOL_EXHAUSTED"), False),
    ],
)
def test_lost_while_starting(made: dict[str, Any], expected: bool) -> None:
    assert was_preempted(made) is expected
