"""Histories of one run that are written down: each brings about what chance brings too seldom.

The code as it is lives through all of them well; each is there for a mistake that it would show.
"""

from __future__ import annotations

from dataclasses import replace

from tests.simulation.fates import Fate, Plan
from tests.simulation.scenario import LONGEST_PAUSE_S, Scenario, Wanted, plain

_RUN = "arun00000001"
_FIRST = f"cynthus-{_RUN}-1"  # its first attempt's instance
_LATE_S = 118.0  # nearly the latest that an effect may come
_NOBODY = 40  # calls in a row that are lost: some minutes


def _dies_ordering() -> Scenario:
    """Let the server die when it saves its order; before it is back, the run is cancelled."""
    return plain(
        Plan(of="RunStore.save", nth=1, fate=Fate.CRASH_BEFORE),
        wanted=(Wanted(id=_RUN, at=1.0, cancel_at=5.0),),
    )


def _late_create() -> Scenario:
    """Cancel while a create is under way that takes effect two minutes late."""
    return plain(
        Plan(of="cloud.create", nth=0, fate=Fate.LATE, late_s=_LATE_S),
        wanted=(Wanted(id=_RUN, at=1.0, cancel_at=5.0),),
    )


def _late_last_create() -> Scenario:
    """Lose each create; the last one before the cancelling takes effect two minutes late."""
    return plain(
        Plan(of="cloud.create", nth=0, fate=Fate.REQUEST_LOST, times=_LAST_CREATE),
        more=(Plan(of="cloud.create", nth=_LAST_CREATE, fate=Fate.LATE, late_s=_LATE_S),),
        wanted=(Wanted(id=_RUN, at=1.0, cancel_at=175.0),),
    )


def _late_beat() -> Scenario:
    """Deliver a beat again when its attempt has long been closed."""
    return plain(Plan(of="agent.beat", nth=1, fate=Fate.LATE, late_s=_LATE_S))


def _late_exit() -> Scenario:
    """Hear of the command's good end when the run is cancelled, and nothing in between."""
    return plain(
        Plan(of="agent.beat", nth=2, fate=Fate.LATE, late_s=_LATE_S),
        more=(Plan(of="agent.beat", nth=3, fate=Fate.REQUEST_LOST, times=_NOBODY),),
        wanted=(Wanted(id=_RUN, at=1.0, cancel_at=10.0),),
    )


def _half_a_gang() -> Scenario:
    """Take one of two instances back; the other is cut off, executes on, and is deleted late."""
    other = f"{_FIRST}-1"
    return plain(
        Plan(of=f"cloud.delete {other}", nth=0, fate=Fate.REFUSED, times=6),
        more=(Plan(of=f"agent.beat {other}", nth=5, fate=Fate.REQUEST_LOST, times=_NOBODY),),
        wanted=(Wanted(id=_RUN, at=1.0, nodes=2),),
        notices=((30.0, f"{_FIRST}-0"),),
        works_s=(200.0,),
    )


def _sleeps_over_its_claim() -> Scenario:
    """Pause a replica in the middle of its order, until the other has ended the run."""
    return plain(
        replicas=2,
        wanted=(Wanted(id=_RUN, at=1.0, cancel_at=10.0),),
        naps=((1.2, "r1", LONGEST_PAUSE_S),),
    )


def _sleeps_within_its_questions() -> Scenario:
    """Let the replica sleep most of the time while it gives its instance back."""
    return plain(
        wanted=(Wanted(id=_RUN, at=1.0),),
        naps=tuple((at, "r1", 20.0) for at in range(25, 160, 21)),
    )


def _kept_and_ordered_twice() -> Scenario:
    """Lose both answers to an order: one takes effect late, the other once that was given back."""
    return plain(
        Plan(of="cloud.create", nth=0, fate=Fate.LATE, late_s=50.0),
        more=(Plan(of="cloud.create", nth=1, fate=Fate.LATE, late_s=_LATE_S),),
        wanted=(Wanted(id=_RUN, at=1.0, warm_s=35.0),),
    )


_LAST_CREATE = 6
_STORIES = {
    "dies_ordering": _dies_ordering,
    "late_create": _late_create,
    "late_last_create": _late_last_create,
    "late_beat": _late_beat,
    "late_exit": _late_exit,
    "half_a_gang": _half_a_gang,
    "sleeps_over_its_claim": _sleeps_over_its_claim,
    "kept_and_ordered_twice": _kept_and_ordered_twice,
    "sleeps_within_its_questions": _sleeps_within_its_questions,
}
NAMES = tuple(_STORIES)


def story(name: str, seed: int = 0) -> Scenario:
    """Return a story; the seed draws how long everything takes."""
    return replace(_STORIES[name](), seed=seed)
