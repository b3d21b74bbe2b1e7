"""Which pushes start a run."""

from __future__ import annotations

import pytest

from cynthus.triggers import matches, push_refusal


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("main", "main", True),
        ("main", "maine", False),
        ("release/*", "release/1", True),
        ("release/*", "release/1/hot", False),
        ("release/**", "release/1/hot", True),
        ("**", "any/thing", True),
        ("**/train.py", "train.py", True),
        ("**/train.py", "a/b/train.py", True),
        ("*.py", "a/b.py", False),
        ("v1.0", "v1x0", False),
        ("docs/**", "docs", False),
    ],
)
def test_patterns_match_as_githubs_filters_do(pattern: str, text: str, expected: bool) -> None:
    assert matches(pattern, text) is expected


@pytest.mark.parametrize(
    ("branches", "paths", "branch", "changed", "starts"),
    [
        ((), ("**",), "main", ("a.py",), True),
        ((), ("**",), "topic", ("a.py",), False),
        (("topic",), ("**",), "topic", ("a.py",), True),
        (("main",), ("src/**",), "main", ("docs/a.md",), False),
        (("main",), ("src/**",), "main", ("docs/a.md", "src/a.py"), True),
        (("main",), ("src/**",), "main", None, True),
        (("main",), ("src/**",), "main", (), False),
        (("main",), ("**",), "main", (), True),
    ],
)
def test_a_push_starts_a_run_when_branch_and_paths_match(
    branches: tuple[str, ...],
    paths: tuple[str, ...],
    branch: str,
    changed: tuple[str, ...] | None,
    starts: bool,
) -> None:
    refusal = push_refusal(branches, paths, branch=branch, default_branch="main", changed=changed)
    assert (refusal is None) is starts


def test_a_refusal_names_what_was_wanted_and_what_came() -> None:
    refusal = push_refusal(("main",), ("**",), branch="topic", default_branch="main", changed=None)
    assert refusal == "triggers/push/branches: main; this push is to topic"
