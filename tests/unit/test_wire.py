"""One cause has one name, whoever tells of it."""

from __future__ import annotations

import pytest

from cynthus.wire import trigger_for


@pytest.mark.parametrize(
    ("event", "pull_request", "attempt", "expected"),
    [
        ("push", None, 1, "push"),
        ("push", None, 2, "push/99.2"),
        ("pull_request", 7, 1, "pull_request/7"),
        ("pull_request", 7, 3, "pull_request/7/99.3"),
        ("workflow_dispatch", None, 1, "workflow_dispatch/99"),
        ("workflow_dispatch", None, 2, "workflow_dispatch/99.2"),
    ],
)
def test_a_cause_is_named_by_its_event_and_by_who_asked_again(
    event: str, pull_request: int | None, attempt: int, expected: str
) -> None:
    name = trigger_for(event, pull_request=pull_request, workflow_run_id="99", run_attempt=attempt)
    assert name == expected
