"""How webhooks fare on their way, drawn for a history."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Weather:
    """How deliveries fare in a history: each is a share of them."""

    lost: float = 0.0
    late: float = 0.0
    twice: float = 0.0
    crowd: float = 0.0  # twenty times at once
    replayed: float = 0.0  # under a new id
    misnamed: float = 0.0  # under another event's name


def weather_of(chance: random.Random) -> Weather:
    """Draw a history's weather: a third of the kinds is on, each at its own rate."""

    def rate(most: float) -> float:
        return chance.random() * most if chance.random() < 0.33 else 0.0

    return Weather(
        lost=rate(0.5),
        late=rate(0.8),
        twice=rate(0.6),
        crowd=rate(0.15),
        replayed=rate(0.5),
        misnamed=rate(0.5),
    )
