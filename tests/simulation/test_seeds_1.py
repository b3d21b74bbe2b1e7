"""A share of the seeds that every change lives through; the others hand out the rest."""

from __future__ import annotations

from tests.simulation.shares import keeps_the_promises


def test_every_history_keeps_the_promises() -> None:
    keeps_the_promises(1)
