"""An event starts the workflows that it would start on GitHub."""

from __future__ import annotations

import re
from typing import Any

import pytest

from simulators.actions_globs import filter_pattern
from simulators.actions_matrix import combinations, display_name
from simulators.actions_triggers import starts
from simulators.actions_workflow import WorkflowError, parse_workflow
from simulators.actions_yaml import YamlError, load

# The first rows are the examples of GitHub's own cheat sheet.
GLOBS = [
    ("*", "main", True),
    ("*", "releases/10", False),
    ("**", "all/the/branches", True),
    ("feature/*", "feature/my-branch", True),
    ("feature/*", "feature/a/b", False),
    ("feature/**", "feature/beta-a/my-branch", True),
    ("*feature", "mona-feature", True),
    ("v2*", "v2.0.1", True),
    ("v[12].[0-9]+.[0-9]+", "v1.10.1", True),
    ("v[12].[0-9]+.[0-9]+", "v3.10.1", False),
    ("*.jsx?", "page.js", True),
    ("*.jsx?", "page.jsx", True),
    ("**.js", "src/js/app.js", True),
    ("docs/*", "docs/file.txt", True),
    ("docs/*", "docs/a/b.txt", False),
    ("docs/**/*.md", "docs/README.md", True),
    ("docs/**/*.md", "docs/a/markdown/file.md", True),
    ("**/docs/**", "docs/hello.md", True),
    ("**/docs/**", "dir/docs/my-file.txt", True),
    ("**/README.md", "js/README.md", True),
    ("**/*src/**", "my-src/code/js/app.js", True),
    ("**/*-post.md", "path/their-post.md", True),
    ("**/migrate-*.sql", "db/sept/migrate-v1.sql", True),
    ("a.b", "axb", False),
    ("main", "main2", False),
    ("a\\*", "a*", True),
]


@pytest.mark.parametrize(("pattern", "name", "matches"), GLOBS)
def test_a_glob_matches_as_githubs_cheat_sheet_says(pattern: str, name: str, matches: bool) -> None:
    assert (filter_pattern(pattern).match(name) is not None) is matches


def a_push(ref: str = "refs/heads/main", message: str = "x", **more: Any) -> dict[str, Any]:
    return {"ref": ref, "head_commit": {"message": message}, **more}


def a_pull(action: str = "opened", base: str = "main") -> dict[str, Any]:
    return {"action": action, "pull_request": {"base": {"ref": base}}}


BY_TYPE = "{repository_dispatch: {types: [cynthus]}}"


@pytest.mark.parametrize(
    ("on", "event", "payload", "started"),
    [
        ("push", "push", a_push(), True),
        ("push", "push", a_push("refs/tags/v1"), True),
        ("push", "pull_request", a_pull(), False),
        ("[push, pull_request]", "pull_request", a_pull(), True),
        ("{push: {branches: [main]}}", "push", a_push(), True),
        ("{push: {branches: main}}", "push", a_push(), True),
        ("{push: {branches: [dev]}}", "push", a_push(), False),
        ("{push: {branches: [main]}}", "push", a_push("refs/tags/main"), False),
        ("{push: {tags: ['v*']}}", "push", a_push("refs/tags/v1"), True),
        ("{push: {tags: ['v*']}}", "push", a_push("refs/heads/v1"), False),
        ("{push: {branches: ['**', '!main']}}", "push", a_push(), False),
        ("{push: {branches: ['!main', '**']}}", "push", a_push(), True),
        ("{push: {branches-ignore: [main]}}", "push", a_push(), False),
        ("{push: {branches-ignore: [dev]}}", "push", a_push(), True),
        ("{push: {paths: ['docs/**']}}", "push", a_push(), False),
        ("{push: {paths: ['src/**']}}", "push", a_push(), True),
        ("{push: {paths: ['**', '!src/**', '!README.md']}}", "push", a_push(), False),
        ("{push: {paths-ignore: ['src/**']}}", "push", a_push(), True),
        ("{push: {paths-ignore: ['**']}}", "push", a_push(), False),
        ("{push: {paths: ['docs/**']}}", "push", a_push("refs/tags/v1"), True),
        ("push", "push", a_push(deleted=True), False),
        ("push", "push", a_push(message="fix [skip ci]"), False),
        ("push", "push", a_push(message="fix\n\nskip-checks: true"), False),
        ("pull_request", "pull_request", a_pull("synchronize"), True),
        ("pull_request", "pull_request", a_pull("labeled"), False),
        ("{pull_request: {types: [labeled]}}", "pull_request", a_pull("labeled"), True),
        ("{pull_request: {branches: ['rel/*']}}", "pull_request", a_pull(base="rel/1"), True),
        ("{pull_request: {branches: ['rel/*']}}", "pull_request", a_pull(), False),
        ("workflow_dispatch", "workflow_dispatch", {}, True),
        ("repository_dispatch", "repository_dispatch", {"action": "cynthus"}, True),
        (BY_TYPE, "repository_dispatch", {"action": "cynthus"}, True),
        (BY_TYPE, "repository_dispatch", {"action": "deploy"}, False),
    ],
)
def test_an_event_starts_what_it_should(
    on: str, event: str, payload: dict[str, Any], started: bool
) -> None:
    workflow = parse_workflow(
        "a.yml", f"on: {on}\njobs: {{a: {{runs-on: x, steps: [run: 'true']}}}}"
    )
    changed = ["src/a.py", "README.md"]
    assert starts(dict(workflow.on), event, payload, lambda: changed) is started


