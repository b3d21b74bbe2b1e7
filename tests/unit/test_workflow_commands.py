"""Workflow commands are read as GitHub's runner reads them, within limits."""

from __future__ import annotations

import pytest

from cynthus.wire import EventKind
from runner_images.agent.commands import ANNOTATIONS, METRIC_NAMES, Heard, Listener, parse


def a_listener() -> Listener:
    return Listener(lambda value: len(value) >= 4)


CASES = {
    "phase": ("::phase::train", EventKind.PHASE, {"name": "train"}),
    "metric": (
        "::metric name=loss,step=10::0.42",
        EventKind.METRIC,
        {"name": "loss", "step": 10, "value": 0.42},
    ),
    "metric without a step": (
        "::metric name=f1::-1e-3",
        EventKind.METRIC,
        {"name": "f1", "step": None, "value": -0.001},
    ),
    "progress": ("::progress::0.35", EventKind.PROGRESS, {"value": 0.35}),
    "progress beyond its end": ("::progress::7", EventKind.PROGRESS, {"value": 1.0}),
    "error": (
        "::error file=a%2Cb.py,line=3,title=T::bad%0Aworse 100%25",
        EventKind.ANNOTATION,
        {"level": "failure", "file": "a,b.py", "line": 3, "title": "T", "text": "bad\nworse 100%"},
    ),
    "warning after spaces": (
        "  ::warning::careful",
        EventKind.ANNOTATION,
        {"level": "warning", "file": None, "line": None, "title": None, "text": "careful"},
    ),
    "mask": ("::add-mask::swordfish", EventKind.MASK, {"value": "swordfish"}),
    "an escaped escape": ("::phase::a%250Ab", EventKind.PHASE, {"name": "a%0Ab"}),
}


@pytest.mark.parametrize(("line", "kind", "body"), CASES.values(), ids=CASES.keys())
def test_a_command_becomes_its_event(line: str, kind: EventKind, body: dict[str, object]) -> None:
    heard = a_listener().hear(line)
    assert (heard.kind, heard.body) == (kind, body)


ORDINARY = [
    "::unknown::text",
    "text ::phase::x",
    "::phase",
    ":: ::x",
    "::::",
    "::group::title",
    "::endgroup::",
    "a::b::c",
    "::set-output name=a::b",
]


@pytest.mark.parametrize("line", ORDINARY)
def test_anything_else_is_ordinary_output(line: str) -> None:
    assert a_listener().hear(line) == Heard(line)


@pytest.mark.case("A11")
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999", "x", "", "0x10", "1_0", "\u0661"])
def test_a_metric_that_is_no_finite_number_is_left_out_with_one_notice(value: str) -> None:
    listener = a_listener()
    heard = listener.hear(f"::metric name=loss::{value}")
    assert heard.kind is EventKind.NOTICE
    assert "loss" in str(heard.body["text"])
    assert listener.hear(f"::metric name=loss::{value}") == Heard(None)


def test_more_metric_names_than_the_limit_are_left_out() -> None:
    listener = a_listener()
    for number in range(METRIC_NAMES):
        assert listener.hear(f"::metric name=m{number}::1").kind is EventKind.METRIC
    assert listener.hear("::metric name=onemore::1").kind is EventKind.NOTICE
    assert listener.hear("::metric name=another::1") == Heard(None)
    assert listener.hear("::metric name=m0::2").kind is EventKind.METRIC


def test_more_annotations_than_the_limit_are_only_shown_in_the_log() -> None:
    listener = a_listener()
    kinds = {listener.hear("::notice::n").kind for _ in range(ANNOTATIONS)}
    assert kinds == {EventKind.ANNOTATION}
    assert listener.hear("::notice::n") == Heard("Notice: n")


def test_stopped_commands_are_ordinary_output_until_their_token_comes() -> None:
    listener = a_listener()
    assert listener.hear("::stop-commands::t0ken") == Heard(None)
    assert listener.hear("::error::not meant") == Heard("::error::not meant")
    assert listener.hear("::t0ken::") == Heard(None)
    assert listener.hear("::phase::x").kind is EventKind.PHASE


def test_commands_cannot_be_stopped_by_a_token_that_is_a_command() -> None:
    listener = a_listener()
    listener.hear("::stop-commands::error")
    assert listener.hear("::phase::x").kind is EventKind.PHASE


@pytest.mark.case("A11")
def test_names_stay_on_one_line() -> None:
    heard = a_listener().hear("::metric name=a%0Ab::1")
    assert heard.body["name"] == "a b"


def test_properties_keep_equals_signs() -> None:
    command = parse("::notice file=a=b.py::x")
    assert command is not None
    assert command.properties == {"file": "a=b.py"}
