"""Output patterns name files, folders or globs below the workspace."""

from __future__ import annotations

import pytest

from runner_images.agent.patterns import fixed_part, matches

CASES = [
    ("outputs", "outputs/a/b.bin", True),
    ("outputs", "outputs", True),
    ("outputs/", "outputs/x", True),
    ("./outputs", "outputs/x", True),
    ("outputs", "outputs2/x", False),
    ("*.json", "a.json", True),
    ("*.json", "sub/a.json", False),
    ("**/*.json", "a.json", True),
    ("**/*.json", "x/y/a.json", True),
    ("out/**", "out/a/b", True),
    ("out/**/model.bin", "out/model.bin", True),
    ("run-?/m[0-9].pt", "run-a/m3.pt", True),
    ("run-?/m[!0-9].pt", "run-a/m3.pt", False),
    ("m[!0-9].pt", "m/.pt", False),
    ("a+b(c)", "a+b(c)", True),
    ("a.b", "axb", False),
    (".", "anything/at/all", True),
    ("models/*", "models/best/weights", True),
    ("[", "[", True),
]


@pytest.mark.parametrize(("pattern", "path", "named"), CASES)
def test_a_pattern_names_what_a_shell_would(pattern: str, path: str, *, named: bool) -> None:
    assert matches(pattern, path) is named


@pytest.mark.parametrize(
    ("pattern", "fixed"),
    [("a/b/c", "a/b/c"), ("a/*/c", "a"), ("*.x", ""), ("a/b[1]", "a"), (".", ""), ("a/", "a")],
)
def test_only_the_leading_plain_segments_are_looked_into(pattern: str, fixed: str) -> None:
    assert fixed_part(pattern) == fixed