def test_branches_and_branches_ignore_exclude_each_other() -> None:
    rule = {"push": {"branches": ["a"], "branches-ignore": ["b"]}}
    with pytest.raises(WorkflowError, match="only define one of"):
        starts(rule, "push", a_push(), list)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("on: push", "Required property is missing: jobs"),
        ("jobs: {}", "No event triggers"),
        ("on: push\njobs: {a: {steps: [run: x]}}", "Required property is missing: runs-on"),
        ("on: push\njobs: {a: {runs-on: x}}", "Required property is missing: steps"),
        ("on: push\njobs: {a: {runs-on: x, step: []}}", "Unexpected value 'step'"),
        ("on: push\njobs: {a: {runs-on: x, steps: [{name: n}]}}", "Required property is missing"),
        ("on: push\njobs: {a: {runs-on: x, steps: [{run: a, uses: b}]}}", "only one of run, uses"),
        ("on: push\njobs: {a: {runs-on: x, needs: b, steps: [run: x]}}", "unknown job 'b'"),
        ("on: push\njobs: {a: {runs-on: x, needs: a, steps: [run: x]}}", "no dependencies"),
        ("on: push\njobs: {1a: {runs-on: x, steps: [run: x]}}", "identifier '1a' is invalid"),
        ("on: push\non: pull_request", "'on' is already defined"),
        ("on: [push", "while parsing"),
        ("- a", "A mapping was expected"),
    ],
)
def test_a_workflow_that_github_refuses_is_refused(text: str, message: str) -> None:
    with pytest.raises(WorkflowError, match=re.escape(message)):
        parse_workflow("a.yml", text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on: yes", {"on": "yes"}),
        ("a: no", {"a": "no"}),
        ("a: true", {"a": True}),
        ("a: 3.10", {"a": 3.1}),
        ("a: 2024-01-01", {"a": "2024-01-01"}),
        ("a: 12:30", {"a": "12:30"}),
        ("a: 0x10", {"a": 16}),
        ("a: 010", {"a": 10}),
        ("a:", {"a": None}),
        ("a: ''", {"a": ""}),
    ],
)
def test_yaml_is_read_by_version_1_2(text: str, value: dict[str, Any]) -> None:
    assert load(text) == value


def test_a_key_said_twice_names_its_line() -> None:
    with pytest.raises(YamlError, match=r"Line: 2.*'a' is already defined"):
        load("a: 1\na: 2")


# GitHub's own example of include: https://docs.github.com/en/actions/how-tos/write-workflows/choose-what-workflows-do/run-job-variations
FRUIT = {
    "fruit": ["apple", "pear"],
    "animal": ["cat", "dog"],
    "include": [
        {"color": "green"},
        {"color": "pink", "animal": "cat"},
        {"fruit": "apple", "shape": "circle"},
        {"fruit": "banana"},
        {"fruit": "banana", "animal": "cat"},
    ],
}


def test_a_matrix_is_widened_as_in_githubs_example() -> None:
    assert combinations(FRUIT) == [
        {"fruit": "apple", "animal": "cat", "color": "pink", "shape": "circle"},
        {"fruit": "apple", "animal": "dog", "color": "green", "shape": "circle"},
        {"fruit": "pear", "animal": "cat", "color": "pink"},
        {"fruit": "pear", "animal": "dog", "color": "green"},
        {"fruit": "banana"},
        {"fruit": "banana", "animal": "cat"},
    ]


def test_a_matrix_leaves_out_what_it_excludes() -> None:
    matrix = {"a": [1, 2], "b": ["x", "y"], "exclude": [{"a": 1}, {"a": 2, "b": "y"}]}
    assert combinations(matrix) == [{"a": 2, "b": "x"}]


def test_a_matrix_of_includes_alone_has_one_job_for_each() -> None:
    assert combinations({"include": [{"a": 1}, {"a": 2}]}) == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize("matrix", [{"a": []}, {"a": "x"}, "x", {"a": list(range(257))}])
def test_a_matrix_without_values_or_with_too_many_is_refused(matrix: Any) -> None:
    with pytest.raises(ValueError, match=r"(?i)matrix"):
        combinations(matrix)


def test_a_job_is_named_after_its_combination() -> None:
    assert display_name("test", {"python": 3.11, "on": {"os": "linux"}}) == "test (3.11, linux)"
    assert display_name("test", {}) == "test"
