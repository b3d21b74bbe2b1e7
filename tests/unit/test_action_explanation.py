"""What a resolver says, in fewer words and at its lines; the texts are uv's own, recorded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from action.failures import BuildFailed
from action.packages.requirements import Requirements
from action.resolving.explanation import LONGEST, Target, failure
from action.workflow import Place
from cynthus.errors import UserError

# uv 0.13 against the public index.
SKLEARN = """\
error: No solution found when resolving dependencies
  cause: Because all versions of sklearn have no usable wheels and you require sklearn, we can \
conclude that your requirements are unsatisfiable.

hint: Wheels are required for `sklearn` because building from source is disabled for all packages \
(i.e., with `--no-build`)
"""
OLD_NUMPY = """\
error: No solution found when resolving dependencies
  cause: Because all of:
             numpy<=1.9.3
             numpy>=1.10.4,<=1.19.5
          have no usable wheels and only the following versions of numpy are available:
             numpy<=1.9.3
             numpy>=1.10.4
         we can conclude that all of:
             numpy<1.10.0
          cannot be used.
         And because only the following versions of numpy are available:
             numpy<=1.19.5
             numpy>=1.20
         and you require numpy<1.20, we can conclude that your requirements are unsatisfiable.
"""
# uv 0.5 to 0.9: the same, drawn.
DRAWN = """\
  \xd7 No solution found when resolving dependencies:
  ╰─▶ Because only left==1.0 is available and left==1.0 depends on deep<2, we
      can conclude that all versions of left depend on deep<2.
      And because right==1.0 depends on deep>=2 and only right==1.0 is
      available, we can conclude that all versions of left and all versions of
      right are incompatible.
      And because you require left and right, we can conclude that your
      requirements are unsatisfiable.
"""
REFUSED = """\
error: No solution found when resolving dependencies
  cause: Because requests was not found in the package registry and you require requests, we can \
conclude that your requirements are unsatisfiable.

hint: An index URL (http://ada:canary@index.example/simple) could not be queried due to a lack of \
valid authentication credentials (401 Unauthorized)
"""
NO_NAME = """\
error: Failed to fetch: http://ada:canary@index.example/simple/requests/
  cause: error sending request for url (http://ada:canary@index.example/simple/requests/)
  cause: client error (Connect)
  cause: dns error
  cause: failed to lookup address information: Name or service not known
"""
DOWN = """\
error: Request failed after 1 retry in 1.7s
  cause: Failed to fetch: http://index.example/simple/requests/
  cause: HTTP status server error (503 Service Unavailable) for url (http://index.example/simple/)
"""
PYTHON = """\
  \xd7 No solution found when resolving dependencies:
  ╰─▶ Because the requested Python version (>=3.11.0) does not satisfy Python>=3.12 and
      modern==1.0 depends on Python>=3.12, we can conclude that modern==1.0 cannot be used.
      And because you require modern==1.0, we can conclude that your requirements are
      unsatisfiable.
"""
UNBUILT = """\
error: Failed to build `old-thing==0.1`
  cause: The build backend returned an error
  cause: Call to `setuptools.build_meta:__legacy__.build_wheel` failed (exit status: 1)

         [stderr]
         fatal error: Python.h: No such file or directory
"""


def a_target(*lines: str, **kept: str) -> Target:
    places = tuple(Place(file="r.txt", line=n) for n in range(1, len(lines) + 1))
    wanted = Requirements(lines=lines, places=places, source="r.txt")
    return Target(requirements=wanted, python="3.11", machine="x86_64", kept=kept)


@pytest.mark.parametrize(
    ("text", "lines", "at", "told"),
    [
        (SKLEARN, ("numpy", "sklearn"), [2], "The module `sklearn` comes with the package `scikit"),
        (OLD_NUMPY, ("torch", "numpy<1.20"), [2], "no versions fit together: all of: numpy<=1.9.3"),
        (DRAWN, ("left", "plain", "Right>=1"), [1, 3], "left depend on deep<2. And because right"),
        (
            PYTHON,
            ("modern==1.0",),
            [1],
            "should fit Python 3.11, found a package for Python >=3.12",
        ),
        (UNBUILT, ("plain", "Old_Thing"), [2], "Python.h: No such file"),
    ],
)
def test_a_fault_of_the_lines_is_told_at_them(
    text: str, lines: tuple[str, ...], at: list[int], told: str
) -> None:
    error = failure(text, a_target(*lines))
    assert isinstance(error, UserError)
    assert [fault.line for fault in error.faults] == at
    assert told in error.faults[0].message
    assert "conclude" not in str(error)
    assert ". And because you require" not in str(error)  # its end would be missing


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (REFUSED, "refuses the job's credentials (401 Unauthorized)"),
        (NO_NAME, "its name is not known to DNS"),
        (DOWN, "it answers 503 Service Unavailable"),
        ("error: something new", "could not be locked: something new"),
        ("", "uv gave no reason"),
    ],
)
def test_a_fault_of_the_index_is_told_without_its_address(text: str, told: str) -> None:
    error = failure(text, a_target("requests"))
    assert isinstance(error, BuildFailed)
    assert told in str(error)
    assert "canary" not in str(error)
    assert "index.example" not in str(error)


def test_a_package_that_only_the_spec_names_is_told_without_a_line() -> None:
    wanted = Requirements(lines=("sklearn",), places=(None,))
    target = Target(requirements=wanted, python="3.11", machine="x86_64", kept={})
    error = failure(SKLEARN, target)
    assert isinstance(error, UserError)
    assert error.faults == ()
    assert str(error).startswith("image/packages: should be a package with a wheel")


def test_the_base_is_named_where_it_stands_in_the_way() -> None:
    text = DRAWN.replace("deep", "torch")
    assert "The base brings torch 2.6.0 and keeps it" in str(
        failure(text, a_target("left", torch="2.6.0"))
    )


@given(st.text())
def test_no_text_is_too_strange_or_too_long(text: str) -> None:
    for start in ("", "error: No solution found\n  cause: Because "):
        assert len(str(failure(start + text * 20, a_target("a")))) < LONGEST + 600
