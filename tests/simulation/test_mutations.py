"""The mutation gate: each mistake still fits the code, and is found by a history."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.mutated import Stale, checked, replaced, seeds_of
from tests.simulation.mutations import ENGINE, HUB, MUTATIONS, Edit, Mutation

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 600  # three workers share two cores: a history of a second may take many
SEARCH = 200  # once a known seed shows nothing any more


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda one: one.name)
def test_a_mutation_fits_the_code_as_it_is(mutation: Mutation) -> None:
    checked(mutation)


def test_a_text_that_is_gone_or_there_twice_is_told_of() -> None:
    edit = Edit(module="m", old="a", new="b")
    assert replaced("xay", [edit]) == "xby"
    for source in ("x", "aa"):
        with pytest.raises(Stale, match="should have the text once"):
            replaced(source, [edit])


def test_the_known_seeds_come_first_and_none_twice() -> None:
    mutation = Mutation(name="m", edits=(), seeds=(7, 2))
    assert list(seeds_of(mutation, 0, 4)) == [7, 2, 0, 1, 3]


def test_the_sixteen_are_there() -> None:
    of_github = {"delivery id is all that is once", "fire-and-forget check", "ack first"}
    names = {one.name for one in ENGINE} | of_github
    assert len(names) == 16
    assert of_github <= {one.name for one in HUB}


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda one: one.name)
def test_a_mutation_is_found(mutation: Mutation) -> None:
    words = [sys.executable, "-m", "tests.simulation.mutated", mutation.name]
    done = subprocess.run(
        [*words, "--search", str(SEARCH)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, f"no history shows it: {done.stdout} {done.stderr[-2000:]}"
    assert json.loads(done.stdout.splitlines()[-1])["said"]
