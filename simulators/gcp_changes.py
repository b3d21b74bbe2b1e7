"""What Compute Engine demands of a change to an instance that exists: pure rules."""

from __future__ import annotations

from simulators.gcp_compute_shapes import bad_request
from simulators.gcp_http import GoogleError
from simulators.gcp_labels import check_labels, check_metadata
from simulators.gcp_shape import check_shape
from simulators.gcp_state import Doc


def check_new_labels(doc: Doc, body: Doc) -> None:
    """Refuse bad labels, and those set without having seen the present ones."""
    check_shape(body, "InstancesSetLabelsRequest")
    check_labels(body.get("labels") or {})
    if body.get("labelFingerprint") != doc["labelFingerprint"]:
        raise GoogleError(
            412,
            "Labels fingerprint either invalid or resource labels have changed",
            reason="conditionNotMet",
        )


def check_new_metadata(doc: Doc, body: Doc) -> None:
    """Refuse bad metadata, and those set without having seen the present ones."""
    check_shape(body, "Metadata")
    check_metadata(body)
    if body.get("fingerprint") != doc["metadata"]["fingerprint"]:
        raise GoogleError(
            412,
            "Supplied fingerprint does not match current metadata fingerprint.",
            reason="conditionNotMet",
        )


def check_new_scheduling(doc: Doc, body: Doc) -> None:
    """Refuse a change that a running instance cannot make."""
    check_shape(body, "Scheduling")
    fixed = ("provisioningModel", "preemptible", "maxRunDuration", "instanceTerminationAction")
    changed = [name for name in fixed if name in body and body[name] != doc["scheduling"].get(name)]
    if changed and doc["status"] != "TERMINATED":
        raise bad_request(f"{changed[0]} can only be changed when the instance is stopped.")
