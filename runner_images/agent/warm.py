"""Ask for the next work after an attempt is done, while the machine is kept warm."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from cynthus.codec import decode, encode
from cynthus.errors import UserError
from cynthus.wire import Enrolled, NextWork
from runner_images.agent.door import Door, TurnedAway, Unanswered

SILENCE_LIMIT_S = 900.0  # a server that is away for so long gives the machine back itself


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """Who asks, and how patiently."""

    message: NextWork
    keep_warm_s: float
    beat_s: float
    clock: Callable[[], float]


def next_work(door: Door, waiting: Waiting, over: threading.Event) -> Enrolled | None:
    """Ask until there is work; None: the machine is given back, or nobody answers any more.

    The server decides when the waiting ends; only its silence ends it here.
    """
    began = heard_at = waiting.clock()
    while not over.is_set():
        try:
            answer = door.post("agent/v1/next", encode(waiting.message))
            if answer is not None:
                return decode(Enrolled, answer, "next")
            heard_at = waiting.clock()
        except (TurnedAway, UserError):  # 410: given back; anything else is no work either
            return None
        except Unanswered:
            now = waiting.clock()
            if now - began > waiting.keep_warm_s and now - heard_at > SILENCE_LIMIT_S:
                return None
        over.wait(waiting.beat_s)
    return None
