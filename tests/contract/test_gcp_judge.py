"""The judge of Google's APIs: it must object to bad traffic, or it proves nothing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.google_description import description

INSERT = "/compute/v1/projects/p/zones/us-central1-a/instances"
OPERATION = {"kind": "compute#operation", "id": "1", "name": "operation-1", "status": "RUNNING"}


def an_insert(**changes: Any) -> dict[str, Any]:
    usual = {
        "verb": "compute.instances.insert",
        "method": "POST",
        "path": INSERT,
        "query": "requestId=5f4bd1c8-9d3b-4d6c-8a15-55a06e1a6f7e",
        "request": {"name": "a", "disks": [{"diskSizeGb": "10", "boot": True}]},
        "status": 200,
        "response": OPERATION,
    }
    return usual | changes


def test_good_traffic_is_in_order() -> None:
    assert description().check(an_insert()) == []


ERROR = {"error": {"code": 404, "message": "no", "errors": [{"message": "no"}]}}
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no such method": ({"path": f"{INSERT}/a/teapots"}, "no such method"),
    "another verb": ({"verb": "compute.instances.get"}, "this is compute.instances.insert"),
    "unknown parameter": ({"query": "colour=red"}, "the query has no 'colour'"),
    "parameter twice": ({"query": "requestId=1&requestId=2"}, "more than once"),
    "unknown field": ({"request": {"name": "a", "colour": 1}}, "unknown field 'colour'"),
    "nested unknown field": ({"request": {"disks": [{"size": 1}]}}, "at /disks/0"),
    "number for an int64": ({"request": {"disks": [{"diskSizeGb": 10}]}}, "is not a string"),
    "letters in an int64": ({"request": {"disks": [{"diskSizeGb": "ten"}]}}, "int64"),
    "unknown word": ({"request": {"scheduling": {"provisioningModel": "X"}}}, "is not among"),
    "capital name": ({"request": {"name": "A"}}, "does not match"),
    "text for a boolean": ({"request": {"canIpForward": "yes"}}, "not a boolean"),
    "answer's id is a number": ({"response": {**OPERATION, "id": 1}}, "answer at /id"),
    "answer's status": ({"response": {**OPERATION, "status": "READY"}}, "is not among"),
    "answer's field": ({"response": {**OPERATION, "colour": "red"}}, "unknown field"),
    "error without reason": ({"status": 404, "response": ERROR}, "needs message, domain, reason"),
    "error with another code": ({"status": 403, "response": ERROR}, "needs `code`"),
    "error of another shape": ({"status": 400, "response": {"message": "no"}}, "an error is"),
    "a fingerprint that is none": (
        {"request": {"labelFingerprint": "not base64!"}},
        "is not base64",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_traffic_is_objected_to(case: str) -> None:
    changes, words = BAD[case]
    problems = description().check(an_insert(**changes))
    assert any(words in problem for problem in problems), problems


def test_a_number_out_of_range_is_objected_to() -> None:
    seen = {
        "verb": "compute.instances.getSerialPortOutput",
        "method": "GET",
        "path": f"{INSERT}/a/serialPort",
        "query": "port=9",
        "request": None,
        "status": 200,
        "response": {},
    }
    assert any("not from 1 to 4" in problem for problem in description().check(seen))
    assert description().check(seen | {"query": "port=1"}) == []


def test_the_other_apis_are_judged_too() -> None:
    seen = {
        "verb": "secretmanager.projects.secrets.versions.access",
        "method": "GET",
        "path": "/v1/projects/p/secrets/s/versions/latest:access",
        "query": "$alt=json;enum-encoding=int",
        "request": None,
        "status": 200,
        "response": {"name": "projects/1/secrets/s/versions/1", "payload": {"data": "aGk="}},
    }
    assert description().check(seen) == []
    spoiled = {**seen, "response": {"payload": {"data": "aGk=", "crc": "1"}}}
    assert description().check(spoiled) != []
