"""The mutation gate: each mistake still fits the code, and is found by a history."""

from __future__ import annotations

import pytest

from tests.simulation import engine_stories, gate, judging
from tests.simulation.mutated import Stale, checked, replaced, seeds_of, weather_of
from tests.simulation.mutations import ENGINE, HUB, MUTATIONS, Edit, Mutation

TOLD = [one for one in MUTATIONS if one.world == "engine" and one.story]


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
    one = gate.told(mutation)
    assert one.said, f"no history shows it: {one.errors}"


@pytest.mark.parametrize("mutation", TOLD, ids=lambda one: one.name)
def test_nothing_is_said_of_the_same_history_without_the_mistake(mutation: Mutation) -> None:
    for seed in mutation.seeds or (0,):
        assert judging.engine_story(mutation.story, seed) == []


@pytest.mark.parametrize("mutation", [one for one in HUB if one.plan], ids=lambda one: one.name)
def test_nothing_is_said_of_the_same_fault_of_github_without_the_mistake(
    mutation: Mutation,
) -> None:
    # Those without a fault are the stories of test_hub.
    assert judging.calm_story(mutation.story, mutation.plan, weather_of(mutation)) == []


def test_each_written_history_is_lived_through_for_some_mistake() -> None:
    assert {one.story for one in TOLD} == set(engine_stories.NAMES)


def test_the_table_goes_between_the_marks_of_a_page() -> None:
    page = "a\n<!-- mutations: begin -->\nold\n<!-- mutations: end -->\nb\n"
    one = gate.Told(mutation=ENGINE[0], said=("I6: less", "I10: more"), seeds=(3,))
    text = gate.table([gate.row(one)])
    assert "| `dies_ordering`, seed 3 | I10, I6 |" in text
    new = gate.put(page, text)
    assert new == page.replace("old", text)
    assert gate.put(new, text) == new
    with pytest.raises(ValueError, match="mutations: begin"):
        gate.put("a page without marks", text)
