"""The pure rules of the simulated storage, secrets and federation."""

from __future__ import annotations

from typing import Any

import pytest

from simulators.gcp_conditions import ExpressionError, evaluate
from simulators.gcp_field_masks import masked
from simulators.gcp_http import GoogleError
from simulators.gcp_secret_rules import fits
from simulators.gcp_storage_refusals import StorageError
from simulators.gcp_storage_rules import Preconditions, byte_range, glob

CLAIMS = {"assertion": {"sub": "repo:o/r", "id": "7", "n": 3, "ok": True, "my-key": "v"}}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("assertion.id == '7'", True),
        ('assertion.id == "7" && assertion.sub != "x"', True),
        ("assertion.id == 7", False),  # a text is no number
        ("assertion.n == 3", True),
        ("assertion.id in ['6', '7']", True),
        ("!(assertion.id in ['6'])", True),
        ("assertion.sub.startsWith('repo:') || assertion.none == 'x'", "no 'none'"),
        ("assertion.sub.endsWith('/r')", True),
        ("assertion.sub.contains('o/')", True),
        ("assertion.sub.size() == 8", True),
        ("assertion['my-key']", "v"),
        ("assertion.id + ':' + assertion.sub", "7:repo:o/r"),
        ("assertion.ok && !assertion.ok", False),
        ("'it\\'s'", "it's"),
    ],
)
def test_expressions_come_to_what_they_say(expression: str, value: Any) -> None:
    if value == "no 'none'":
        with pytest.raises(ExpressionError, match="none"):
            evaluate(expression, CLAIMS)
    else:
        assert evaluate(expression, CLAIMS) == value


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "assertion.",
        "assertion.id ==",
        "(true",
        "true true",
        "assertion.id.run()",
        "1 + 1",
        "a ? b : c",
        "'x' && true",
    ],
)
def test_what_is_no_expression_is_refused(expression: str) -> None:
    with pytest.raises(ExpressionError):
        evaluate(expression, CLAIMS)


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("a/*", "a/b", True),
        ("a/*", "a/b/c", False),
        ("a/**", "a/b/c", True),
        ("**/c", "c", True),
        ("**/c", "a/b/c", True),
        ("?.txt", "a.txt", True),
        ("?.txt", "/.txt", False),
        ("[a-c].txt", "b.txt", True),
        ("[!a-c].txt", "b.txt", False),
        ("{x,y/*}.txt", "y/z.txt", True),
        ("{x,y}.txt", "z.txt", False),
        ("a.txt", "abtxt", False),
    ],
)
def test_globs_match_as_documented(pattern: str, name: str, matches: bool) -> None:
    assert (glob(pattern).fullmatch(name) is not None) is matches


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (None, None),
        ("bytes=0-0", (0, 1)),
        ("bytes=3-", (3, 7)),
        ("bytes=-4", (6, 4)),
        ("bytes=-99", (0, 10)),
        ("bytes=5-99", (5, 5)),
        ("bytes=5-2", None),
        ("bytes=0-1,4-5", None),
        ("lines=0-1", None),
        ("bytes=10-", "416"),
        ("bytes=-0", "416"),
    ],
)
def test_ranges_of_ten_bytes(header: str | None, found: Any) -> None:
    if found == "416":
        with pytest.raises(StorageError) as refused:
            byte_range(header, 10)
        assert refused.value.code == 416
    else:
        span = byte_range(header, 10)
        assert (span and (span.start, span.length)) == found


HERE = {"generation": "5", "metageneration": "2"}


@pytest.mark.parametrize(
    ("wanted", "found", "code"),
    [
        ({"ifGenerationMatch": 0}, None, None),
        ({"ifGenerationMatch": 0}, HERE, 412),
        ({"ifGenerationMatch": 5}, HERE, None),
        ({"ifGenerationMatch": 5}, None, 412),
        ({"ifGenerationNotMatch": 0}, HERE, None),
        ({"ifGenerationNotMatch": 0}, None, 304),
        ({"ifGenerationNotMatch": 5}, HERE, 304),
        ({"ifGenerationNotMatch": 4}, HERE, None),
        ({"ifGenerationNotMatch": 4}, None, 304),
        ({"ifMetagenerationMatch": 2}, HERE, None),
        ({"ifMetagenerationMatch": 2}, None, 412),
        ({"ifMetagenerationMatch": 0}, None, 412),
        ({"ifMetagenerationNotMatch": 2}, HERE, 304),
        ({"ifGenerationMatch": 5, "ifMetagenerationMatch": 1}, HERE, 412),
    ],
)
def test_preconditions(wanted: dict[str, int], found: Any, code: int | None) -> None:
    conditions = Preconditions(wanted=wanted)
    if code is None:
        conditions.check(found)
    else:
        with pytest.raises(StorageError) as refused:
            conditions.check(found)
        assert refused.value.code == code


SECRET = {"name": "projects/1/secrets/hf-token", "labels": {"a": "b"}, "state": "ENABLED"}


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("", True),
        ("labels.a=b", True),
        ("labels.a:*", True),
        ("labels.z:*", False),
        ("labels:a", True),
        ("name:hf", True),
        ("name:aws OR name:hf", True),
        ("name:hf AND labels.a=c", False),
        ("NOT labels.a=b", False),
        ("-labels.a=c", True),
        ("state!=ENABLED", False),
        ('labels.a="b"', True),
    ],
)
def test_secret_filters(text: str, passes: bool) -> None:
    assert fits(text, SECRET) is passes


def test_a_filter_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(GoogleError, match="filter"):
        fits("labels.a", SECRET)


ANSWER = {"kind": "k", "items": [{"name": "a", "size": "1"}, {"name": "b"}], "x": {"y": {"z": 1}}}


@pytest.mark.parametrize(
    ("fields", "left"),
    [
        ("kind", {"kind": "k"}),
        ("items(name),kind", {"kind": "k", "items": [{"name": "a"}, {"name": "b"}]}),
        ("items/size", {"items": [{"size": "1"}, {}]}),
        ("x/y(z)", {"x": {"y": {"z": 1}}}),
        ("x/*/none", {"x": {"y": {}}}),
        ("nothing", {}),
        ("*", ANSWER),
    ],
)
def test_a_field_mask_leaves_what_it_names(fields: str, left: Any) -> None:
    assert masked(ANSWER, fields) == left


@pytest.mark.parametrize("fields", ["a(", "a)", "a,,b", "(a)", "a b", "a(b", "a/", "?"])
def test_a_field_mask_that_cannot_be_read_is_refused(fields: str) -> None:
    with pytest.raises(GoogleError, match="field selection"):
        masked(ANSWER, fields)
