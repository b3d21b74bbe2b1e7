"""Histories with GitHub: people, webhooks, replicas, cloud; every oracle is silent about them."""

from __future__ import annotations

import pytest

from tests.simulation.fates import Fate, Plan
from tests.simulation.hub import HubHistory
from tests.simulation.hub_scenario import STORIES, calm, drawn_with_github
from tests.simulation.judging import with_github
from tests.simulation.weather import Weather
from tests.simulation.worlds import the_store

#: Each is lived through in about half a second of a core; `make simulate GITHUB=1`
#: goes through as many as one has time for.
SEEDS = tuple(range(8))
WORST = Weather(twice=1.0, crowd=1.0, replayed=1.0, misnamed=1.0, late=1.0)
#: What a story begins when all is well: triggers of its runs, without their numbers.
BEGUN = {
    "push": ["push"],
    "push_twice": ["push", "push"],
    "push_and_submit_late": ["push"],
    "ask_to_run": ["comment"],
    "ask_without_the_right": ["comment"],
    "ask_in_foreign_words": [],
    "ask_and_cancel": ["comment", "comment"],
    "approve_without_looking": [],
    "press_cancel": ["push"],
    "press_again": ["push", "rerun"],
    "close": ["comment"],
}


@pytest.mark.parametrize("story", STORIES)
def test_a_story_ends_well_and_nothing_is_said_of_it(story: str) -> None:
    history = HubHistory(calm(story, has_outputs=True), the_store())
    ended, said = lived(history)
    assert said == []
    assert ended
    if story in BEGUN:
        rows = history.store.rows('SELECT "trigger" FROM runs ORDER BY seq')
        assert [trigger.partition("/")[0] for (trigger,) in rows] == BEGUN[story]


def lived(history: HubHistory) -> tuple[bool, list[str]]:
    """Let a history live; return whether it came to its end, and what is said of it."""
    from tests.simulation.judging import judged

    ended = history.live()
    return ended.is_over, judged(history, ended)


@pytest.mark.parametrize("story", ["push", "ask_and_cancel", "press_again"])
def test_deliveries_that_come_twenty_times_late_and_under_other_names_begin_no_more(
    story: str,
) -> None:
    history = HubHistory(calm(story, weather=WORST), the_store())
    is_over, said = lived(history)
    assert (is_over, said) == (True, [])
    rows = history.store.rows('SELECT "trigger" FROM runs ORDER BY seq')
    assert 0 < len(rows) <= len(BEGUN[story])  # what comes too late is declined


@pytest.mark.parametrize("fate", [Fate.REFUSED, Fate.LATE])
@pytest.mark.parametrize(
    "of", ["github.POST check-runs", "github.PATCH check-runs/{}", "github.POST releases"]
)
def test_one_fault_of_github_changes_nothing_of_how_it_ends(of: str, fate: Fate) -> None:
    plan = Plan(nth=0, fate=fate, of=of)
    assert lived(HubHistory(calm("push", has_outputs=True, plan=plan), the_store())) == (True, [])


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_said_of_a_drawn_history(seed: int) -> None:
    ended, said = with_github(drawn_with_github(seed))
    assert (ended.is_over, said) == (True, [])


def test_the_same_seed_is_the_same_history() -> None:
    first, second = (with_github(drawn_with_github(3))[0] for _ in range(2))
    assert first.record.digest() == second.record.digest()
