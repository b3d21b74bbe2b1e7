"""A run that stands on data succeeds whatever becomes of the look-up."""

from __future__ import annotations

import pytest

from tests.simulation.fates import Fate, Plan
from tests.simulation.oracles import runs, violations
from tests.simulation.scenario import Wanted, plain
from tests.simulation.worlds import lived
from webhook_server.runs.model import Outcome

READING = (Wanted(id="arun00000001", at=0.0, data=True),)


@pytest.mark.parametrize("fate", [fate for fate in Fate if fate is not Fate.LATE])
def test_a_look_up_may_fail_be_lost_or_die_with_its_server(fate: Fate) -> None:
    ended = lived(plain(Plan(nth=0, fate=fate, of="hub.pin", times=2), wanted=READING))
    [run] = runs(ended).values()
    assert violations(ended) == []
    assert run.outcome is Outcome.SUCCEEDED
    looked = [one.fate for one in ended.record.log if one.kind == "hub.pin"]
    assert looked == ([Fate.OK] if fate is Fate.OK else [fate, fate, Fate.OK])
