"""What is left of a history: data, for oracles and marks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.simulation.record import Record
from tests.simulation.scenario import Mode, Scenario
from webhook_server.stores.shared_clock import LONGEST_LOOK_S


@dataclass(frozen=True, kw_only=True, eq=False)  # by identity: what is read of it is kept
class Ended:
    """A history's log, and its database as it was at the end and as it saw itself before."""

    scenario: Scenario
    record: Record
    rows: Mapping[str, list[tuple[Any, ...]]]
    ended_at: float  # virtual seconds
    calls: int = 0
    injected: int = 0
    faults: tuple[BaseException, ...] = ()  # of the simulation itself
    is_over: bool = True  # everything came to its end

    @property
    def heals(self) -> bool:
        """Say whether everything had to come to its end."""
        return self.scenario.mode is Mode.LIVENESS and self.scenario.dies_at is None

    @property
    def clock_s(self) -> float:
        """Return by how much what replicas believe may differ from the true time."""
        return LONGEST_LOOK_S / 2
