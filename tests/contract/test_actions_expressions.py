"""Expressions give what GitHub's own evaluator gives.

Both tables were run against npm @actions/expressions 0.3.61: every value is the same there.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from simulators.actions_expressions import (
    Scope,
    condition,
    evaluate,
    render,
    template,
)
from simulators.actions_functions import hash_files
from simulators.actions_syntax import ExpressionError
from simulators.actions_values import to_json

CONTEXTS: dict[str, Any] = {
    "github": {
        "ref": "refs/heads/main",
        "event": {
            "commits": [{"id": "a1", "author": {"name": "Ada"}}, {"id": "b2"}],
            "labels": {"one": {"name": "bug"}, "two": {"name": "gpu"}},
        },
        "actor": "Octo-Cat",
    },
    "env": {"A-B": "dash", "EMPTY": ""},
    "matrix": None,
    "inputs": {"flag": True, "count": 3},
}

TABLE: list[tuple[str, Any]] = [
    ("true", True),
    ("null", None),
    ("711", 711),
    ("-9.2", -9.2),
    ("0xff", 255),
    ("-2.99e-2", -0.0299),
    ("'It''s'", "It's"),
    ("''", ""),
    ("1 == '1'", True),
    ("1 == ' 1 '", True),
    ("1 == '0x1'", True),
    ("'a' == 'A'", True),
    ("'a' == 0", False),
    ("'' == 0", True),
    ("null == 0", True),
    ("null == ''", True),
    ("null == false", True),
    ("true == 'true'", False),
    ("true == 1", True),
    ("'1e2' == 100", True),
    ("github == github", True),
    ("github.event == github", False),
    ("github.event.commits == 1", False),
    ("'abc' < 'ABD'", True),
    ("2 > '10'", False),
    ("'2' > '10'", True),
    ("'x' > 1", False),
    ("1 <= 1", True),
    ("1 >= 'x'", False),
    ("true > false", True),
    ("!true", False),
    ("!''", True),
    ("!!github", True),
    ("!0", True),
    ("'a' && 'b'", "b"),
    ("'' && 'b'", ""),
    ("null || 'b'", "b"),
    ("false || 0", 0),
    ("1 == 2 || 3 == 3 && 'yes'", "yes"),
    ("(1 == 1) == true", True),
    ("1 < 2 == true", True),
    ("github.ref", "refs/heads/main"),
    ("GitHub.REF", "refs/heads/main"),
    ("github['ref']", "refs/heads/main"),
    ("github.missing.deeper", None),
    ("matrix.python", None),
    ("env.A-B", "dash"),
    ("inputs.flag && 'on' || 'off'", "on"),
    ("github.event.commits[1].id", "b2"),
    ("github.event.commits['0'].id", "a1"),
    ("github.event.commits[1.9].id", "b2"),
    ("github.event.commits[9].id", None),
    ("github.event.commits[-1].id", None),
    ("join(github.event.commits.*.id, '+')", "a1+b2"),
    ("join(github.event.commits.*.author.name)", "Ada"),
    ("join(github.event.labels.*.name, ', ')", "bug, gpu"),
    ("join(github.event.commits[*].id)", "a1,b2"),
    ("join('alone')", "alone"),
    ("join(fromJSON('[1, true, null, 2.5]'), ' ')", "1 true  2.5"),
    ("contains('Hello world', 'LLO')", True),
    ("contains(fromJSON('[\"push\", \"PR\"]'), 'pr')", True),
    ("contains(fromJSON('[1, 2]'), '2')", True),
    ("contains(github.event.labels.*.name, 'gpu')", True),
    ("contains(123, 2)", True),
    ("startsWith('Hello', 'he')", True),
    ("startsWith(github.ref, 'refs/tags/')", False),
    ("endsWith('Hello', 'LO')", True),
    ("format('{0} {1} {0}', 'a', 2)", "a 2 a"),
    ("format('{{0}} {0}', true)", "{0} true"),
    ("format('{0}', 1.50)", "1.5"),
    ("format('{0}', null)", ""),
    ("format('{0}', github)", "Object"),
    ("format('{0}', github.event.commits)", "Array"),
    ("format('{0}', 1000000)", "1000000"),
    ('fromJSON(\'{"a": [1, {"b": "c"}]}\').a[1].b', "c"),
    ("fromJSON('true') == true", True),
    ("toJSON('a\"b')", '"a\\"b"'),
    ("toJSON(3)", "3"),
    ("toJSON(null)", "null"),
    ("toJSON(fromJSON('[1,\"a\"]'))", '[\n  1,\n  "a"\n]'),
    ("case(github.actor == 'octo-cat', 'cat', 'other')", "cat"),
    ("case(false, 1, false, 2, 3)", 3),
]

REFUSED = [
    ("foo", "Unrecognized named-value: 'foo'. Located at position 1 within expression: foo"),
    ("secrets.A", "Unrecognized named-value: 'secrets'"),
    ("bar(1)", "Unrecognized function: 'bar'. Located at position 1 within expression: bar(1)"),
    ("contains('a')", "Too few parameters supplied: 'contains'"),
    ("startsWith('a', 'b', 'c')", "Too many parameters supplied: 'startsWith'"),
    ('"double"', "Unexpected symbol: '\"double\"'"),
    ("'open", "Unexpected symbol: ''open'"),
    ("1 +", "Unexpected symbol: '+'. Located at position 3"),
    ("github..ref", "Unexpected symbol: '.'"),
    ("1a", "Unexpected symbol: '1a'"),
    ("(1", "Unexpected end of expression: '1'"),
    ("1 2", "Unexpected symbol: '2'"),
    ("format('{1}', 'a')", "The following format string references more arguments"),
    ("format('{')", "The following format string is invalid"),
    ("fromJSON('nope')", "Error parsing fromJson"),
    ("fromJSON('')", "Error parsing fromJson"),
    ("!" * 60 + "true", "Exceeded max expression depth 50"),
    ("(" * 60 + "1" + ")" * 60, "Exceeded max expression depth 50"),
]


def a_scope(*, failed: bool = False, cancelled: bool = False) -> Scope:
    status = {
        "success": lambda: not failed and not cancelled,
        "failure": lambda: failed and not cancelled,
        "cancelled": lambda: cancelled,
        "always": lambda: True,
    }
    return Scope(contexts=CONTEXTS, functions=status)


@pytest.mark.parametrize(("expression", "value"), TABLE)
def test_an_expression_has_the_value_that_github_gives(expression: str, value: Any) -> None:
    found = evaluate(expression, a_scope())
    assert found == value
    assert isinstance(found, bool) == isinstance(value, bool)


@pytest.mark.parametrize(("expression", "message"), REFUSED)
def test_a_wrong_expression_is_refused_in_githubs_words(expression: str, message: str) -> None:
    with pytest.raises(ExpressionError, match=re.escape(message)):
        evaluate(expression, a_scope())


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("plain", "plain"),
        ("", ""),
        ("a ${{ 1 }} b ${{ 'x' }}", "a 1 b x"),
        ("${{ inputs.count }}", 3),
        ("${{ '}}' }}!", "}}!"),
        ("${{ github.missing }}", None),
        ("[${{ github.missing }}]", "[]"),
    ],
)
def test_a_text_is_filled_and_a_lone_expression_keeps_its_type(text: str, filled: Any) -> None:
    assert template(text, a_scope()) == filled


def test_an_expression_that_is_not_closed_is_refused() -> None:
    with pytest.raises(ExpressionError, match="not closed"):
        render("a ${{ github.ref", a_scope())


@pytest.mark.parametrize(
    ("text", "failed", "cancelled", "runs"),
    [
        ("", False, False, True),
        ("", True, False, False),
        ("", False, True, False),
        ("github.actor == 'octo-cat'", False, False, True),
        ("github.actor == 'octo-cat'", True, False, False),
        ("always()", True, False, True),
        ("always()", False, True, True),
        ("failure()", True, False, True),
        ("failure()", False, False, False),
        ("failure()", False, True, False),
        ("cancelled()", False, True, True),
        ("${{ !cancelled() }}", True, False, True),
        ("success() || failure()", True, False, True),
        ("${{ false }}", False, False, False),
        ("${{ false }} == 'x'", False, False, True),  # text that is not empty: GitHub's trap
        ("false", False, False, False),
    ],
)
def test_a_condition_asks_for_success_unless_it_names_a_status(
    text: str, failed: bool, cancelled: bool, runs: bool
) -> None:
    assert condition(text, a_scope(failed=failed, cancelled=cancelled)) is runs


def test_whole_numbers_are_written_to_json_without_a_point() -> None:
    assert to_json({"a": 1.0, "b": [2.5]}) == '{\n  "a": 1,\n  "b": [\n    2.5\n  ]\n}'


def test_hash_files_depends_on_the_content_of_the_files_that_match(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.lock").write_text("1")
    (tmp_path / "deep" / "b.lock").write_text("2")
    both = hash_files(tmp_path, "**/*.lock")
    assert len(both) == 64
    assert hash_files(tmp_path, "*.lock") not in {both, ""}
    assert hash_files(tmp_path, "**/*.lock", "!deep/**") == hash_files(tmp_path, "a.lock")
    assert hash_files(tmp_path, "*.nope") == ""
    (tmp_path / "a.lock").write_text("3")
    assert hash_files(tmp_path, "**/*.lock") != both
