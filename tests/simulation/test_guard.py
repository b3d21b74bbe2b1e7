"""What the server takes by itself of time, chance and threads is noticed; it takes none."""

from __future__ import annotations

import types

import pytest

from tests.simulation.guard import Leak, guarded, watched
from tests.simulation.scenario import drawn
from tests.simulation.worlds import lived

#: A module of the server that leaks in every way.
_LEAKING = """
import os, random, secrets, threading, time, uuid
from datetime import datetime
from time import monotonic
leaks = {
    "time": time.time,
    "monotonic": monotonic,
    "sleep": lambda: time.sleep(0),
    "uniform": lambda: random.uniform(0, 1),
    "urandom": lambda: os.urandom(1),
    "uuid4": uuid.uuid4,
    "token_hex": secrets.token_hex,
    "start": lambda: threading.Thread(target=print).start(),
    "now": datetime.now,
}
def take(name):
    return leaks[name]()
def clock():
    return datetime.now()
"""


def a_module(name: str) -> types.ModuleType:
    made = types.ModuleType(name)
    exec(compile(_LEAKING, name, "exec"), vars(made))
    return made


@pytest.mark.parametrize(
    "name", ["sleep", "uniform", "urandom", "start"], ids=["time", "chance", "bytes", "thread"]
)
def test_a_leak_of_the_server_raises(name: str) -> None:
    leaking = a_module("webhook_server.leaking")
    with guarded(), pytest.raises(Leak, match=r"webhook_server\.leaking takes"):
        leaking.take(name)


def test_others_may_take_what_they_like() -> None:
    other = a_module("elsewhere")
    with guarded():
        assert other.take("uniform") < 1
    assert a_module("webhook_server.later").take("uniform") < 1, "the guard is over"


def test_a_clock_that_cannot_be_replaced_is_watched() -> None:
    leaking = a_module("webhook_server.leaking")
    with watched() as leaks:
        leaking.clock()
    assert leaks == ["webhook_server.leaking calls datetime.now"]


@pytest.mark.parametrize("seed", [1, 2])
def test_the_server_takes_no_time_and_no_chance_by_itself(seed: int) -> None:
    with watched() as leaks:
        lived(drawn(seed))
    assert leaks == []
