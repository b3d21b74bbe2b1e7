"""Versions, specifiers and markers as the packaging specifications have them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from action.packages import markers, versions

# In the order of https://packaging.python.org/en/latest/specifications/version-specifiers/
ASCENDING = (
    "0.9",
    "1.dev0",
    "1.0.dev456",
    "1.0a1",
    "1.0a2.dev456",
    "1.0a12.dev456",
    "1.0a12",
    "1.0b1.dev456",
    "1.0b2",
    "1.0b2.post345.dev456",
    "1.0b2.post345",
    "1.0rc1.dev456",
    "1.0rc1",
    "1.0",
    "1.0+abc.5",
    "1.0+abc.7",
    "1.0+5",
    "1.0.post456.dev34",
    "1.0.post456",
    "1.0.15",
    "1.1.dev1",
    "10.0",
    "1!0.1",
)


def test_versions_are_in_order() -> None:
    parsed = [versions.parse(text) for text in ASCENDING]
    assert None not in parsed
    for lower, higher in itertools.combinations(parsed, 2):
        assert lower < higher  # type: ignore[operator]


@pytest.mark.parametrize(
    ("one", "other"),
    [("1.0", "1"), ("v1.0-ALPHA.1", "1.0a1"), ("1.0-1", "1.0.post1"), ("1.0c1", "1.0rc1")],
)
def test_spellings_are_equal(one: str, other: str) -> None:
    assert versions.parse(one) == versions.parse(other)
    assert hash(versions.parse(one)) == hash(versions.parse(other))


@pytest.mark.parametrize(
    ("specifiers", "version", "fits"),
    [
        ("", "1.0", True),
        (">=1,<2", "1.9", True),
        (">=1,<2", "2.0", False),
        ("(>=1)", "1.0", True),
        ("==2.6.0", "2.6.0+cu124", True),
        ("==2.6.0+cpu", "2.6.0+cu124", False),
        ("<=2.6", "2.6.0+cu124", True),
        (">2.6.0", "2.6.0+cu124", False),
        ("==1.2.*", "1.2.9", True),
        ("==1.2.*", "1.20", False),
        ("!=1.2.*", "1.3", True),
        ("~=1.4.2", "1.4.9", True),
        ("~=1.4.2", "1.5", False),
        ("~=1.4", "1.9", True),
        ("~=1", "1.0", False),
        ("<2", "2.0rc1", False),
        ("<2.0rc2", "2.0rc1", True),
        (">1", "1.post1", False),
        (">1.post1", "1.post2", True),
        ("===1.0", "1.0", True),
        ("===1.0", "1", False),
        (">=1", "not a version", False),
        ("1.0", "1.0", False),
    ],
)
def test_specifiers_take_what_the_specification_says(
    specifiers: str, version: str, fits: bool
) -> None:
    assert versions.allows(specifiers, version) is fits


@given(st.text(), st.text())
def test_no_text_is_too_strange(one: str, other: str) -> None:
    parsed = versions.parse(one)
    assert parsed is None or parsed == versions.parse(one.strip())
    assert versions.allows(one, other) in {True, False}


HERE = markers.environment("3.11", "x86_64")


@pytest.mark.parametrize(
    ("marker", "answer"),
    [
        ("", True),
        ("sys_platform == 'linux'", True),
        ('"linux" in sys_platform', True),
        ("sys_platform not in 'win32 cygwin'", True),
        ("python_version >= '3.9'", True),
        ("python_version < '3.9'", False),
        ("'3.12' > python_version", True),
        ("python_version == '3.11.*'", True),
        ("python_full_version >= '3.11.4'", False),
        ("extra == 'dev'", False),
        ("os_name == 'nt' or os_name == 'posix' and python_version < '3'", False),
        ("(os_name == 'nt' or os_name == 'posix') and python_version > '3'", True),
        ("platform_machine != 'x86_64'", False),
        ("platform_release >= '4'", False),
    ],
)
def test_a_marker_holds_in_the_image(marker: str, answer: bool) -> None:
    assert markers.holds(marker, HERE) is answer


@pytest.mark.parametrize(
    "marker",
    ["os_name", "os_name ==", "nonsense == 'a'", "(os_name == 'a'", "os_name == 'a' b", "~"],
)
def test_what_is_no_marker_is_refused(marker: str) -> None:
    with pytest.raises(ValueError, match="no marker"):
        markers.holds(marker, HERE)
