"""The exhaustive sweep: one successful run, and each of its calls with each fate it may have.

`python -m tests.simulation.every_call` goes through all; the tests leave out what another plan
cannot be told from.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator

from tests.simulation.fates import Fate, Plan
from tests.simulation.oracles import runs, violations
from tests.simulation.record import Happened
from tests.simulation.scenario import plain
from tests.simulation.worlds import lived
from webhook_server.runs.model import Outcome, State

#: Of a read a lost answer is as good as a refusal, and a death after it as one before.
_READ = (Fate.REFUSED, Fate.CRASH_BEFORE)
_WRITE = (
    Fate.REFUSED,
    Fate.REQUEST_LOST,
    Fate.ANSWER_LOST,
    Fate.CRASH_BEFORE,
    Fate.CRASH_AFTER,
)
_AGENT = (Fate.REFUSED, Fate.ANSWER_LOST, Fate.LATE)


def calls() -> list[Happened]:
    """Return the calls of a run that nothing happened to, in their order."""
    return [one for one in lived(plain()).record.log if one.fate]


def fates_of(kind: str) -> tuple[Fate, ...]:
    """Return what may become of a call of that kind, without what cannot be told apart."""
    if kind == "db.read":
        return _READ
    if kind == "db.write":
        return _WRITE
    return _AGENT if kind.startswith("agent.") else tuple(Fate)[1:]


def differs(kind: str, fate: Fate) -> bool:
    """Say whether a plan may end otherwise than every other one does, but for a moment's delay.

    A server that is killed before a call has changed as little as one that is killed after the
    effect before it: nothing else of it remains, and reads have no effects. So deaths before calls
    of the cloud are lived through only to see that this is so. A write that is lost on its way is
    told to its caller by the same words as one that is refused.
    """
    if fate is Fate.CRASH_BEFORE:
        return kind.startswith("cloud.")
    return (kind, fate) != ("db.write", Fate.REQUEST_LOST)


def plans(wanted: Callable[[str, Fate], bool]) -> Iterator[tuple[str, Plan]]:
    """Return every call's kind with each fate that it may have and that is wanted."""
    for one in calls():
        for fate in fates_of(one.kind):
            if wanted(one.kind, fate):
                yield one.kind, Plan(nth=one.nth, fate=fate)


def failures(fates: Collection[Fate]) -> list[str]:
    """Return what went wrong with which plan, of those with these fates that differ."""
    chosen = plans(lambda kind, fate: fate in fates and differs(kind, fate))
    return [text for _, plan in chosen for text in faults_of(plan)]


def faults_of(plan: Plan) -> list[str]:
    """Return what went wrong; the run succeeds whatever its one fault was."""
    ended = lived(plain(plan))
    found = [f"{plan}: {one.invariant} {one.text}" for one in violations(ended)]
    found += [
        f"{plan}: {run.state} {run.outcome} {run.reason.text}"
        for run in runs(ended).values()
        if (run.state, run.outcome) != (State.FINISHED, Outcome.SUCCEEDED)
    ]
    if ended.injected != 1:
        found.append(f"{plan}: struck {ended.injected} times")
    return found


def main() -> int:
    """Live through all plans and print how many there were of each kind; 1: one went wrong."""
    counts: Counter[str] = Counter()
    bad, began_s = 0, time.process_time()
    for kind, plan in plans(lambda _kind, _fate: True):
        counts[f"{kind} {plan.fate}"] += 1
        for text in faults_of(plan):
            bad += 1
            print(text, flush=True)
    for name, count in sorted(counts.items()):
        print(f"  {name:28} {count}")
    print(f"{counts.total()} plans, {bad} bad, {time.process_time() - began_s:.0f} s of a core")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
