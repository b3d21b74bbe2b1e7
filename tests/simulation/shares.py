"""Hand out the seeds of CI in shares: a file is one worker's, and four are lived at a time."""

from __future__ import annotations

import os

from tests.simulation.batch import simulate

SHARES = 4
#: Histories of each share. 10,000 in all take some six minutes of a core, and reach every mark.
NUMBER = int(os.environ.get("HISTORIES", "2500"))
#: So many histories reach every mark, but for one that five to ten of 10,000 do.
ENOUGH = 2500
SELDOM = {"warm_taken"}


def keeps_the_promises(share: int) -> None:
    """Live through a share of the seeds. Raises: AssertionError with how to replay what failed."""
    first = (share - 1) * NUMBER
    batch = simulate(range(first, first + NUMBER))
    told = [
        f"{one.invariant} {one.text}: python -m tests.simulation --seed {seed} --mode {mode}"
        for seed, mode, one in batch.violations
    ]
    assert not told, "\n".join(told)
    assert batch.faults.total() > NUMBER, "faults are injected"
    if NUMBER >= ENOUGH:
        assert set(batch.missed) <= SELDOM, "a batch that never reaches a mark proves little"
