"""The schemas are the messages' truth in every language; `cynthus.wire` is their Python shape."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, Union

import pytest
from jsonschema import Draft202012Validator

from cynthus import wire, wire_cache, wire_checkpoint, wire_image, wire_money
from cynthus.codec import decode, encode
from webhook_server.runs.model import Cause, Outcome, State

FOLDER = Path(__file__).parents[2] / "schemas"
MESSAGES: dict[str, type[Any]] = {
    "run_request": wire.RunRequest,
    "run_accepted": wire.RunAccepted,
    "run_view": wire.RunView,
    "run_event": wire.RunEvent,
    "output_view": wire.OutputView,
    "enrolment": wire.Enrolment,
    "enrolled": wire.Enrolled,
    "heartbeat": wire.Heartbeat,
    "heartbeat_answer": wire.HeartbeatAnswer,
    "next_work": wire.NextWork,
    "upload_ask": wire.UploadAsk,
    "upload_grant": wire.UploadGrant,
    "plan_ask": wire_money.PlanAsk,
    "plan_view": wire_money.PlanView,
    "audit_view": wire_money.AuditView,
    "sweep_ask": wire_money.SweepAsk,
    "sweep_view": wire_money.SweepView,
    "lock_view": wire_image.LockView,
    "build_lease_ask": wire_image.BuildLeaseAsk,
    "build_lease_view": wire_image.BuildLeaseView,
    "images_in_use": wire_image.ImagesInUse,
    "checkpoint_blobs": wire_checkpoint.CheckpointBlobs,
    "checkpoint_grants": wire_checkpoint.CheckpointGrants,
    "checkpoint": wire_checkpoint.Checkpoint,
    "checkpoint_kept": wire_checkpoint.CheckpointKept,
    "checkpoint_ask": wire_checkpoint.CheckpointAsk,
    "checkpoint_view": wire_checkpoint.CheckpointView,
    "data_ask": wire_cache.DataAsk,
    "data_claim_view": wire_cache.DataClaimView,
    "data_blobs_ask": wire_cache.DataBlobsAsk,
    "data_blobs_view": wire_cache.DataBlobsView,
    "data_commit": wire_cache.DataCommit,
    "data_addresses": wire_cache.DataAddresses,
    "data_listing": wire_cache.DataListing,
}
EXAMPLES = [
    pytest.param(name, example, id=f"{name}-{n}")
    for name in MESSAGES
    for n, example in enumerate(
        json.loads((FOLDER / f"{name}.schema.json").read_text("utf-8"))["examples"]
    )
]


def schema(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.schema.json").read_text("utf-8"))


def json_types(hint: Any) -> set[str]:
    """Return the JSON types that the codec writes for a Python type."""
    origin = typing.get_origin(hint)
    if origin in (Union, types.UnionType):
        return set().union(*(json_types(part) for part in typing.get_args(hint)))
    if origin is tuple:
        return {"array"}
    if dataclasses.is_dataclass(hint) or (origin and issubclass(origin, Mapping)):
        return {"object"}
    if isinstance(hint, type) and issubclass(hint, (str, datetime, Decimal, Enum)):
        return {"string"}
    return {bool: {"boolean"}, int: {"integer"}, float: {"number"}, type(None): {"null"}}[hint]


def schema_types(part: dict[str, Any]) -> set[str]:
    if "enum" in part:
        return {"null" if word is None else "string" for word in part["enum"]}
    kind = part["type"]
    return {kind} if isinstance(kind, str) else set(kind)


def disagreements(kind: type[Any], part: dict[str, Any], where: str) -> list[str]:
    """Compare a dataclass with a schema, field by field, all the way down."""
    hints = typing.get_type_hints(kind)
    properties = part["properties"]
    found = [f"{where}: only one side has {name}" for name in set(hints) ^ set(properties)]
    nothing = dataclasses.MISSING
    required = {
        f.name
        for f in dataclasses.fields(kind)
        if f.default is nothing and f.default_factory is nothing
    }
    if required != set(part["required"]):
        found.append(f"{where}: required {required ^ set(part['required'])}")
    for name in set(hints) & set(properties):
        found += field_disagreements(hints[name], properties[name], f"{where}/{name}")
    return found


def field_disagreements(hint: Any, part: dict[str, Any], where: str) -> list[str]:
    found = []
    if json_types(hint) != schema_types(part):
        found.append(f"{where}: {json_types(hint)} is not {schema_types(part)}")
    if not part.get("description"):
        found.append(f"{where}: has no description")
    for inner in records(hint):
        inner_part = part.get("items", part)
        found += disagreements(inner, inner_part, where)
    return found


def records(hint: Any) -> list[type[Any]]:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return [hint]
    return [found for part in typing.get_args(hint) for found in records(part)]


@pytest.mark.parametrize("name", MESSAGES)
def test_a_schema_and_its_dataclass_agree_field_by_field(name: str) -> None:
    assert disagreements(MESSAGES[name], schema(name), name) == []


@pytest.mark.parametrize("name", MESSAGES)
def test_a_schema_is_valid_and_says_what_it_is(name: str) -> None:
    document = schema(name)
    Draft202012Validator.check_schema(document)
    assert document["$id"].endswith(f"/schemas/{name}.schema.json")
    assert document["title"]
    assert document["description"]


@pytest.mark.parametrize(("name", "example"), EXAMPLES)
def test_an_example_validates(name: str, example: Any) -> None:
    Draft202012Validator(schema(name)).validate(example)


@pytest.mark.parametrize(("name", "example"), EXAMPLES)
def test_an_example_survives_the_round_trip(name: str, example: Any) -> None:
    message = decode(MESSAGES[name], example)
    assert decode(MESSAGES[name], json.loads(json.dumps(encode(message)))) == message
    Draft202012Validator(schema(name)).validate(encode(message))
    assert encode(message).items() >= example.items()


@pytest.mark.parametrize(
    ("member", "words"),
    [("state", State), ("outcome", Outcome), ("cause", Cause)],
)
def test_a_view_names_every_word_of_the_model(member: str, words: type[Enum]) -> None:
    told = set(schema("run_view")["properties"][member]["enum"]) - {None}
    assert told == {word.value for word in words}


def test_the_event_kinds_of_feed_and_heartbeat_are_the_same_words() -> None:
    words = [kind.value for kind in wire.EventKind]
    heartbeat = schema("heartbeat")["properties"]["events"]["items"]
    assert schema("run_event")["properties"]["kind"]["enum"] == words
    assert heartbeat["properties"]["kind"]["enum"] == words


def test_every_message_schema_is_covered_here() -> None:
    files = {path.name.removesuffix(".schema.json") for path in FOLDER.glob("*.schema.json")}
    assert files - {"cynthus", "cynthus_policy"} == set(MESSAGES)
